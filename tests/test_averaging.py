"""A window on several ranks: its numbers against torch, by hand, and against real processes."""

import re
import threading

import pytest
import torch
import torch.distributed as dist
import traitlets

from sftviz.averaging import average_over_ranks, find_rank_scaling
from sftviz.drawing.formatting import number
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.experiments.ranks import RankedWindow, run_window
from sftviz.explorers import ranks as ranks_explorer
from sftviz.explorers.ranks import RanksExplorer, difference
from sftviz.rules import RANK_SCALINGS, SEQUENCE_MEAN, Scaling
from sftviz.views.ranks import ranks_flow

W, B, G, V = 3, 2, 4, 4
RULES = [rule.name for rule in RANK_SCALINGS]


def window_of(W=W, B=B, G=G, unevenness=1.0):
    window = make_window(B, W * G, unevenness=unevenness, vocab_size=V)
    return [window[rank * G : (rank + 1) * G] for rank in range(W)]


def run(rule, W=W, B=B, G=G):
    return average_over_ranks(BigramModel(V, dtype=torch.float64), window_of(W, B, G), rule)


def summed(batches):
    """The gradient of the summed cross-entropy of some microbatches, (V, V), by torch alone."""
    table = BigramModel(V, dtype=torch.float64).table.detach().requires_grad_()
    losses = [
        torch.nn.functional.cross_entropy(
            table[batch.input_ids].mT, batch.labels.clamp(min=0), reduction="none"
        )[batch.response_mask.bool()].sum()
        for batch in batches
    ]
    return torch.autograd.grad(sum(losses), table)[0]


def divisor(rule, rank):
    """What a rank divides by, counted by hand."""
    tokens = [sum(int(batch.response_mask.sum()) for batch in share) for share in window_of()]
    return {
        "G²": G**2,
        "B·G": B * G,
        "own tokens": tokens[rank],
        "tokens": sum(tokens),
        "tokens/W": sum(tokens) / W,
    }[rule]


def by_hand(rule):
    """The averaged gradient, and that of the mean over all rows at once."""
    shares = window_of()
    average = sum(summed(share) / divisor(rule, rank) for rank, share in enumerate(shares)) / W
    is_per_token = "tokens" in rule
    count = divisor("tokens", 0) if is_per_token else W * B * G
    return average, summed([batch for share in shares for batch in share]) / count


def close(one, other):
    return torch.allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_every_gradient_is_that_of_torch_divided_by_hand(rule):
    trace = run(rule)
    for rank, share in enumerate(window_of()):
        for at, record in enumerate(trace.ranks[rank].microbatches):
            added = summed([share[at]]) / divisor(rule, rank)
            assert close(record.microbatch_grad["table"], added)
            assert close(record.grad["table"], summed(share[: at + 1]) / divisor(rule, rank))
    average, full_batch = by_hand(rule)
    assert close(trace.grad["table"], average) and close(trace.total["table"], average * W)
    assert close(trace.full_batch_grad["table"], full_batch)
    cosine = torch.cosine_similarity(average.flatten(), full_batch.flatten(), dim=0).item()
    assert trace.cosine == pytest.approx(cosine, rel=1e-12)


EXACT = {"G²": B / G, "B·G": 1, "tokens": 1 / W, "tokens/W": 1}


def test_each_rule_has_its_ratio_and_only_own_tokens_turns():
    for rule, ratio in EXACT.items():
        assert run(rule).ratio == pytest.approx(ratio, rel=1e-12)
        assert run(rule).cosine == pytest.approx(1, rel=1e-12)
    assert run("own tokens").cosine < 0.99


@pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo"
)
def test_real_processes_leave_the_same_in_grad():
    found = run_window(W, B, G, "own tokens", unevenness=0.5)
    window = window_of(unevenness=0.5)
    trace = average_over_ranks(BigramModel(V, dtype=torch.float64), window, "own tokens")
    assert [len(own) for own in found.own] == [G] * W and len(found.average) == W
    assert difference(trace, found) < 1e-15
    assert found.average[0] == found.average[1] == found.average[2]
    # and so as torch, divided by hand
    tokens = [sum(batch.num_tokens for batch in share) for share in window]
    average = sum(summed(share) / n for share, n in zip(window, tokens, strict=True)) / W
    assert close(torch.tensor(found.average[2], dtype=torch.float64), average.flatten())


