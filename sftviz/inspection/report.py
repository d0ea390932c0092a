"""An inspection as one HTML file: its findings, its picture, and every token of the batch.

The page has no script and loads nothing: its policy forbids both, because the text of a batch can
be anything. It is light or dark as the reader's browser is.
"""

from collections.abc import Iterator
from functools import lru_cache
from html import escape
from itertools import groupby

from sftviz.drawing import svg
from sftviz.drawing.formatting import count_of, token_label
from sftviz.drawing.theme import paint
from sftviz.inspection import picture
from sftviz.inspection.checks.find import Finding
from sftviz.inspection.judgement import Judgement
from sftviz.token_texts import token_texts
from sftviz.validate import place
from sftviz.views.parts import WIDTH

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PLACES = 20  # of a finding
_LONGEST = 40  # cells, of one token


def write(judgement: Judgement) -> str:
    """The page."""
    B, S = judgement.batch.weights.shape
    counts = f"{judgement.num_tokens:,} of {B * S:,} tokens count"
    batch, alt = picture.draw_batch(judgement, WIDTH), picture.describe(judgement)
    evidence = "".join(f"<li>{escape(sentence)}</li>" for sentence in judgement.evidence)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Inspection of a batch</title><style>{_style()}</style></head><body><main>"
        f"<h1>Inspection of a batch</h1><p>{count_of(B, 'row')} × {count_of(S, 'column')}; "
        f"{counts}. Taken for: {escape(judgement.format)}.</p><ul>{evidence}</ul>"
        f"<h2>Findings</h2>{_findings(judgement.findings)}<p>{escape(judgement.not_checked)}</p>"
        f'<h2>The batch</h2><div class="picture" role="img" aria-label="{escape(alt)}">'
        f"{svg.draw(batch, 'page')}</div>{''.join(_tokens(judgement))}"
        "</main></body></html>\n"
    )


def _findings(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return "<p>Nothing wrong was found.</p>"
    items = "".join(
        f'<li class="{finding.severity}"><h3>{finding.severity}: {escape(finding.name)}</h3>'
        f"<p>{escape(finding.message)}</p><p><b>To do:</b> {escape(finding.remedy)}</p>"
        f"{_places(finding)}</li>"
        for finding in findings
    )
    return f"<ol>{items}</ol>"  # the numbers are those in the picture


def _places(finding: Finding) -> str:
    if len(finding.places) < 2:
        return ""
    named = "; ".join(place(*each) for each in finding.places[:_PLACES])
    more = len(finding.places) - _PLACES
    return f"<p>At {named}{f'; and {more} more' if more > 0 else ''}.</p>"


def _tokens(judgement: Judgement) -> Iterator[str]:
    """Every label of the batch as text, those that count set off, those of a finding marked."""
    labels = judgement.batch.known_labels
    if labels is None:
        return
    texts = token_texts(judgement.tokenizer, labels)
    mask = judgement.response_mask.tolist()
    marked = {each for finding in judgement.findings for each in finding.places}
    yield (
        "<h2>Every token that is predicted</h2><p>Underlined: it counts. "
        "Grey: it is masked. <mark>Marked</mark>: a finding is about it.</p>"
    )
    for row, (line, counts) in enumerate(zip(texts, mask, strict=True)):
        flags = [(bit, (row, column) in marked) for column, bit in enumerate(counts)]
        yield f"<h3>row {row + 1}: {sum(counts)} of {len(counts)} count</h3><p class=row>"
        yield from _runs(line, flags)
        yield "</p>"


def _runs(texts: list[str], flags: list[tuple[bool, bool]]) -> Iterator[str]:
    """Tokens in one element each if they count, and in one for all if they do not."""
    for (counts, is_marked), run in groupby(zip(texts, flags, strict=True), lambda pair: pair[1]):
        words = [_label(text) for text, _ in run]
        tag = "mark" if is_marked else "u" if counts else "s"
        if counts or is_marked:
            yield "".join(f"<{tag}>{word}</{tag}> " for word in words)
        else:
            yield f"<s>{' '.join(words)}</s> "


@lru_cache(maxsize=2**16)
def _label(text: str) -> str:
    return escape(token_label(text, _LONGEST))


def _style() -> str:
    return (
        ":root{color-scheme:light dark}"
        "body{font:16px/1.5 system-ui,sans-serif;margin:0}"
        "main{max-width:62rem;margin:auto;padding:1rem}.picture{overflow-x:auto}"
        "ul,ol{padding-left:1.2rem}h3{font-size:1rem;margin:1rem 0 0}p{margin:.2rem 0}"
        ".row{font:14px/1.8 ui-monospace,monospace;overflow-wrap:anywhere}s,u{text-decoration:none}"
        f"{_theme('light')}@media (prefers-color-scheme:dark){{{_theme('dark')}}}"
    )


def _theme(mode: str) -> str:
    ground, ink, muted = (paint(tone, mode) for tone in ("card", "ink", "muted"))
    counted, marked = paint("response", mode), paint("scaled_loss", mode)
    return (
        f"body{{background:{ground.fill};color:{ink.ink}}}s{{color:{muted.ink}}}"
        f"u{{color:{counted.ink};background:{counted.fill};border-bottom:2px solid {counted.edge}}}"
        f"mark{{color:{marked.ink};background:{marked.fill};outline:1px solid {marked.edge}}}"
    )
