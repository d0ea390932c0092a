"""The arguments of a step, without anything that is computed from them."""

from sftviz.drawing.drawing import Drawing
from sftviz.drawing.formatting import count_of, number
from sftviz.drawing.scene import Align, Card, Cell, Column, Row, Text
from sftviz.inputs import StepInputs
from sftviz.views.parts import FRAME, TONES, check_width, same_width

_GAP = 3  # cells, between the log-probs and the mask


def given_batch(inputs: StepInputs, width: int) -> Drawing:
    """A small batch: its log-probs, its mask, G and c.

    >>> print(given_batch(StepInputs([[-0.5, -0.3]], [[0, 1]], 4), width=48))
    ╭──────────────────────────────────────────────╮
    │ policy_log_probs   response_mask             │
    │ ░−0.5░ [−0.3]      ░0░ [1]                   │
    │                                              │
    │ G = 4   c = 1                                │
    ╰──────────────────────────────────────────────╯
    """
    check_width(width)
    bits = inputs.response_mask.int().tolist()
    grids = []
    for name, rows in (
        ("policy_log_probs", inputs.policy_log_probs.tolist()),
        ("response_mask", bits),
    ):
        cells = same_width(
            Cell(text, len(text) + 2, TONES[name] if bits[i][j] else "masked", f"{name}[{i},{j}]")
            for i, row in enumerate(rows)
            for j, text in enumerate(map(number, row))
        )
        S = len(rows[0])
        lines = [Row(tuple(cells[at : at + S]), gap=1) for at in range(0, len(cells), S)]
        grids.append(Column((Text(name, TONES[name], name), *lines)))
    is_wide = sum(grid.width for grid in grids) + _GAP <= width - FRAME
    batch = Row(tuple(grids), gap=_GAP) if is_wide else Column((grids[0], Text(""), grids[1]))
    G, c = inputs.gradient_accumulation_steps, number(inputs.normalize_constant)
    constants = Align(Text(f"G = {G}   c = {c}", TONES["normalize_constant"]), width - FRAME)
    B, S = inputs.policy_log_probs.shape
    rows = "; ".join(
        " ".join(
            number(value) if bit else f"({number(value)})" for value, bit in zip(*row, strict=True)
        )
        for row in zip(inputs.policy_log_probs.tolist(), bits, strict=True)
    )
    said = f"{count_of(B, 'row')} of {count_of(S, 'token')}, G = {G}, c = {c}. "
    alt = f"{said}Log-probs, masked ones in parentheses: {rows}."
    return Drawing(Card(Column((batch, Text(""), constants))), alt)