def test_the_largest_difference_is_found_wherever_it_is():
    trace = run("tokens")

    def flat(grad):
        return tuple(grad["table"].flatten().tolist())

    own = [[flat(record.grad) for record in rank.microbatches] for rank in trace.ranks]
    same = RankedWindow(own, [flat(trace.grad)] * W)
    assert difference(trace, same) == 0
    average = list(flat(trace.grad))
    average[5] += 0.25
    wrong = RankedWindow(own, [flat(trace.grad), flat(trace.grad), tuple(average)])
    assert difference(trace, wrong) == pytest.approx(0.25)
    own[1][2] = tuple(value - 0.5 for value in own[1][2])
    assert difference(trace, RankedWindow(own, wrong.average)) == pytest.approx(0.5)


# ---------------------------------------------------------------- what is refused


def test_what_is_no_window_on_ranks_is_refused():
    with pytest.raises(ValueError) as refused:
        find_rank_scaling("none")
    assert str(refused.value) == (
        "scaling must be one of G², B·G, own tokens, tokens, tokens/W, got 'none'."
    )
    shares = window_of()
    with pytest.raises(ValueError) as refused:
        average_over_ranks(BigramModel(V), [shares[0], shares[1][:2]], "G²")
    assert str(refused.value) == (
        "every rank must have the same number of microbatches, got [4, 2]: otherwise some would "
        "wait for the others' all-reduce for ever."
    )
    for arguments, word in [((1, 2, 2), "ranks must"), ((2, 0, 2), "B must"), ((2, 2, 0), "G")]:
        with pytest.raises(ValueError, match=word):
            run_window(*arguments)
    with pytest.raises(ValueError, match="scaling must be one of"):
        run_window(2, 2, 2, "none")
    with pytest.raises(ValueError, match="timeout must be a number above 0"):
        run_window(2, 2, 2, timeout=0)


# ---------------------------------------------------------------- the picture


def framed(drawing):
    """What each frame holds, by key."""
    pattern = r'data-key="([^"]+)"><rect[^>]*/><text[^>]*>([^<]*)</text>'
    return dict(re.findall(pattern, drawing.svg))


def along(grad, full_batch):
    return ((grad * full_batch).sum() / (full_batch**2).sum()).item()


