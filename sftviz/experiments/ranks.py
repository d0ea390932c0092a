"""The same step on several devices: what averaging over ranks makes of each divisor.

    torchrun --nproc-per-node 2 -m sftviz.experiments.ranks
    python -m sftviz.experiments.ranks                      the same, without torchrun's help

Each rank is a process of its own with a copy of the model and its own share of a window, G
microbatches of B rows. DistributedDataParallel averages the gradients over the W ranks, in the
backward pass of the last microbatch: on the others `no_sync` keeps each rank to itself. What is
left on the parameters is compared with the gradient of the whole window, which one process
computes in one piece without the step. Everything is float64, on the CPU, over the loopback.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from sftviz.experiments.dates import CONTEXT_LENGTH, PAD, Pair, conversation, date_pairs
from sftviz.experiments.transformer import TinyTransformer
from sftviz.log_probs import get_response_log_probs
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch, build_token_batch

B, G = 3, 4  # unequal, or ÷G² could not be told from the mean
_PATIENCE = timedelta(seconds=60)  # with a rank that does not answer


@dataclass(frozen=True)
class _Share:
    """What a rule may divide by: B, G, and"""

    W: int  # ranks
    n: int  # response tokens of this rank's share
    N: int  # response tokens of all ranks


# What the sum over response tokens is divided by, and the mean that this is meant to be.
_RULES: Mapping[str, tuple[Callable[[_Share], float], str]] = {
    "÷G²": (lambda share: G * G, "sequence"),
    "batch mean ÷G": (lambda share: B * G, "sequence"),
    "÷ own tokens": (lambda share: share.n, "token"),
    "÷N": (lambda share: share.N, "token"),
    "÷N ×W": (lambda share: share.N / share.W, "token"),
}


@dataclass(frozen=True)
class RankedRule:
    """What a rule leaves on the parameters of every rank, against the gradient of a true mean."""

    rule: str
    mean: str  # over what: every "sequence" or every response "token" of all ranks
    ratio: float  # how long the gradient is along the true one: 1 where the rule is exact
    cosine: float  # 1 where it points the same way
    difference: float  # of the two, relative to the true one: 0 where the rule is exact


@dataclass(frozen=True)
class RankReport:
    """One run: its sizes, its rules, and how often the ranks spoke to each other."""

    ranks: int  # W
    microbatch_size: int  # B
    gradient_accumulation_steps: int  # G
    tokens: tuple[int, ...]  # response tokens of each rank
    rules: tuple[RankedRule, ...]
    messages: int  # gradients sent round in a window, with no_sync on all but the last microbatch
    messages_without_no_sync: int
    apart: float  # the largest difference between two ranks' gradients, over all rules


def run_ranks(ranks: int = 2, timeout: float = 120.0) -> RankReport:
    """Start so many processes, let them run the step together, and return what they measured.

    None of them outlives the call, also if it is interrupted.

    Args:
        ranks: W, at least 2.
        timeout: seconds.

    Raises:
        TimeoutError: they were not done in time.
        RuntimeError: one of them failed; the message ends with the reason that it gave.
    """
    if type(ranks) is not int or ranks < 2:
        raise ValueError(f"ranks must be an int of at least 2, got {ranks!r}: one has no other.")
    process = subprocess.Popen(
        [sys.executable, "-m", "sftviz.experiments.ranks", "--ranks", str(ranks)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,  # a group of its own, so that all of it can be ended at once
    )
    try:
        written, complaint = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{ranks} processes were not done after {timeout:g} s, and have been ended: "
            "give them a longer timeout, or close what else is running."
        ) from None
    finally:
        if process.returncode != 0:
            _end(process)
    if process.returncode:
        reason = complaint.strip().rpartition("\n")[2] or f"exit status {process.returncode}"
        raise RuntimeError(f"{ranks} processes could not run the step together: {reason}")
    # Gloo writes lines of its own.
    return _report(json.loads(written[written.index("{") : written.rindex("}") + 1]))


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it has started, whether or not it has ended itself."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows
        process.kill()
    process.communicate()


def _report(content: dict) -> RankReport:
    rules = tuple(RankedRule(**rule) for rule in content.pop("rules"))
    return RankReport(**{**content, "tokens": tuple(content["tokens"]), "rules": rules})


def main(argv: list[str] | None = None) -> None:
    """Measure, and let the first rank print a report as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m sftviz.experiments.ranks",
        description="Run one SFT step on several ranks; compare its gradient with one process's.",
        epilog="Under torchrun the ranks are torchrun's: --nproc-per-node 2.",
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes to start (default: 2)")
    arguments = parser.parse_args(argv)
    if dist.is_torchelastic_launched():
        _run_rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), None)
    with tempfile.TemporaryDirectory() as folder:
        # A file to meet at, not a port: nobody else can have taken it.
        meeting = str(Path(folder, "ranks"))
        torch.multiprocessing.spawn(
            _run_rank, args=(arguments.ranks, meeting), nprocs=arguments.ranks
        )


