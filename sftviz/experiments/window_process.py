"""The program that each rank of `run_window` runs: one window under one rule.

python -m sftviz.experiments.window_process --ranks 2 '{"B": 3, "G": 4, "scaling": "tokens"}'
"""

import argparse
import json
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from sftviz.accumulation import backward
from sftviz.averaging import everywhere, find_rank_scaling
from sftviz.experiments.bigram import BigramModel, make_window
from sftviz.experiments.rank_process import start_ranks
from sftviz.experiments.ranks import VOCABULARY, RankedWindow
from sftviz.log_probs import get_response_log_probs
from sftviz.rules import count_window


def main() -> None:
    """Run the window on every rank; rank 0 prints a `RankedWindow` as JSON."""
    parser = argparse.ArgumentParser(prog="python -m sftviz.experiments.window_process")
    parser.add_argument("--ranks", type=int, default=2, help="processes to start (default: 2)")
    parser.add_argument("setting", type=json.loads, help="B, G, scaling, unevenness, as JSON")
    asked = parser.parse_args()
    start_ranks(asked.ranks, partial(_measure, **asked.setting))


def _measure(
    rank: int, ranks: int, B: int, G: int, scaling: str, unevenness: float = 1.0
) -> RankedWindow:
    rule = find_rank_scaling(scaling)
    window = make_window(B, ranks * G, unevenness=unevenness, vocab_size=VOCABULARY)
    share = window[rank * G : (rank + 1) * G]
    counts = [
        replace(each, **everywhere(window, ranks))
        for each in count_window([batch.response_mask for batch in share], G)
    ]
    model = DistributedDataParallel(BigramModel(VOCABULARY, dtype=torch.float64))
    own: list[list[float]] = []  # .grad after each microbatch

    def record(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        own.append(bucket.buffer().tolist())  # what this rank gives to the all-reduce
        return allreduce_hook(None, bucket)  # what DistributedDataParallel does without a hook

    model.register_comm_hook(None, record)
    for batch, counted in zip(share, counts, strict=True):
        is_last = batch is share[-1]
        with nullcontext() if is_last else model.no_sync():
            log_probs = get_response_log_probs(model, batch.input_ids, batch.labels)["log_probs"]
            backward(log_probs, batch.response_mask, rule, counted)
        if not is_last:
            own.append(model.module.table.grad.flatten().tolist())
    found: list = [None] * ranks
    dist.all_gather_object(found, (own, model.module.table.grad.flatten().tolist()))
    return RankedWindow(*zip(*found, strict=True))


if __name__ == "__main__":
    main()
