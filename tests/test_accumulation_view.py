import re
from xml.etree import ElementTree

import pytest
import torch

from sftviz.accumulation import accumulate
from sftviz.drawing.formatting import number
from sftviz.drawing.scene import Cell
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.rules import MISTAKEN_SCALINGS, SCALINGS, Scaling
from sftviz.views.accumulation import accumulation_flow, readings, scaling_table


@pytest.fixture
def trace():
    model = BigramModel(vocab_size=4, dtype=torch.float64)
    return accumulate(model, make_window(B=2, G=3, vocab_size=4), "G²")


def framed(drawing):
    """What each frame holds, by key."""
    pattern = r'data-key="([^"]+)"><rect[^>]*/><text[^>]*>([^<]*)</text>'
    return dict(re.findall(pattern, drawing.svg))


def test_at_every_moment_the_numbers_are_torchs_grad(trace):
    # .grad from a loop of its own, with nothing of `accumulate` in it
    table = BigramModel(vocab_size=4, dtype=torch.float64).table.detach().requires_grad_()
    shown = framed(accumulation_flow(trace))
    for place, batch in enumerate(make_window(B=2, G=3, vocab_size=4), start=1):
        log_probs = torch.log_softmax(table[batch.input_ids], -1)
        picked = log_probs.gather(-1, batch.labels[..., None])[..., 0]
        (-picked[batch.response_mask].sum() / 9).backward()
        for row in range(4):
            for column in range(4):
                value = number(table.grad[row, column].item())
                assert shown[f"grad_{place}[{row},{column}]"] == value


def test_only_what_a_microbatch_has_added_to_has_the_tone_of_a_gradient(trace):
    groups = re.findall(r'class="(\w+)" data-key="(grad_[^"]+)"', accumulation_flow(trace).svg)
    tones = {key: tone for tone, key in groups}
    for place, batch in enumerate(make_window(B=2, G=3, vocab_size=4), start=1):
        read = set(batch.input_ids[batch.response_mask].tolist())  # before a response token
        for row in range(4):
            assert tones[f"grad_{place}[{row},0]"] == ("gradient" if row in read else "entry")


def test_what_is_not_reached_keeps_its_place_and_says_nothing(trace):
    early, late = accumulation_flow(trace, reached=1), accumulation_flow(trace)
    assert (early.scene.width, early.scene.height) == (late.scene.width, late.scene.height)
    shown = framed(early)
    assert shown["grad_1[1,1]"] and "grad_2[1,1]" in early.keys
    assert not any(text for key, text in shown.items() if key.startswith(("grad_2", "full", "rat")))
    assert ".grad is None" in late.text and ".grad is None" not in early.text
    assert early.alt.endswith("1 of 3 are in .grad.")


def test_the_end_names_ratio_and_cosine(trace):
    shown = framed(accumulation_flow(trace))
    assert (shown["ratio"], shown["cosine"]) == ("0.6667", "1")  # B/G = 2/3
    assert accumulation_flow(trace).alt == (
        "Accumulation of 3 microbatches, by the rule G²: compared with the gradient of the mean "
        "per sequence, .grad has ratio 0.6667 and cosine 1. "
        "zero_grad(): .grad is None, and the next window begins."
    )


def test_every_moment_has_a_sentence_of_its_own(trace):
    alts = [accumulation_flow(trace, reached).alt for reached in range(3 + 2 + 1)]
    assert len(set(alts)) == len(alts)


def test_a_forgotten_zero_grad_is_told_at_both_ends(trace):
    model, window = BigramModel(vocab_size=4), make_window(B=2, G=3, vocab_size=4)
    leftover = accumulate(model, window, "G²").grad
    again = accumulation_flow(accumulate(model, window, "G²", leftover=leftover))
    forgotten = "forgotten: the next window adds to what is in .grad"
    assert forgotten in again.text and again.alt.endswith(f"zero_grad(): {forgotten}.")
    assert again.text.count("after backward(), added to the gradient of the window before") == 1
    once = accumulation_flow(trace).text
    assert "forgotten" not in once and "left in it" not in once


