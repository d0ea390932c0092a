"""The program that each rank runs: one window under every rule in `RANK_SCALINGS`.

    python -m sftviz.experiments.rank_process --ranks 2
    torchrun --nproc-per-node 2 -m sftviz.experiments.rank_process

Each rank is a process with a copy of the model and with G microbatches of B rows of its own.
DistributedDataParallel averages the gradients over the W ranks, in the backward pass of the last
microbatch; `no_sync` prevents it on the others. The gradient that is left on the parameters is
compared with that of all rows at once. All of it is float64, on the CPU, over loopback.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from sftviz.accumulation import backward
from sftviz.experiments.dates import CONTEXT_LENGTH, PAD, Pair, conversation, date_pairs
from sftviz.experiments.ranks import RankedRule, RankReport, check_ranks
from sftviz.experiments.transformer import TinyTransformer
from sftviz.log_probs import get_response_log_probs
from sftviz.rules import (
    RANK_SCALINGS,
    STEP,
    Counts,
    Gradient,
    Scaling,
    cosine,
    count_window,
    distance,
    ratio,
)
from sftviz.tokens import TokenBatch, build_token_batch, mask_labels

B, G = 3, 4  # different, so that ÷ G² differs from the mean
Measure = Callable[[int, int], Any]  # from a rank and W to a dataclass
_TIMEOUT = timedelta(seconds=60)  # how long one rank waits for another


def main() -> None:
    """Measure on every rank; rank 0 prints a `RankReport` as JSON. Needs at least two ranks."""
    parser = argparse.ArgumentParser(
        prog="python -m sftviz.experiments.rank_process",
        description="Run the step on several ranks; compare its gradient with one process's.",
        epilog="Under torchrun the number of ranks is torchrun's: --nproc-per-node 2.",
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes to start (default: 2)")
    asked = parser.parse_args().ranks
    under_torchrun = {"TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"} <= {*os.environ}
    ranks = int(os.environ["WORLD_SIZE"]) if under_torchrun else asked
    try:
        check_ranks(ranks)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    if under_torchrun:
        _run_rank(int(os.environ["RANK"]), ranks, None, _measure)
    start_ranks(ranks, _measure)


def start_ranks(ranks: int, measure: Measure) -> None:
    """Call `measure` on several ranks, each a process; rank 0 prints what it returns, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        # The ranks find each other by a file: a port could be in use already.
        arguments = (ranks, f"{folder}/ranks", measure)
        try:
            torch.multiprocessing.spawn(_run_rank, args=arguments, nprocs=ranks)
        except KeyboardInterrupt:
            sys.exit(130)  # 128 + SIGINT, as shells count


def _run_rank(rank: int, ranks: int, store: str | None, measure: Measure) -> NoReturn:
    """Run one rank and end its process. `store` is the file by which the ranks find each other."""
    torch.set_num_threads(1)  # the ranks share the cores
    # With DETAIL, DistributedDataParallel on gloo ends in a segmentation fault (torch 2.13).
    if dist.get_debug_level() == dist.DebugLevel.DETAIL:
        dist.set_debug_level(dist.DebugLevel.INFO)
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    is_one_machine = store is not None or os.environ.get("LOCAL_WORLD_SIZE") == str(ranks)
    if is_one_machine and loopback:  # otherwise gloo looks up this machine's name in the network
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    file = dist.FileStore(store, ranks) if store else None
    dist.init_process_group("gloo", store=file, rank=rank, world_size=ranks, timeout=_TIMEOUT)
    try:
        report = measure(rank, ranks)
        if rank == 0:
            print(json.dumps(asdict(report), ensure_ascii=False, indent=2), flush=True)
    finally:
        dist.destroy_process_group()
    # Gloo's threads may still be releasing tensors. If the interpreter is finalized meanwhile, the
    # process is sometimes aborted (SIGABRT), so the process ends without that.
    os._exit(0)


