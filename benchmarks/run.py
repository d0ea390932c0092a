"""What the step and its pictures cost, as ratios of two things measured side by side.

`python benchmarks/run.py` prints the table and writes it to `benchmarks/results.md`. Times differ
between machines, and between two minutes on one; a ratio of two that took turns hardly does.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sftviz import (
    WORKED_EXAMPLE,
    inspect_batch,
    sft_microbatch_train_step,
    step_flow,
    trace_step,
)
from sftviz.drawing import mpl
from sftviz.drawing.drawing import Drawing
from sftviz.label_log_probs import label_log_probs

RESULTS = Path(__file__).with_name("results.md")
WARM_UP = 0.2  # s: the first times are not like the others
TURN = 0.002  # s: so short that on a busy machine, too, most turns are not interrupted


@dataclass(frozen=True)
class Line:
    """One comparison: how long ours and the thing beside it took, and the ratio asked for."""

    what: str
    ours: float  # s
    beside: float  # s
    ratio: float
    target: float

    def __str__(self) -> str:
        met = "yes" if self.ratio <= self.target else "**no**"
        times = f"{duration(self.ours)} | {duration(self.beside)}"
        return f"| {self.what} | {times} | {self.ratio:.3g} | ≤ {self.target:.3g} | {met} |"


def compare(
    what: str, target: float, ours: Callable[[], object], beside: Callable[[], object], rounds: int
) -> Line:
    """Let two functions take turns; the median of the rounds' ratios counts."""
    counts = [repetitions(function) for function in (ours, beside)]
    pairs = [
        [seconds(function, count) for function, count in zip((ours, beside), counts, strict=True)]
        for _ in range(rounds)
    ]
    return summary(what, target, pairs)


def summary(what: str, target: float, pairs: list[list[float]]) -> Line:
    first, second = zip(*pairs, strict=True)
    return Line(what, median(first), median(second), median(a / b for a, b in pairs), target)


def seconds(function: Callable[[], object], count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        function()
    return (perf_counter() - start) / count


def repetitions(function: Callable[[], object]) -> int:
    end = perf_counter() + WARM_UP
    while perf_counter() < end:
        time = seconds(function, 1)
    return max(1, round(TURN / time))


def duration(time: float) -> str:
    scale, unit = next(
        (scale, unit) for scale, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if time * scale >= 1
    )
    return f"{time * scale:.3g} {unit}"


# ---------------------------------------------------------------- what is compared


def bare_step(policy_log_probs, response_mask, G, normalize_constant=1.0):
    """The operations of the step as one would type them, without a check."""
    num_tokens = response_mask.sum().item()
    masked_sum = torch.where(response_mask, policy_log_probs, 0).sum() / normalize_constant
    loss = -masked_sum / G
    scaled_loss = loss / G
    scaled_loss.backward()
    return scaled_loss.detach(), {"num_tokens": num_tokens, "masked_sum": masked_sum.detach()}


def batch(B: int, S: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    log_probs = -3 * torch.rand(B, S, generator=generator)
    return log_probs.requires_grad_(), torch.rand(B, S, generator=generator) < 0.7


def step_over_bare(B: int, S: int) -> Line:
    log_probs, mask = batch(B, S)
    return compare(
        f"the step, {B} × {S} · the same torch operations without checks",
        1.15,
        lambda: sft_microbatch_train_step(log_probs, mask, 2),
        lambda: bare_step(log_probs, mask, 2),
        rounds=500,
    )


def flow(log_probs: torch.Tensor, mask: torch.Tensor, **options: object) -> Callable[[], Drawing]:
    """Draw a step of which one log-prob is another each time, as it is under a hand."""
    moved = log_probs.detach().clone()

    def draw() -> Drawing:
        moved[0, 0] -= 0.01
        return step_flow(trace_step(moved, mask, 2), **options)

    return draw


def picture_over_matplotlib() -> Line:
    example = WORKED_EXAMPLE
    draw = flow(example.policy_log_probs, example.response_mask, tokens=example.tokens)
    scene = draw().scene
    return compare(
        "trace, scene and SVG, 2 × 4 · matplotlib redrawing the same figure",
        1 / 50,
        lambda: draw().svg,
        lambda: FigureCanvasAgg(mpl.draw(scene)).draw(),
        rounds=9,
    )


def large_over_small() -> Line:
    large, small = flow(*batch(64, 1024)), flow(*batch(8, 24))
    return compare(
        "trace, scene and SVG, 64 × 1024 · 8 × 24",
        5,
        lambda: large().svg,
        lambda: small().svg,
        rounds=25,
    )


def inspection_over_model() -> Line:
    ids = torch.arange(8 * 1024).view(8, 1024) % 1000
    labels = ids.where(torch.arange(1024) > 300, -100)
    logits = torch.randn(8, 1024, 1000, requires_grad=True)
    log_probs = label_log_probs(logits, ids.roll(-1, 1)).detach().requires_grad_()
    given = {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}
    if findings := inspect_batch(given, log_probs=log_probs, vocab_size=1000).findings:
        raise RuntimeError(f"the batch should be a healthy one: {findings}")
    return compare(
        "inspecting 8 × 1024 tokens · their log-probs from 1,000 logits each, and backward",
        0.1,
        lambda: inspect_batch(given, log_probs=log_probs, vocab_size=1000),
        lambda: label_log_probs(logits, ids).sum().backward(),
        rounds=15,
    )


def import_over_torch(rounds: int = 9) -> Line:
    def import_time(name: str) -> float:
        code = (
            "from time import perf_counter; start = perf_counter(); "
            f"import {name}; print(perf_counter() - start)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(run.stdout)

    import_time("sftviz")  # from now on everything is compiled and in the file cache
    pairs = [[import_time("sftviz"), import_time("torch")] for _ in range(rounds)]
    return summary("`import sftviz` · `import torch`, in fresh processes", 1.10, pairs)


def main() -> None:
    torch.set_num_threads(1)
    lines = (
        *(step_over_bare(2, 4), step_over_bare(8, 4096)),
        *(picture_over_matplotlib(), large_over_small(), inspection_over_model()),
        import_over_torch(),
    )
    table = "\n".join(
        (
            "# What the step and its pictures cost",
            "",
            "Made by `python benchmarks/run.py`: medians of rounds in which ours and the thing "
            "beside it took turns, torch on one thread.",
            f"Python {platform.python_version()}, torch {torch.__version__}, "
            f"{platform.machine()}, {os.cpu_count()} cores.",
            "",
            "| ours · beside | ours | beside | ratio | target | met |",
            "|---|---|---|---|---|---|",
            *map(str, lines),
            "",
        )
    )
    RESULTS.write_text(table, encoding="utf-8")
    print(table, end="")


if __name__ == "__main__":
    main()
