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
    was = torch.zeros_like(table)
    for place, batch in enumerate(make_window(B=2, G=3, vocab_size=4), start=1):
        log_probs = torch.log_softmax(table[batch.input_ids], -1)
        picked = log_probs.gather(-1, batch.labels[..., None])[..., 0]
        (-picked[batch.response_mask].sum() / 9).backward()
        shown = framed(accumulation_flow(trace, reached=place))
        for row in range(4):
            for column in range(4):
                now = table.grad[row, column].item()
                there = number(was[row, column].item()) if place > 1 else ""
                assert shown[f"grad_before[{row},{column}]"] == there
                came = now - was[row, column].item()
                assert float(shown[f"microbatch_grad[{row},{column}]"].replace("−", "-")) == (
                    pytest.approx(came, rel=1e-3, abs=1e-12)
                )
                assert shown[f"grad[{row},{column}]"] == number(now)
        was = table.grad.clone()


def test_only_what_a_microbatch_has_added_to_has_the_tone_of_a_gradient(trace):
    for place, batch in enumerate(make_window(B=2, G=3, vocab_size=4), start=1):
        svg = accumulation_flow(trace, reached=place).svg
        tones = {key: tone for tone, key in re.findall(r'class="(\w+)" data-key="([^"]+)"', svg)}
        read = set(batch.input_ids[batch.response_mask].tolist())  # before a response token
        for row in range(4):
            for field in ("grad", "microbatch_grad"):
                assert tones[f"{field}[{row},0]"] == ("gradient" if row in read else "entry")
            assert tones[f"grad_before[{row},0]"] == "entry"


def test_the_optimizer_uses_what_is_in_grad(trace):
    parameter = torch.nn.Parameter(BigramModel(vocab_size=4, dtype=torch.float64).table.detach())
    parameter.grad = trace.grad["table"].clone()
    torch.optim.SGD([parameter], lr=1.0).step()
    shown = framed(accumulation_flow(trace, reached=4))
    for row in range(4):
        assert shown[f"parameters_after[{row},1]"] == number(parameter[row, 1].item())
        assert shown[f"grad[{row},1]"] == number(parameter.grad[row, 1].item())
    assert "optimizer.step()" in accumulation_flow(trace, reached=4).text


def test_what_is_said_to_be_equal_is_equal_to_the_digits(trace):
    signs = set()
    for place in (1, 2, 3):
        drawing = accumulation_flow(trace, reached=place)
        (sign,) = re.findall(r"([=≈]) what is there now", drawing.text)
        shown = {key: float(text.replace("−", "-") or 0) for key, text in framed(drawing).items()}
        exact = all(
            abs(
                shown[f"grad_before[{r},{c}]"]
                + shown[f"microbatch_grad[{r},{c}]"]
                - shown[f"grad[{r},{c}]"]
            )
            < 1e-9
            for r in range(4)
            for c in range(4)
        )
        assert (sign == "=") is exact
        signs.add(sign)
    assert signs == {"=", "≈"}


def test_the_full_batch_is_in_sight_of_the_first_microbatch(trace):
    drawing = accumulation_flow(trace, reached=1)
    assert "full_batch_grad[1,1]" in drawing.keys and drawing.scene.height * 21 < 480
    assert "Microbatch 1 of 3: samples 0–1" in drawing.text
    assert accumulation_flow(trace, reached=0).text.count(".grad is None") == 1


def test_the_timeline_says_which_moment_is_shown(trace):
    lines = [accumulation_flow(trace, reached).text.splitlines()[0] for reached in range(6)]
    assert lines[0] == "   1 ── 2 ── 3 ── optimizer.step() ── zero_grad()   and the next window"
    assert lines[2].startswith("  [1]──(2)── 3 ── optimizer")
    assert "(zero_grad())" in lines[5]


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
    model_run = accumulate(model, window, "G²", leftover=leftover)
    assert ".grad of the window before" in accumulation_flow(model_run, reached=1).text
    once = accumulation_flow(trace).text
    assert "forgotten" not in once and "left in it" not in once


def test_it_fits_narrow_pages_and_large_parameters():
    window = make_window(B=2, G=3, vocab_size=50)
    trace = accumulate(BigramModel(vocab_size=50), window, "G")
    for width in (48, 60, 112):
        for reached in range(6):
            drawing = accumulation_flow(trace, reached, width)
            assert max(map(len, drawing.text.splitlines())) <= width
    assert "⋮" in drawing.text and "Of 50 columns, " in " ".join(drawing.text.split())


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
    window = make_window(B=2, G=3, vocab_size=4)
    for reached in (2, 3):
        before, after = (accumulation_flow(trace, moment) for moment in (reached - 1, reached))
        read = set(window[reached - 1].input_ids[window[reached - 1].response_mask].tolist())
        lit = {key for key in changed(before, after) if key.startswith("grad[")}
        assert lit == {f"grad[{row},{column}]" for row in read for column in range(4)}
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
    assert " more" in drawing.text


class Shift(torch.nn.Module):
    """A bigram model whose only parameter is not a matrix."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(4))

    def forward(self, input_ids):
        return self.bias.expand(*input_ids.shape, 4)


def test_a_model_without_a_matrix_is_drawn_too():
    trace = accumulate(Shift(), make_window(B=2, G=2, vocab_size=4), "G")
    drawing = accumulation_flow(trace, reached=1)
    assert "grad[0,3]" in drawing.keys and "grad[1,0]" not in drawing.keys


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
