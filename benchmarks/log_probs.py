"""What log-probs of labels cost, from logits of (4, 256, 32000) float32, in one thread.

    python benchmarks/log_probs.py

`get_response_log_probs` beside the ways that one would write it in torch. Times are medians over
rounds in which the ways take turns. Memory is by how much the peak of a process rises over what it
held before the forward pass, as Linux counted it; the logits' own gradient is in it,
and nothing can do without that. Each way has a process of its own.
"""

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sftviz.log_probs import get_response_log_probs

B, S, V = 4, 256, 32_000
ROUNDS = 9
STATUS = Path("/proc/self/status")  # Linux has it; elsewhere memory is not measured
GRADIENT_MB = B * S * V * 4 / 2**20


def ours(logits: Tensor, labels: Tensor) -> Tensor:
    input_ids = labels.roll(1, 1)  # the labels are the next tokens, as in real batches
    return get_response_log_probs(lambda _: logits, input_ids, labels)["log_probs"]


def at_once(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def row_by_row(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([at_once(*row) for row in zip(logits, labels, strict=True)])


def minus_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return -losses.view(labels.shape)


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "get_response_log_probs": ours,
    "row by row, log_softmax + gather": row_by_row,
    "log_softmax + gather": at_once,
    "cross_entropy, negated": minus_cross_entropy,
}


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.empty(B, S, V).normal_(0, 3, generator=generator)
    return logits.requires_grad_(), torch.randint(V, (B, S), generator=generator)


def milliseconds() -> dict[str, tuple[float, float]]:
    """For each way, the forward pass, and forward and backward together."""
    logits, labels = batch()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS + 1):
        for name, way in WAYS.items():
            logits.grad = None
            start = time.perf_counter()
            log_probs = way(logits, labels)
            middle = time.perf_counter()
            log_probs.sum().backward()
            end = time.perf_counter()
            taken[name].append((1e3 * (middle - start), 1e3 * (end - start)))
    return {
        name: tuple(map(statistics.median, zip(*rounds[1:], strict=True)))  # the first warms up
        for name, rounds in taken.items()
    }


def peak_mb(name: str) -> tuple[float, float]:
    """By how much one way lifts the peak: forward alone, and with backward."""
    command = [sys.executable, __file__, name]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    forward, both = map(float, printed.split())
    return forward, both


def measure_peak(name: str) -> tuple[float, float]:
    """In this process, which must have done nothing else."""
    way = WAYS[name]
    way(torch.zeros(2, 64, 512, requires_grad=True), torch.zeros(2, 64).long()).sum().backward()
    logits, labels = batch()
    before = _peak()
    log_probs = way(logits, labels)
    forward = _peak()
    log_probs.sum().backward()
    return forward - before, _peak() - before


def _peak() -> float:
    # Not getrusage: a process begins with the ru_maxrss of the one that started it.
    if not STATUS.exists():
        return math.nan
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10  # kB


def main() -> str:
    """Measure, and return the table as Markdown."""
    torch.set_num_threads(1)
    times = milliseconds()
    ours_ms = times["get_response_log_probs"][1]
    lines = [
        "| way | forward, ms | and backward, ms | × ours | extra peak MB: forward | and backward "
        "| × the gradient |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in WAYS:
        (forward, both), (peak, peak_both) = times[name], peak_mb(name)
        lines.append(
            f"| {name} | {forward:.0f} | {both:.0f} | {both / ours_ms:.2f} | {peak:.0f} "
            f"| {peak_both:.0f} | {peak_both / GRADIENT_MB:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        print(*measure_peak(sys.argv[1]))
    else:
        print(main())
