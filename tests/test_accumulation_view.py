import re

import pytest
import torch

from sftviz.accumulation import accumulate
from sftviz.drawing.formatting import number
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.rules import MISTAKEN_SCALINGS, SCALINGS
from sftviz.views.accumulation import accumulation_flow, scaling_table


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
    assert "⋯" in drawing.text and "⋮" in drawing.text


def test_the_table_has_a_line_a_rule():
    model, window = BigramModel(dtype=torch.float64), make_window(B=3, G=4)
    table = scaling_table(
        [accumulate(model, window, rule) for rule in (*SCALINGS, *MISTAKEN_SCALINGS)]
    )
    ratios = re.findall(r"ratio \[ *([^\]]+)\]", table.text)
    assert ratios[:5] == ["12", "3", "0.75", "1", "1"]  # B·G, B, B/G, 1, 1
    assert ratios[6] == "0.25"
    assert "÷ averaged averages" in table.text and "cosine 1" in table.alt
