"""`inspect_batch`: what a batch was taken for, what is wrong with it, and how it looks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of
from sftviz.inspection import picture, report
from sftviz.inspection.batch import Hints, NormalBatch
from sftviz.inspection.checks.find import Finding, Subject, find
from sftviz.inspection.checks.finding import MOST_PLACES
from sftviz.inspection.formats.read import PLACES, read_batch
from sftviz.inspection.judgement import Judgement
from sftviz.label_log_probs import IGNORE_INDEX, label_log_probs
from sftviz.rows import log_prob_rows
from sftviz.token_texts import check_tokenizer, special_ids
from sftviz.validate import brief, check_constant, check_count, check_floating, place
from sftviz.views.parts import WIDTH


class Inspection(Judgement):
    """A batch that was inspected: a value that prints and shows itself. See `Judgement`."""

    @cached_property
    def drawing(self) -> Drawing:
        """The picture of the inspection: its findings, and the whole batch."""
        return self.draw()

    def draw(
        self,
        width: int = WIDTH,
        columns: int | range | slice | None = None,
        rows: int | range | slice | None = None,
    ) -> Drawing:
        """The picture in another width in cells, or with another part of the batch in its table.

        Args:
            width: 48 or more.
            columns: the first column of the table, counted from 0, or all of its columns. None: at
                the first finding, or where tokens count.
            rows: likewise.

        Raises:
            TypeError, ValueError: there is no such column or row, or the width is too small.
        """
        return picture.draw(self, width, columns, rows)

    def save(self, path: str | Path) -> Path:
        """Write a report as one `.html` file that needs no network, or the picture as `.svg`,
        `.png`, `.pdf` or `.txt`.

        Raises:
            ValueError: the ending is none of these.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending == ".html":
            path.write_text(report.write(self), encoding="utf-8")
            return path
        if ending not in (".svg", ".png", ".pdf", ".txt"):
            said = repr(ending) if ending else "a file without ending"
            raise ValueError(
                f"an inspection can't be saved as {said}: "
                "give a path that ends in .html, .svg, .png, .pdf or .txt."
            )
        return self.drawing.save(path)

    def __repr__(self) -> str:
        return str(self.drawing)

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return self.drawing._repr_mimebundle_()


def inspect_batch(
    batch: object,
    tokenizer: object = None,
    *,
    logits: Tensor | None = None,
    log_probs: Tensor | None = None,
    gradient_accumulation_steps: int | None = None,
    normalize_constant: float | None = None,
    window: Sequence[object] = (),
    accept: Sequence[str] = (),
    needs_grad: bool = True,
    redact: bool = False,
    shifted: bool | None = None,
    mask_about: Literal["token", "label"] | None = None,
    mask_marks: Literal["counted", "masked"] | None = None,
    ignore_index: int | None = None,
    pad_token_id: int | None = None,
    eos_token_id: int | None = None,
    vocab_size: int | None = None,
) -> Inspection:
    """Say what a batch is, what is wrong with it, and show it.

    Nothing that is given is changed. Tensors stay on their device, except for what is shown.

    Args:
        batch: what a training loop gets from its collator: a mapping of tensors, arrays or lists,
            or an object with such attributes; one row or many. Also the arguments of the step,
            `policy_log_probs` and `response_mask`.
        tokenizer: shows ids as text, and knows which tokens are special: one of transformers,
            tokenizers, sentencepiece or tiktoken, a dictionary, or a list of strings.
        logits: (B, L, V), the output of a model for all L columns of the batch, or for those that
            predict a label.
        log_probs: likewise (B, L), instead of logits.
        gradient_accumulation_steps: int G >= 1, if the gradient is to be judged too.
        normalize_constant: the c of the step; None: 1.
        window: all microbatches of an optimizer step, to compare how many tokens count in each.
        accept: names of findings that are meant to be so, such as "everything counts" of a batch
            for pretraining. They are left out.
        needs_grad: whether log-probs must require grad, as before a step. False: they are from a
            file, or from an evaluation.
        redact: keep only shapes, counts and places: no text, no ids, no log-probs.
        shifted: whether labels are those of the next column already. None, here and below: this is
            found out.
        mask_about: whether column c of a mask is about the "token" or the "label" there.
        mask_marks: whether a 1 in a mask is a "counted" or a "masked" token.
        ignore_index: the label of tokens that do not count.
        pad_token_id, eos_token_id, vocab_size: if the tokenizer does not know them.

    Raises:
        TypeError, ValueError: there is nothing in it that can be read as a batch.

    Example:
        >>> inspection = inspect_batch(
        ...     {"input_ids": [[5, 6, 7, 2]], "labels": [[-100, -100, 7, 2]]}, eos_token_id=2
        ... )
        >>> inspection.num_tokens, inspection.ok
        (2, True)
        >>> inspection.response_mask.int().tolist()
        [[0, 1, 1]]
    """
    G = _member(batch, "gradient_accumulation_steps", gradient_accumulation_steps)
    c = _member(batch, "normalize_constant", normalize_constant)
    c = 1.0 if c is None else c
    if G is not None:
        check_count("gradient_accumulation_steps", G, "it is the number of microbatches")
    check_constant(c)
    check_tokenizer(tokenizer)
    for name, value in (("window", window), ("accept", accept)):
        if isinstance(value, str | Mapping | Tensor) or not isinstance(value, Sequence):
            raise TypeError(f"{name} must be a list, got {type(value).__name__} {brief(value)}.")
    pad, end, size = special_ids(tokenizer)
    if size is None and isinstance(logits, Tensor) and logits.ndim:
        size = logits.shape[-1]
    hints = Hints(
        shifted=shifted,
        mask_about=mask_about,
        mask_marks=mask_marks,
        ignore_index=ignore_index,
        pad_token_id=pad if pad_token_id is None else pad_token_id,
        eos_token_id=end if eos_token_id is None else eos_token_id,
        vocab_size=size if vocab_size is None else vocab_size,
    )
    with _no_quotes() if redact else nullcontext():
        reading = read_batch(batch, hints)
        if log_probs is None:
            log_probs = reading.log_probs
        aligned = _aligned(reading.batch, logits, log_probs)
        weights = tuple(read_batch(each, hints).batch.weights for each in window)
    counts = tuple(int((each != 0).sum()) for each in weights)
    found = find(Subject(reading, hints, aligned, G, c, counts, needs_grad))
    findings = tuple(finding for finding in found if finding.name not in accept)
    known = {
        "gradient_accumulation_steps": G,
        "normalize_constant": c,
        "window": weights,
        "not_checked": _not_checked(reading.batch, hints),
    }
    if redact:
        mask = NormalBatch(reading.batch.response_mask.double())
        known["window"] = tuple((each != 0).double() for each in weights)
        hidden = tuple(map(_redacted, findings))
        evidence = tuple(sentence for sentence in reading.evidence if sentence == PLACES)
        return Inspection(reading.format, evidence, mask, hidden, **known)
    known |= {"log_probs": None if aligned is None else aligned.detach(), "tokenizer": tokenizer}
    return Inspection(reading.format, reading.evidence, reading.batch, findings, **known)