def test_it_fits_narrow_pages_and_large_parameters():
    window = make_window(B=2, G=3, vocab_size=50)
    drawing = accumulation_flow(accumulate(BigramModel(vocab_size=50), window, "G"), width=60)
    assert max(map(len, drawing.text.splitlines())) <= 60
    assert "column 1 " in drawing.text and "⋮" in drawing.text


def test_the_table_has_a_line_a_rule():
    model, window = BigramModel(dtype=torch.float64), make_window(B=3, G=4)
    table = scaling_table(
        [accumulate(model, window, rule) for rule in (*SCALINGS, *MISTAKEN_SCALINGS)]
    )
    ratios = re.findall(r"ratio \[ *([^\]]+)\]", table.text)
    assert ratios[:5] == ["12", "3", "0.75", "1", "1"]  # B·G, B, B/G, 1, 1
    assert ratios[6] == "0.25"
    assert "÷ averaged averages" in table.text and "cosine 1" in table.alt


def changed(before, after):
    """The keys whose values light up in a page that shows one drawing after another."""
    texts = [
        {
            (x, y, shape.key): shape.text
            for x, y, shape in drawing.page.marks
            if isinstance(shape, Cell)
        }
        for drawing in (before, after)
    ]
    return {
        place[2]
        for place, text in texts[1].items()
        if place[2] and place in texts[0] and texts[0][place] != text
    }


def test_stepping_lights_up_what_was_added_to_and_no_zero(trace):
    for reached, batch in enumerate(make_window(B=2, G=3, vocab_size=4), start=1):
        before, after = (accumulation_flow(trace, moment) for moment in (reached - 1, reached))
        read = set(batch.input_ids[batch.response_mask].tolist())  # their rows have a gradient
        lit = {key for key in changed(before, after) if key.startswith("grad_")}
        assert lit == {f"grad_{reached}[{row},{column}]" for row in read for column in range(4)}
    assert len(read) < 4


def test_the_readings_stand_at_the_end_however_large_G_is(trace):
    assert readings(trace, 3)["ratio"].text == "…"
    assert readings(trace)["ratio"].text == readings(trace, 4)["ratio"].text == "0.6667"


def test_rows_with_a_gradient_are_shown_first():
    window = make_window(B=1, G=2, vocab_size=50, lengths=[2, 2])
    trace = accumulate(BigramModel(vocab_size=50), window, "G")
    rows = trace.full_batch_grad["table"].any(1).nonzero().flatten().tolist()
    drawing = accumulation_flow(trace)
    shown = [row for row in rows if f"full_batch_grad[{row},0]" in drawing.keys]
    assert rows[0] > 0 and len(shown) >= 3
    assert "column 6" in drawing.text and " more" in drawing.text


class Shift(torch.nn.Module):
    """A bigram model whose only parameter is not a matrix."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(4))

    def forward(self, input_ids):
        return self.bias.expand(*input_ids.shape, 4)


def test_a_model_without_a_matrix_is_drawn_too():
    drawing = accumulation_flow(accumulate(Shift(), make_window(B=2, G=2, vocab_size=4), "G"))
    assert "grad_1[0,3]" in drawing.keys and "grad_1[1,0]" not in drawing.keys


def test_a_rules_name_is_no_markup():
    name = "\x1b[31m<b>$x^2$\n\u202e" + "long " * 9
    rule = Scaling(name, "a rule", lambda n: 3)
    trace = accumulate(BigramModel(vocab_size=4), make_window(B=2, G=2, vocab_size=4), rule)
    for drawing in (scaling_table([trace]), accumulation_flow(trace)):
        ElementTree.fromstring(drawing.svg)
        assert "<b>" not in drawing.svg
        for text in (drawing.text, drawing.alt):
            assert not set("\x1b\u202e") & set(text)
        assert "<b>$x^2$↵" in drawing.alt
    lines = scaling_table([trace]).text.splitlines()
    assert len(lines) == 3 and "$x^2$" in lines[1] and len({len(line) for line in lines}) == 1


def test_a_table_of_nothing_is_refused():
    with pytest.raises(ValueError) as refusal:
        scaling_table([])
    assert str(refusal.value) == "traces is empty: give at least one trace of `accumulate`."
