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
from contextlib import nullcontext
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from sftviz.experiments.dates import CONTEXT_LENGTH, PAD, Pair, conversation, date_pairs
from sftviz.experiments.ranks import NEEDS_TWO_RANKS, RankedRule, RankReport
from sftviz.experiments.transformer import TinyTransformer
from sftviz.log_probs import get_response_log_probs
from sftviz.rules import RANK_SCALINGS, Counts, Gradient, cosine, distance, ratio
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch, build_token_batch
from sftviz.validate import check_count

B, G = 3, 4  # different, so that ÷ G² differs from the mean
_TIMEOUT = timedelta(seconds=60)  # how long one rank waits for another


def main(argv: list[str] | None = None) -> None:
    """Measure on every rank; rank 0 prints a `RankReport` as JSON.

    Raises:
        SystemExit: with status 2, if there are fewer than two ranks.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sftviz.experiments.rank_process",
        description="Run the step on several ranks; compare its gradient with one process's.",
        epilog="Under torchrun the number of ranks is torchrun's: --nproc-per-node 2.",
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes to start (default: 2)")
    ranks = parser.parse_args(argv).ranks
    is_one_of_torchruns = {"TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"} <= {*os.environ}
    if is_one_of_torchruns:
        ranks = int(os.environ["WORLD_SIZE"])
    try:
        check_count("ranks", ranks, NEEDS_TWO_RANKS, least=2)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    if is_one_of_torchruns:
        _run_rank(int(os.environ["RANK"]), ranks, None)
    with tempfile.TemporaryDirectory() as folder:
        # The ranks find each other by a file: a port could be in use already.
        store = str(Path(folder, "ranks"))
        torch.multiprocessing.spawn(_run_rank, args=(ranks, store), nprocs=ranks)


def _run_rank(rank: int, ranks: int, store: str | None) -> NoReturn:
    """Run one rank and end its process. `store` is the file by which the ranks find each other."""
    torch.set_num_threads(1)  # the ranks share the cores
    # With DETAIL, DistributedDataParallel on gloo ends in a segmentation fault (torch 2.13).
    if dist.get_debug_level() == dist.DebugLevel.DETAIL:
        dist.set_debug_level(dist.DebugLevel.INFO)
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    is_one_machine = store is not None or os.environ.get("LOCAL_WORLD_SIZE") == str(ranks)
    if is_one_machine and loopback:  # otherwise gloo looks up this machine's name in the network
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, ranks) if store else None,
        rank=rank,
        world_size=ranks,
        timeout=_TIMEOUT,
    )
    try:
        report = _measure(rank, ranks)
        if rank == 0:
            print(json.dumps(asdict(report), ensure_ascii=False, indent=2))
    finally:
        dist.destroy_process_group()
    # Gloo's threads may still be releasing tensors. If the interpreter is finalized meanwhile, the
    # process is sometimes aborted (SIGABRT), so the process ends without that.
    sys.stdout.flush()
    os._exit(0)


def _measure(rank: int, ranks: int) -> RankReport:
    torch.manual_seed(0)  # the same weights on every rank
    model = TinyTransformer(width=16, heads=2, layers=1).double()
    num_rows = ranks * G * B
    batch = _uneven_rows(num_rows)
    full_batch = {
        "sequence": _full_batch_gradient(model, batch, num_rows),
        "token": _full_batch_gradient(model, batch, batch.num_tokens),
    }
    shares = [_rows(batch, rows) for rows in torch.arange(num_rows).chunk(ranks)]
    tokens = tuple(share.num_tokens for share in shares)
    microbatches = [_rows(shares[rank], rows) for rows in torch.arange(G * B).split(B)]
    counts = [
        Counts(B, G, microbatch.num_tokens, batch.num_tokens, tokens[rank], ranks)
        for microbatch in microbatches
    ]
    all_reduces: list[int] = []
    averaged = DistributedDataParallel(model)
    averaged.register_comm_hook(all_reduces, _average)
    rules, rank_difference = [], 0.0
    for scaling in RANK_SCALINGS:
        divisors = [scaling.divisor(each) for each in counts]
        grad = _accumulate(averaged, microbatches, divisors)
        measured = [measure(grad, full_batch[scaling.per]) for measure in (ratio, cosine, distance)]
        rules.append(RankedRule(scaling.name, scaling.per, *measured))
        rank_difference = max(rank_difference, _largest_difference(grad))
    in_one_window = len(all_reduces) // len(rules)
    all_reduces.clear()
    _accumulate(averaged, microbatches, divisors, no_sync=False)
    return RankReport(
        ranks=ranks,
        microbatch_size=B,
        gradient_accumulation_steps=G,
        tokens=tokens,
        rules=tuple(rules),
        all_reduces=in_one_window,
        all_reduces_without_no_sync=len(all_reduces),
        rank_difference=rank_difference,
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
    model: DistributedDataParallel,
    microbatches: list[TokenBatch],
    divisors: list[float],
    no_sync: bool = True,
) -> Gradient:
    """The gradient on this rank after one window."""
    model.zero_grad()
    for index, (microbatch, divisor) in enumerate(zip(microbatches, divisors, strict=True)):
        is_last = index == len(microbatches) - 1
        with model.no_sync() if no_sync and not is_last else nullcontext():
            log_probs = get_response_log_probs(model, microbatch.input_ids, microbatch.labels)
            # The step divides by G² and by normalize_constant: by the divisor in all.
            sft_microbatch_train_step(
                log_probs["log_probs"], microbatch.response_mask, G, divisor / G**2
            )
    return {name: value.grad for name, value in model.module.named_parameters()}


def _full_batch_gradient(model: nn.Module, batch: TokenBatch, divisor: int) -> Gradient:
    """The gradient of all rows in one backward pass, by torch's cross-entropy, not the step."""
    labels = batch.labels.masked_fill(~batch.response_mask, -100)
    logits = model(batch.input_ids)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(loss / divisor, list(parameters.values()))
    return dict(zip(parameters, grads, strict=True))


def _largest_difference(grad: Gradient) -> float:
    """The largest difference between two ranks, over all numbers of a gradient."""
    smallest = torch.cat([value.flatten() for value in grad.values()])
    largest = smallest.clone()
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return (largest - smallest).max().item()


if __name__ == "__main__":
    main()