def same(text, value):
    return float(text.replace("−", "-")) == pytest.approx(value, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("rule", ["tokens", "own tokens"])
def test_at_every_moment_the_lanes_have_the_lengths_of_what_was_added(rule):
    trace = run(rule)
    _, full_batch = by_hand(rule)
    for reached in range(G + 3):
        shown = framed(ranks_flow(trace, reached))
        for rank, share in enumerate(window_of()):
            for at, batch in enumerate(share):
                assert shown[f"num_tokens[{rank},{at}]"] == str(int(batch.response_mask.sum()))
                added, now = shown[f"microbatch_grad[{rank},{at}]"], shown[f"grad[{rank},{at}]"]
                if at >= reached:
                    assert added == now == ""
                    continue
                by = divisor(rule, rank)
                assert same(added, along(summed([batch]) / by, full_batch))
                assert same(now, along(summed(share[: at + 1]) / by, full_batch))
        is_over = reached > G
        assert (shown["total"] != "") is (shown["ratio"] != "") is (shown["cosine"] != "")
        assert (shown["ratio"] != "") is is_over


@pytest.mark.parametrize("rule", RULES)
def test_the_end_has_the_sum_the_average_and_the_step(rule):
    average, full_batch = by_hand(rule)
    shown = framed(ranks_flow(run(rule)))
    ends = [summed(share) / divisor(rule, rank) for rank, share in enumerate(window_of())]
    for rank, end in enumerate(ends):
        assert same(shown[f"length[{rank}]"], along(end, full_batch))
    assert same(shown["total"], along(sum(ends), full_batch))
    assert same(shown["ratio"], along(sum(ends) / W, full_batch))
    assert shown["full_batch"] == "1"
    row = int(full_batch.norm(dim=1).argmax())
    parameter = torch.nn.Parameter(BigramModel(V, dtype=torch.float64).table.detach().clone())
    before = parameter.detach()[row].tolist()
    parameter.grad = average
    torch.optim.SGD([parameter], lr=1.0).step()
    for column in range(V):
        for key, value in (
            *((f"rank_grad[{rank}", end[row, column].item()) for rank, end in enumerate(ends)),
            ("total[0", sum(ends)[row, column].item()),
            ("average[0", average[row, column].item()),
            ("full_batch_grad[0", full_batch[row, column].item()),
            ("parameters_after[0", parameter[row, column].item()),
        ):
            assert same(shown[f"{key},{column}]"], value), key
        assert f"parameters_before[0,{column}]" in shown
    text = ranks_flow(run(rule)).text
    assert f"row {row} of .grad" in text and f"÷ {W}: average" in text
    assert all(number(value) in text for value in before)
    for rank in range(W):
        assert f"÷ {number(divisor(rule, rank))} " in text


def test_every_moment_has_a_sentence_and_a_place_on_the_timeline():
    trace = run("tokens")
    drawings = [ranks_flow(trace, reached) for reached in range(G + 3)]
    assert len({drawing.alt for drawing in drawings}) == G + 3
    first = [drawing.text.splitlines()[0] for drawing in drawings]
    assert "(3)── 4 ── all-reduce ── optimizer.step()" in first[3]
    assert "(all-reduce)──" in first[5] and "(optimizer.step())" in first[6]
    assert drawings[0].text.count(".grad is None") == 1
    assert "no_sync(): each rank" in drawings[3].text
    assert "Outside no_sync()" in drawings[4].text
    assert drawings[5].alt == (
        "3 ranks with 4 microbatches each, by the rule tokens: the sum over the ranks is 1 times "
        "as long as the gradient of the mean per token, the average 0.3333 times, with cosine 1."
    )


def test_before_the_all_reduce_its_result_is_nowhere():
    for reached in range(G + 1):
        drawing = ranks_flow(run("tokens"), reached)
        assert "0.3333" not in drawing.text + drawing.alt + drawing.svg


def test_a_narrow_picture_says_which_columns_it_shows():
    assert "Of 4 columns, 0 to 1 are shown." in " ".join(
        line.strip("│ ") for line in ranks_flow(run("tokens"), width=48).text.splitlines()
    )
    assert "are shown" not in ranks_flow(run("tokens")).text


class Slope(torch.nn.Module):
    """A model whose only parameter has one dimension."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.arange(V, dtype=torch.float64))

    def forward(self, input_ids):
        return input_ids[..., None] * self.slope


def test_a_model_without_a_matrix_is_drawn_too():
    trace = average_over_ranks(Slope(), window_of(), "B·G")
    shown = framed(ranks_flow(trace))
    assert shown["average[0,1]"] == shown["full_batch_grad[0,1]"]
    assert shown["average[0,1]"] == number(trace.grad["slope"][1].item()) != "0"


def test_all_moments_have_one_layout():
    sizes = {
        (at.scene.width, len(framed(at)))
        for at in (ranks_flow(run("own tokens"), reached) for reached in range(G + 2))
    }
    assert len(sizes) == 1


@pytest.mark.parametrize("width", [48, 60, 80, 112])
@pytest.mark.parametrize("sizes", [(2, 3, 4), (3, 2, 8), (8, 1, 1)])
def test_the_picture_fits_its_width(sizes, width):
    trace = run("tokens", *sizes)
    for reached in (0, 1, None):
        drawing = ranks_flow(trace, reached, width, note="A sentence that is rather long. " * 4)
        assert drawing.scene.width <= width
        assert all(len(line) <= width for line in drawing.text.splitlines())
        assert all(f"rank {rank}" in drawing.text for rank in range(sizes[0]))
        assert f"grad[{sizes[0] - 1},{sizes[2] - 1}]" in drawing.keys


def test_a_rule_of_ones_own_is_drawn_too():
    rule = Scaling("twice the rows", "", lambda n: 2 * n.window_rows * n.B)
    drawing = ranks_flow(run(rule))
    assert f"÷ {2 * W * B * G * B} " in drawing.text  # 2 · the rows of all ranks · B
    by_row = Scaling("by row", "", lambda n: [n.window_rows * t for t in n.row_tokens], "example")
    assert "÷" not in ranks_flow(run(by_row), 0).text.replace(f"÷ {W}: average", "")


# ---------------------------------------------------------------- the explorer


def test_everything_follows_the_knobs_and_the_end_stays_the_end():
    explorer = RanksExplorer()
    before = explorer.drawing.text
    assert (explorer.ranks, explorer.B, explorer.G) == (2, 3, 4)
    explorer.controls["scaling"].value = "tokens"
    assert explorer.trace.ratio == pytest.approx(1 / 2)
    explorer.controls["ranks"].value = 3
    assert explorer.trace.ratio == pytest.approx(1 / 3)
    explorer.controls["G"].value = 5
    assert explorer.controls["reached"].value == explorer.controls["reached"].max == 7
    explorer.controls["reached"].value = 6
    assert explorer.reached == 6 and "The all-reduce" in explorer.live.svg
    explorer.controls["B"].value = 1
    explorer.controls["unevenness"].value = 0.0
    explorer.scaling = "own tokens"
    assert explorer.trace.ratio == pytest.approx(1)
    for line in ("RanksExplorer(", "ranks=3", "B=1", "G=5", "unevenness=0.0", "reached=6"):
        assert line in explorer.code
    explorer.controls["reset"].click()
    assert explorer.drawing.text == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("ranks", 1, "ranks must be an int of at least 2, got 1"),
        ("G", 0, "G must be an int of at least 1, got 0"),
        ("B", 0, "B must be an int of at least 1, got 0"),
        ("scaling", "none", "scaling must be one of G², B·G, own tokens"),
        ("scaling", Scaling("mine", "", lambda n: 1), "here, got a rule 'mine'"),
        ("reached", -1, "reached must be an int of at least 0"),
    ],
)
def test_what_cannot_be_run_changes_nothing(field, value, message):
    explorer = RanksExplorer(scaling=SEQUENCE_MEAN)
    before = explorer.live.svg
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(explorer, field, value)
    assert explorer.live.svg == before


def left_by_processes(trace):
    """What real ones would leave."""
    own = [
        [at.grad["table"].flatten().tolist() for at in rank.microbatches] for rank in trace.ranks
    ]
    return RankedWindow(own, [trace.grad["table"].flatten().tolist()] * len(own))


def test_a_change_from_another_thread_waits_for_the_one_before(monkeypatch):
    """JupyterLab hands the messages of a page to more than one thread of a kernel."""
    explorer = RanksExplorer(ranks=3, B=2, G=2)
    moved = threading.Event()

    def move():
        explorer.controls["ranks"].value = 2
        moved.set()

    def run(*window):
        found = left_by_processes(explorer.trace)
        threading.Thread(target=move).start()
        moved.wait(0.3)  # in vain, because this press comes first
        return found

    monkeypatch.setattr(ranks_explorer, "run_window", run)
    explorer.controls["processes"].click()
    assert moved.wait(10)
    assert explorer.live.error["message"] == ""
    assert (explorer.ranks, explorer.controls["ranks"].value) == (2, 2)
    explorer.ranks = 3
    assert "Run on 3 real processes too" in explorer.drawing.text


def test_processes_are_started_once_for_a_window_and_the_picture_says_so(monkeypatch):
    explorer = RanksExplorer(ranks=2, B=3, G=2, scaling="tokens")
    calls, while_running = [], []

    def stand_in(*window):
        calls.append(window)
        while_running.append(explorer.live.svg)
        return left_by_processes(explorer.trace)

    monkeypatch.setattr(ranks_explorer, "run_window", stand_in)
    assert "Computed in one process, rank after rank." in explorer.drawing.text
    press = explorer.controls["processes"].click
    press()
    assert "2 processes are starting" in while_running[0]
    assert "Run on 2 real processes too, in 0 s: the largest difference" in explorer.drawing.text
    explorer.reached = 1  # the same window
    press()
    assert calls == [(2, 3, 2, "tokens", 1.0)]
    explorer.B = 2
    assert "Computed in one process" in explorer.drawing.text

    def failing(*window):
        raise TimeoutError("2 processes had not finished")

    monkeypatch.setattr(ranks_explorer, "run_window", failing)
    press()
    assert explorer.live.error["message"] == "2 processes had not finished"
    assert "Computed in one process" in explorer.drawing.text
    explorer.live.error = {"message": "", "traceback": ""}
