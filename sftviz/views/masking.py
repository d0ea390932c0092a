"""From the turns of a conversation to the tokens that get a gradient, as one linked picture."""

from collections.abc import Callable, Sequence
from itertools import groupby, islice
from textwrap import wrap

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number, text_width, token_label
from sftviz.drawing.scene import Align, Card, Cell, Column, Node, Row, Stack, Text, Trail
from sftviz.experiments.masks import MOST_TOKENS, Learned
from sftviz.masking import RIGHT, Masking, Position
from sftviz.views.grid import Columns, fit_columns
from sftviz.views.parts import FRAME, WIDTH, check_width

_NAMES = 16  # cells
_CELL = 9  # at least
_LONGEST = 12  # cells of a word
_MOST = 4  # words in a sentence
_ANSWERS = 4  # of a trained model


def masking_view(masking: Masking, width: int = WIDTH, learned: Learned | None = None) -> Drawing:
    """Draw what is read, what has to be predicted, what counts, and what gets a gradient.

    Where it differs from the right way, it says "lost" or "gained". If there is no room for all
    positions, those around the first response token are shown.

    Args:
        masking: of `build`.
        width: in cells, 48 or more.
        learned: of `learn`: what a model answers that was trained so. None: nothing was trained.

    Raises:
        TypeError, ValueError: the width is too small.
    """
    check_width(width)
    found = masking.positions
    names = _NAMES if width > 60 else 0  # on a narrow page they stand above the lines
    first = next((at for at, each in enumerate(found) if each.counts), 0)
    words = [token_label(text, _LONGEST) for each in found for text in (each.read, each.label)]
    columns = fit_columns(
        len(found),
        width - FRAME - names,
        lambda shown: map(text_width, words),
        narrowest=_CELL,
        first=max(0, first - 2),
    )
    page = _Page(masking, columns, names)
    sentences = list(_sentences(masking))
    notes = [Text(line, tone) for text, tone in sentences for line in wrap(text, width - FRAME)]
    cards: list[Node] = [Card(Column((*page.lines(), Text(""), *notes)))]
    alt = [text for text, _ in sentences]
    if learned is not None:
        cards.append(_answers(learned, width))
        alt.append(_measured(learned))
    return Drawing(Column(tuple(cards)), " ".join(alt))


class _Page:
    """The lines of the picture, one column for each position."""

    def __init__(self, masking: Masking, columns: Columns, names: int) -> None:
        self.masking, self.columns, self.names = masking, columns, names
        self.gained = set(masking.gained)
        learned_at = {at.place: c for c, at in enumerate(masking.positions) if at.is_next}
        self.lost = {learned_at[place] for place in masking.lost if place in learned_at}

    def lines(self) -> list[Node]:
        return [
            *(self.line("", "", numbers)[0] for numbers in self.columns.numbers()),
            *self.line("turns", "", self.turns()),
            *self.line("the model reads", "input_ids", self.cells("input_ids", self.read)),
            *self.line("", "", self.arrows()),
            *self.line("has to predict", "labels", self.cells("labels", self.label)),
            *self.line("counts", "response_mask", self.cells("response_mask", self.bit)),
            *self.line("", "", self.marks()),
            *self.line("gets a gradient", "grad", self.cells("grad", self.gradient)),
        ]

    def line(self, name: str, key: str, node: Node) -> list[Node]:
        label = Text(name, "muted", key or None)
        if not self.names:
            return [label, node] if name else [node]
        return [Row((Align(label, self.names), node))]

    def cells(self, field: str, look: Callable[[Position, int], tuple[str, str]]) -> Node:
        def cell(at: int) -> Cell:
            text, tone = look(self.masking.positions[at], at)
            return Cell(text, self.columns.cell, tone, f"{field}[0,{at}]")

        return self.columns.line(cell)

    def read(self, position: Position, at: int) -> tuple[str, str]:
        tone = "masked" if position.read_place is None else "entry"
        return token_label(position.read, self.columns.cell - 2), tone

    def label(self, position: Position, at: int) -> tuple[str, str]:
        tone = "response" if position.counts else "masked"
        return token_label(position.label, self.columns.cell - 2), tone

    def bit(self, position: Position, at: int) -> tuple[str, str]:
        if at in self.gained or at in self.lost:
            return str(int(position.counts)), "scaled_loss"
        return str(int(position.counts)), "response" if position.counts else "masked"

    def gradient(self, position: Position, at: int) -> tuple[str, str]:
        return number(self.masking.grad[at].item()), "gradient" if position.counts else "masked"

    def marks(self) -> Node:
        def mark(at: int) -> Node:
            text = "gained" if at in self.gained else "lost" if at in self.lost else ""
            return Align(
                Text(f"{text} " if text else "", "scaled_loss"), self.columns.cell, "right"
            )

        return self.columns.line(mark)

    def turns(self) -> Node:
        """One frame for each turn that is read."""

        def turn(at: int) -> str:
            place = self.masking.positions[at].read_place
            if place is None:
                return "padding"
            return "response" if self.masking.text.in_response[place] else "prompt"

        frames = []
        for name, places in groupby(self.columns.shown, key=turn):
            count = len(list(places))
            cells = count * (self.columns.cell + 1) - 1
            tone = {"response": "response", "prompt": "entry", "padding": "masked"}[name]
            frames.append(Cell(token_label(name, cells - 2), cells, tone))
        return Row(tuple(frames), gap=1)

    def arrows(self) -> Node:
        """From each token where it is read to where it has to be predicted."""
        shown, pitch = self.columns.shown, self.columns.cell + 1
        width = len(shown) * pitch - 1
        read_at = {
            position.read_place: at
            for at, position in enumerate(self.masking.positions)
            if position.read_place is not None
        }
        trails = []
        for at in shown:
            position = self.masking.positions[at]
            source = read_at.get(position.place)
            if position.place is None or source not in shown:
                continue
            middle = self.columns.cell * 0.6
            start = (source - shown.start) * pitch + middle
            end = (at - shown.start) * pitch + middle
            tone = "response" if position.counts else "masked"
            trails.append(Trail(width, 2, ((start, 0.1), (end, 1.8)), tone))
        return Stack((Column((Text(" " * width), Text(""))), *trails))