def _measure(rank: int, ranks: int) -> RankReport:
    torch.manual_seed(0)  # the same weights on every rank
    model = TinyTransformer(width=16, heads=2, layers=1).double()
    num_rows = ranks * G * B
    batch = _uneven_rows(num_rows)
    counted = {
        "sequence": torch.tensor(num_rows),
        "token": batch.response_mask.sum(),
        "example": num_rows * batch.response_mask.sum(1),
    }
    full_batch = {per: _full_batch_gradient(model, batch, n) for per, n in counted.items()}
    shares = [_rows(batch, rows) for rows in torch.arange(num_rows).chunk(ranks)]
    tokens = tuple(share.num_tokens for share in shares)
    window = [_rows(shares[rank], rows) for rows in torch.arange(G * B).split(B)]
    everywhere = {"window_tokens": sum(tokens), "window_rows": num_rows, "ranks": ranks}
    counts = [
        replace(each, **everywhere)
        for each in count_window([batch.response_mask for batch in window], G)
    ]
    all_reduces: list[int] = []
    averaged = DistributedDataParallel(model)
    averaged.register_comm_hook(all_reduces, _average)
    rules, rank_difference = [], 0.0
    for scaling in RANK_SCALINGS:
        grad = _accumulate(averaged, window, scaling, counts)
        measured = [measure(grad, full_batch[scaling.per]) for measure in (ratio, cosine, distance)]
        rules.append(RankedRule(scaling.name, scaling.per, *measured))
        rank_difference = max(rank_difference, _largest_difference(grad))
    with_no_sync = len(all_reduces) // len(rules)
    all_reduces.clear()
    _accumulate(averaged, window, STEP, counts, no_sync=False)
    return RankReport(
        ranks, B, G, tokens, tuple(rules), with_no_sync, len(all_reduces), rank_difference
    )


def _uneven_rows(count: int) -> TokenBatch:
    """Dates with prompt and response exchanged: the responses differ in length, shortest first."""
    pairs = [Pair(pair.response + "→", pair.prompt.rstrip("→")) for pair in date_pairs()[0]]
    rows = sorted(pairs[:count], key=lambda pair: len(pair.response))
    return build_token_batch([conversation(pair) for pair in rows], PAD, CONTEXT_LENGTH)


def _rows(batch: TokenBatch, rows: Tensor) -> TokenBatch:
    return TokenBatch(batch.input_ids[rows], batch.labels[rows], batch.response_mask[rows])


def _average(all_reduces: list, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Do what DistributedDataParallel does without a hook, and count it."""
    all_reduces.append(bucket.index())
    return allreduce_hook(None, bucket)


def _accumulate(
    model: nn.Module,
    window: list[TokenBatch],
    scaling: Scaling,
    counts: list[Counts],
    no_sync: bool = True,
) -> Gradient:
    """The gradient on this rank after one window."""
    model.zero_grad()
    for batch, counted in zip(window, counts, strict=True):
        with model.no_sync() if no_sync and batch is not window[-1] else nullcontext():
            log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
            backward(log_probs, batch.response_mask, scaling, counted)
    return {name: value.grad for name, value in model.module.named_parameters()}


def _full_batch_gradient(model: nn.Module, batch: TokenBatch, divisor: Tensor) -> Gradient:
    """The gradient of all rows in one backward pass, by torch's cross-entropy, not the step. The
    sum of each row is divided by `divisor`, () or (B,)."""
    labels = mask_labels(batch.labels, batch.response_mask)
    logits = model(batch.input_ids).mT  # (B, V, S), as torch's cross-entropy reads them
    losses = nn.functional.cross_entropy(logits, labels, reduction="none").sum(1)  # (B,)
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad((losses / divisor).sum(), list(parameters.values()))
    return dict(zip(parameters, grads, strict=True))


def _largest_difference(grad: Gradient) -> float:
    """The largest difference between two ranks, over all numbers of a gradient."""
    flat = torch.cat([value.flatten() for value in grad.values()])
    extremes = torch.stack([flat, -flat])
    dist.all_reduce(extremes, dist.ReduceOp.MAX)  # the largest, and minus the smallest
    return extremes.sum(dim=0).max().item()


if __name__ == "__main__":
    main()