def _not_checked(batch: NormalBatch, hints: Hints) -> str:
    """What nothing could be said about, in a sentence."""
    if batch.tokens is None or hints.eos_token_id is not None:
        return ""
    return (
        "Not checked: whether responses end with an end token, because nothing says which one that "
        "is. Pass a tokenizer, or eos_token_id."
    )


def _member(batch: object, name: str, given: object) -> object:
    """What was given, or else what the batch has under a name."""
    if given is not None:
        return given
    return batch.get(name) if isinstance(batch, Mapping) else getattr(batch, name, None)


def _aligned(batch: NormalBatch, logits: object, log_probs: object) -> Tensor | None:
    """The log-probs of the labels, (B, S), with their graph."""
    if logits is not None:
        return _scored(batch, logits)
    if log_probs is None:
        return None
    if not isinstance(log_probs, Tensor):
        log_probs = log_prob_rows("log_probs", log_probs)
    check_floating("log_probs", log_probs, "pass log-probabilities, not token ids")
    return _fit("log_probs", log_probs[None] if log_probs.ndim == 1 else log_probs, batch, 2)


def _scored(batch: NormalBatch, logits: object) -> Tensor:
    check_floating("logits", logits, "pass the scores that the model computed")
    logits = _fit("logits", logits[None] if logits.ndim == 2 else logits, batch, 3)  # (B, S, V)
    labels = batch.known_labels
    if labels is None:
        raise ValueError(
            "logits need labels, and the batch has none: pass log_probs, or give the batch its "
            "labels or input_ids."
        )
    is_known = (labels >= 0) & (labels < logits.shape[-1])
    return label_log_probs(logits, labels.where(is_known, IGNORE_INDEX))


def _fit(name: str, values: Tensor, batch: NormalBatch, ndim: int) -> Tensor:
    """The columns of values that predict a label."""
    B, S = batch.weights.shape
    shape = tuple(values.shape)
    if values.ndim != ndim or shape[:2] not in ((B, S), (B, S + 1)):
        raise ValueError(
            f"{name} has shape {shape}, but the batch has {count_of(B, 'row')} and "
            f"{count_of(S, 'column')} with a label: give one entry for each of these, or for each "
            "token."
        )
    if values.device != batch.weights.device:
        raise ValueError(
            f"{name} is on {values.device} but the batch is on {batch.weights.device}: "
            "move one of them to the other's device."
        )
    # At the last token nothing is predicted. A slice is not a leaf: the gradient would be lost.
    return values if shape[1] == S else values[:, :S]


@contextmanager
def _no_quotes() -> Iterator[None]:
    """Errors quote names and values of a batch; here they do not."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(
            "the batch can't be read, and redact=True hides what is wrong in it: inspect it "
            "without that where its content may be seen."
        ) from None


def _redacted(finding: Finding) -> Finding:
    """A finding without anything of the batch's content."""
    message = "This is about the whole batch."
    if finding.places:
        count = count_of(len(finding.places), "place")
        more = " or more" if len(finding.places) == MOST_PLACES else ""
        message = f"{count}{more}, the first: {place(*finding.places[0])}."
    return replace(finding, message=message)