def _run_rank(rank: int, ranks: int, meeting: str | None) -> NoReturn:
    """Be one rank of several, which meet at a file or, where there is none, where torchrun says."""
    torch.set_num_threads(1)  # the ranks share the cores
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    all_are_here = os.environ.get("LOCAL_WORLD_SIZE", str(ranks)) == str(ranks)
    if all_are_here and loopback:  # else gloo asks the network who this machine is
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    store = dist.FileStore(meeting, ranks) if meeting else None
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=_PATIENCE)
    try:
        report = _measure(rank, ranks)
        if rank == 0:
            print(json.dumps(asdict(report), ensure_ascii=False, indent=2))
    finally:
        dist.destroy_process_group()
    # Gloo's threads may still be letting go of tensors. If Python were taken down under them in an
    # orderly way, they would now and then take the whole process with them (SIGABRT).
    sys.stdout.flush()
    os._exit(0)


def _measure(rank: int, ranks: int) -> RankReport:
    torch.manual_seed(0)  # every rank begins with the same weights
    model = TinyTransformer(width=16, heads=2, layers=1).double()
    batch = _uneven_rows(ranks * G * B)
    shares = torch.arange(ranks * G * B).chunk(ranks)  # the rows of each rank
    tokens = [int(batch.response_mask[rows].sum()) for rows in shares]
    share = _Share(W=ranks, n=tokens[rank], N=sum(tokens))
    true = {
        "sequence": _whole_gradient(model, batch, ranks * G * B),
        "token": _whole_gradient(model, batch, share.N),
    }
    together = _Together(model)
    rules, apart = [], 0.0
    for rule, (divisor, mean) in _RULES.items():
        grad = together.accumulate(batch, shares[rank], divisor(share))
        rules.append(_compare(rule, mean, grad, true[mean]))
        apart = max(apart, _spread(grad))
    messages = len(together.sent) // len(rules)
    together.sent.clear()
    together.accumulate(batch, shares[rank], share.N, no_sync=False)
    return RankReport(ranks, B, G, tuple(tokens), tuple(rules), messages, len(together.sent), apart)


def _uneven_rows(count: int) -> TokenBatch:
    """Rows with responses of different lengths, the short ones first: the task, backwards."""
    pairs = [Pair(pair.response + "→", pair.prompt.rstrip("→")) for pair in date_pairs()[0]]
    rows = sorted(pairs[:count], key=lambda pair: len(pair.response))
    return build_token_batch([conversation(pair) for pair in rows], PAD, CONTEXT_LENGTH)


class _Together:
    """A model whose gradients are averaged over the ranks, and a count of how often they were."""

    def __init__(self, model: nn.Module) -> None:
        self.sent: list[int] = []  # bytes, one entry a message
        self.model = DistributedDataParallel(deepcopy(model))
        self.model.register_comm_hook(self.sent, _average)

    def accumulate(
        self, batch: TokenBatch, rows: Tensor, divisor: float, no_sync: bool = True
    ) -> Tensor:
        """What G microbatches leave on the parameters, (parameters,)."""
        self.model.zero_grad()
        *others, last = rows.split(B)
        for microbatch in (*others, last):
            alone = no_sync and microbatch is not last
            with self.model.no_sync() if alone else nullcontext():
                log_probs = get_response_log_probs(
                    self.model, batch.input_ids[microbatch], batch.labels[microbatch]
                )["log_probs"]  # (B, S)
                # The step divides by G² and by its constant: together, by the divisor.
                sft_microbatch_train_step(
                    log_probs, batch.response_mask[microbatch], G, divisor / G**2
                )
        return torch.cat([parameter.grad.flatten() for parameter in self.model.parameters()])


def _average(sent: list[int], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """What DistributedDataParallel does by itself, counted."""
    sent.append(bucket.buffer().nbytes)
    return allreduce_hook(None, bucket)


def _whole_gradient(model: nn.Module, batch: TokenBatch, divisor: float) -> Tensor:
    """The gradient of all rows in one piece, in one process, by torch's own loss: (parameters,)."""
    labels = batch.labels.masked_fill(~batch.response_mask, -100)
    logits = model(batch.input_ids)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    grads = torch.autograd.grad(loss / divisor, list(model.parameters()))
    return torch.cat([grad.flatten() for grad in grads])


def _compare(rule: str, mean: str, grad: Tensor, true: Tensor) -> RankedRule:
    return RankedRule(
        rule=rule,
        mean=mean,
        ratio=(grad @ true / (true @ true)).item(),
        cosine=(grad @ true / (grad.norm() * true.norm())).item(),
        difference=((grad - true).norm() / true.norm()).item(),
    )


def _spread(grad: Tensor) -> float:
    largest, smallest = grad.clone(), grad.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return (largest - smallest).max().item()


if __name__ == "__main__":
    main()
