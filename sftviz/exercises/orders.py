"""The problems whose lines are to be put in order, by name."""

from typing import Any

import torch
from torch import Tensor

from sftviz.exercises.loop_order import LOOP
from sftviz.exercises.order import Order, read
from sftviz.exercises.step import check_step
from sftviz.exercises.verdict import Verdict


def judge_step(source: str) -> Verdict:
    """Judge an order as the body of a function."""
    code = read(source)

    def your_lines(
        policy_log_probs: Tensor,
        response_mask: Tensor,
        gradient_accumulation_steps: int,
        normalize_constant: float,
    ) -> tuple[Tensor, dict[str, Any]]:
        names = locals() | {"torch": torch}
        exec(code, names)
        for name in ("scaled_loss", "num_tokens", "masked_sum"):
            if name not in names:
                raise NameError(f"{name} has no value after your lines")
        loss, masked_sum = names["scaled_loss"], names["masked_sum"].detach()
        # A detached loss without a gradient would pass for one that was computed from a copy.
        loss = loss.detach() if "backward()" in source else loss
        return loss, {"num_tokens": names["num_tokens"], "masked_sum": masked_sum}

    return check_step(your_lines)


STEP = Order(
    name="the step",
    text=(
        "Compute one step of sft_microbatch_train_step. Its arguments are there: "
        "policy_log_probs and response_mask, both (B, S), gradient_accumulation_steps and "
        "normalize_constant. After your lines, scaled_loss, num_tokens and masked_sum are "
        "returned. Not every line is needed."
    ),
    solution="""
        mask = response_mask.bool()
        num_tokens = mask.sum().item()
        masked_sum = torch.where(mask, policy_log_probs, 0).sum(dtype=torch.float32)
        masked_sum = masked_sum / normalize_constant
        loss = -masked_sum / gradient_accumulation_steps
        scaled_loss = loss / gradient_accumulation_steps
        scaled_loss.backward()
    """,
    distractors=(
        "loss = masked_sum / gradient_accumulation_steps",
        "loss.backward()",
        "masked_sum = (policy_log_probs * mask).sum(dtype=torch.float32)",
        "masked_sum = masked_sum / num_tokens",
        "num_tokens = mask.numel()",
    ),
    judge=judge_step,
)

ORDERS = {"loop": LOOP, "step": STEP}