def _answers(learned: Learned, width: int) -> Card:
    """What a model answers that was trained so, to prompts that it has never seen."""
    lines: list[Node] = [Text("Trained so, a small model answers", "title")]
    room = max(len(pair.prompt) for pair in learned.pairs) + 1
    asked = zip(learned.pairs, learned.answers, learned.ends, strict=True)
    for pair, answer, ends in islice(asked, _ANSWERS):
        is_right = ends and answer == pair.response
        said = Text(answer if ends else f"{answer}…", "response" if is_right else "scaled_loss")
        sign = Text("✓" if is_right else f"✗ {pair.response}", "muted")
        prompt = Align(Text(pair.prompt, "muted"), room)
        lines.append(Row((prompt, Align(said, MOST_TOKENS + 2), sign)))
    lines += [Text(line) for line in wrap(_measured(learned), width - FRAME)]
    return Card(Column(tuple(lines)))


def _measured(learned: Learned) -> str:
    count = len(learned.pairs)
    both = zip(learned.pairs, learned.answers, strict=True)
    begin = sum(answer[:1] == pair.response[:1] for pair, answer in both)
    return (
        f"Of {count} new dates it answers {round(learned.right * count)} right: "
        f"{begin} answers begin right, and {sum(learned.ends)} end."
    )


def _sentences(masking: Masking) -> list[tuple[str, str]]:
    """What the picture says, each sentence with its tone."""
    right = len(masking.lost) + masking.num_tokens - len(masking.gained)
    count = f"{masking.num_tokens} of {count_of(len(masking.positions), 'position')} count"
    if masking.way is RIGHT:
        return [(f"{count}: the response and its end.", "ink")]
    said = [(f"{masking.way.name}: {masking.way.because}.", "ink")]
    differ = f"{len(masking.lost)} lost, {len(masking.gained)} gained; {count}"
    if not masking.lost and not masking.gained:
        said.append((f"{differ}, the right ones. The mask doesn't show it.", "scaled_loss"))
        return said
    beside = "as many as should" if masking.num_tokens == right else f"not {right}"
    said.append((f"{differ}, {beside}.", "scaled_loss"))
    if masking.lost:
        lost = [masking.text.tokens[place] for place in masking.lost]
        said.append((f"Never learned: {_quoted(lost)}.", "ink"))
    if masking.gained:
        places = [masking.positions[at] for at in masking.gained]
        pairs = [f"“{each.label}” where “{each.read}” is read" for each in places]
        said.append((f"Learned: {_listed(pairs)}.", "ink"))
    return said


def _quoted(words: Sequence[str]) -> str:
    return _listed([f"“{word}”" for word in words])


def _listed(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return ", ".join(token_label(text, 48) for text in texts[:_MOST]) + more
