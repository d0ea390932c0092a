"""Pictures of a trace: whole ones as literals, and what holds for a picture of any trace."""

import inspect
import math
import re
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import width as cells

from sftviz import (
    WORKED_EXAMPLE,
    gradient_formula,
    gradient_table,
    key_formula,
    step_flow,
    token_table,
    trace_step,
)
from sftviz.drawing.scene import Cell, Frame, Text
from sftviz.drawing.text import draw
from sftviz.validate import above_zero
from sftviz.views.step import TOKEN_FIELDS

WIDE = """
╭────────────────────────────────────────────────────────────────────────────────────────────────╮
│ (0) Inputs                policy_log_probs  (B, S) = (2, 4)                                    │
│                                  Yes           .        Why?     Because                       │
│                           [     −0.5] [     −0.3] ░     −0.8░ [     −0.2]                      │
│                                  The         sky          is        blue                       │
│                           [     −0.4] [     −0.6] [     −0.3] [     −0.5]                      │
│                                                                                                │
│                           response_mask  1 = response, 0 = masked                              │
│                           [        1] [        1] ░        0░ [        1]                      │
│                           [        1] [        1] [        1] [        1]                      │
│                                                                                                │
│                           gradient_accumulation_steps  = G                         [        2] │
│                           normalize_constant  = c                                  [        1] │
╰──┬─────────────────────────────────────────────────────────────────────────────────────────────╯
╭──▼─────────────────────────────────────────────────────────────────────────────────────────────╮
│ (1) Count tokens          num_tokens = response_mask.sum()                                     │
│                                      = 3 + 4  of 8                                 [        7] │
╰──┬─────────────────────────────────────────────────────────────────────────────────────────────╯
╭──▼─────────────────────────────────────────────────────────────────────────────────────────────╮
│ (2) Masked sum            masked_log_probs = torch.where(response_mask, policy_log_probs, 0)   │
│                           [     −0.5] [     −0.3] ░        0░ [     −0.2] Σ −1                 │
│                           [     −0.4] [     −0.6] [     −0.3] [     −0.5] Σ −1.8               │
│                           masked_sum = _sum(masked_log_probs) / normalize_constant             │
│                                      = (−1 − 1.8) ÷ 1                              [     −2.8] │
╰──┬─────────────────────────────────────────────────────────────────────────────────────────────╯
╭──▼─────────────────────────────────────────────────────────────────────────────────────────────╮
│ (3) Negate, divide by G   loss = -masked_sum / G                                               │
│                                = −(−2.8) ÷ 2                                       [      1.4] │
╰──┬─────────────────────────────────────────────────────────────────────────────────────────────╯
╭──▼─────────────────────────────────────────────────────────────────────────────────────────────╮
│ (4) Divide by G again     scaled_loss = loss / G                                               │
│                                       = 1.4 ÷ 2  in all ÷ G² = ÷ 4                 [      0.7] │
╰──┬─────────────────────────────────────────────────────────────────────────────────────────────╯
╭──▼─────────────────────────────────────────────────────────────────────────────────────────────╮
│ (5) Backward              scaled_loss.backward()                                               │
│                           [    −0.25] [    −0.25] ░        0░ [    −0.25]                      │
│                           [    −0.25] [    −0.25] [    −0.25] [    −0.25]                      │
│                           grad = −1 ÷ (G² · c) = −1 ÷ (2² · 1)  0 at masked tokens [    −0.25] │
╰──┬─────────────────────────────────────────────────────────────────────────────────────────────╯
╭──▼─────────────────────────────────────────────────────────────────────────────────────────────╮
│ (6) Return                return scaled_loss.detach(), metadata                                │
│                                  0.7, {"num_tokens": 7, "masked_sum": −2.8}                    │
╰────────────────────────────────────────────────────────────────────────────────────────────────╯"""

FOLDED = """
╭────────────────────────────────────────────────────╮    ╭────────────────────────────────────────────────────╮
│ (0) Inputs                                         │  ⡤⠤│ (3) Negate, divide by G                            │
│ policy_log_probs  (B, S) = (2, 4)                  │  ⡇ │ loss = -masked_sum / G                             │
│        Yes           .        Why?     Because     │  ⡇ │      = −(−2.8) ÷ 2                     [      1.4] │
│ [     −0.5] [     −0.3] ░     −0.8░ [     −0.2]    │  ⡇ ╰──┬─────────────────────────────────────────────────╯
│        The         sky          is        blue     │  ⡇ ╭──▼─────────────────────────────────────────────────╮
│ [     −0.4] [     −0.6] [     −0.3] [     −0.5]    │  ⡇ │ (4) Divide by G again                              │
│                                                    │  ⡇ │ scaled_loss = loss / G                             │
│ response_mask  1 = response, 0 = masked            │  ⡇ │             = 1.4 ÷ 2                              │
│ [        1] [        1] ░        0░ [        1]    │  ⡇ │               in all ÷ G² = ÷ 4        [      0.7] │
│ [        1] [        1] [        1] [        1]    │  ⡇ ╰──┬─────────────────────────────────────────────────╯
│                                                    │  ⡇ ╭──▼─────────────────────────────────────────────────╮
│ gradient_accumulation_steps  = G       [        2] │  ⡇ │ (5) Backward                                       │
│ normalize_constant  = c                [        1] │  ⡇ │ scaled_loss.backward()                             │
╰──┬─────────────────────────────────────────────────╯  ⡇ │ [    −0.25] [    −0.25] ░        0░ [    −0.25]    │
╭──▼─────────────────────────────────────────────────╮  ⡇ │ [    −0.25] [    −0.25] [    −0.25] [    −0.25]    │
│ (1) Count tokens                                   │  ⡇ │ grad = −1 ÷ (G² · c)                               │
│ num_tokens = response_mask.sum()                   │  ⡇ │      = −1 ÷ (2² · 1)                               │
│            = 3 + 4  of 8               [        7] │  ⡇ │        0 at masked tokens              [    −0.25] │
╰──┬─────────────────────────────────────────────────╯  ⡇ ╰──┬─────────────────────────────────────────────────╯
╭──▼─────────────────────────────────────────────────╮  ⡇ ╭──▼─────────────────────────────────────────────────╮
│ (2) Masked sum                                     │  ⡇ │ (6) Return                                         │
│ masked_log_probs = torch.where(response_mask,      │  ⡇ │ return scaled_loss.detach(), metadata              │
│     policy_log_probs, 0)                           │  ⡇ │        0.7,                                        │
│ [     −0.5] [     −0.3] ░        0░ [     −0.2]    │  ⡇ │        {"num_tokens": 7, "masked_sum": −2.8}       │
│ [     −0.4] [     −0.6] [     −0.3] [     −0.5]    │⠉⠉⠁ ╰────────────────────────────────────────────────────╯
│ masked_sum = _sum(masked_log_probs) /              │
│     normalize_constant                             │
│            = (−1 − 1.8) ÷ 1            [     −2.8] │
╰────────────────────────────────────────────────────╯"""  # noqa: E501

AT_80 = """
╭──────────────────────────────────────────────────────────────────────╮
│ (0) Inputs                                                           │
│ policy_log_probs  (B, S) = (2, 4)                                    │
│        Yes           .        Why?     Because                       │
│ [     −0.5] [     −0.3] ░     −0.8░ [     −0.2]                      │
│        The         sky          is        blue                       │
│ [     −0.4] [     −0.6] [     −0.3] [     −0.5]                      │
│                                                                      │
│ response_mask  1 = response, 0 = masked                              │
│ [        1] [        1] ░        0░ [        1]                      │
│ [        1] [        1] [        1] [        1]                      │
│                                                                      │
│ gradient_accumulation_steps  = G                         [        2] │
│ normalize_constant  = c                                  [        1] │
╰──┬───────────────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────────────╮
│ (1) Count tokens                                                     │
│ num_tokens = response_mask.sum()                                     │
│            = 3 + 4  of 8                                 [        7] │
╰──┬───────────────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────────────╮
│ (2) Masked sum                                                       │
│ masked_log_probs = torch.where(response_mask, policy_log_probs, 0)   │
│ [     −0.5] [     −0.3] ░        0░ [     −0.2] Σ −1                 │
│ [     −0.4] [     −0.6] [     −0.3] [     −0.5] Σ −1.8               │
│ masked_sum = _sum(masked_log_probs) / normalize_constant             │
│            = (−1 − 1.8) ÷ 1                              [     −2.8] │
╰──┬───────────────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────────────╮
│ (3) Negate, divide by G                                              │
│ loss = -masked_sum / G                                               │
│      = −(−2.8) ÷ 2                                       [      1.4] │
╰──┬───────────────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────────────╮
│ (4) Divide by G again                                                │
│ scaled_loss = loss / G                                               │
│             = 1.4 ÷ 2  in all ÷ G² = ÷ 4                 [      0.7] │
╰──┬───────────────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────────────╮
│ (5) Backward                                                         │
│ scaled_loss.backward()                                               │
│ [    −0.25] [    −0.25] ░        0░ [    −0.25]                      │
│ [    −0.25] [    −0.25] [    −0.25] [    −0.25]                      │
│ grad = −1 ÷ (G² · c) = −1 ÷ (2² · 1)  0 at masked tokens [    −0.25] │
╰──┬───────────────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────────────╮
│ (6) Return                                                           │
│ return scaled_loss.detach(), metadata                                │
│        0.7, {"num_tokens": 7, "masked_sum": −2.8}                    │
╰──────────────────────────────────────────────────────────────────────╯"""

AT_48 = """
╭──────────────────────────────────────────────╮
│ (0) Inputs                                   │
│ policy_log_probs  (B, S) = (2, 4)            │
│ [ −0.5] [ −0.3] ░ −0.8░ [ −0.2]              │
│ [ −0.4] [ −0.6] [ −0.3] [ −0.5]              │
│                                              │
│ response_mask  1 = response, 0 = masked      │
│ [    1] [    1] ░    0░ [    1]              │
│ [    1] [    1] [    1] [    1]              │
│                                              │
│ gradient_accumulation_steps  = G [        2] │
│ normalize_constant  = c          [        1] │
╰──┬───────────────────────────────────────────╯
╭──▼───────────────────────────────────────────╮
│ (1) Count tokens                             │
│ num_tokens = response_mask.sum()             │
│            = 3 + 4  of 8         [        7] │
╰──┬───────────────────────────────────────────╯
╭──▼───────────────────────────────────────────╮
│ (2) Masked sum                               │
│ masked_log_probs = torch.where(              │
│     response_mask, policy_log_probs, 0)      │
│ [ −0.5] [ −0.3] ░    0░ [ −0.2] Σ −1         │
│ [ −0.4] [ −0.6] [ −0.3] [ −0.5] Σ −1.8       │
│ masked_sum = _sum(masked_log_probs) /        │
│     normalize_constant                       │
│            = (−1 − 1.8) ÷ 1      [     −2.8] │
╰──┬───────────────────────────────────────────╯
╭──▼───────────────────────────────────────────╮
│ (3) Negate, divide by G                      │
│ loss = -masked_sum / G                       │
│      = −(−2.8) ÷ 2               [      1.4] │
╰──┬───────────────────────────────────────────╯
╭──▼───────────────────────────────────────────╮
│ (4) Divide by G again                        │
│ scaled_loss = loss / G                       │
│             = 1.4 ÷ 2                        │
│       in all ÷ G² = ÷ 4          [      0.7] │
╰──┬───────────────────────────────────────────╯
╭──▼───────────────────────────────────────────╮
│ (5) Backward                                 │
│ scaled_loss.backward()                       │
│ [−0.25] [−0.25] ░    0░ [−0.25]              │
│ [−0.25] [−0.25] [−0.25] [−0.25]              │
│ grad = −1 ÷ (G² · c)                         │
│      = −1 ÷ (2² · 1)                         │
│       0 at masked tokens         [    −0.25] │
╰──┬───────────────────────────────────────────╯
╭──▼───────────────────────────────────────────╮
│ (6) Return                                   │
│ return scaled_loss.detach(), metadata        │
│        0.7, {"num_tokens": 7, "masked_sum":  │
│     −2.8}                                    │
╰──────────────────────────────────────────────╯"""

LENS = """
╭──────────────────────────────────────────────────────────────╮
│ (0) Inputs                                                   │
│ 9 rows of 30 tokens; 180 of 270 count. The higher a bar, the │
│ more surprising the token: a step up is twice −log-prob, the │
│ highest is 8 or more. Hatched (░): masked.                   │
│ row 1▸░░███░░███░░███░░███░░███░░███░░███░░███░░███░░███  20 │
│ row 2▸░░███░░███░░███░░███░░███░░███░░███░░███░░███░░███  20 │
│ row 3▸░░███░░███░░███░░███░░███░░███░░███░░███░░███░░███  20 │
│ row 4▸░░███░░███░░███░░███░░███░░███░░███░░███░░███░░███  20 │
│ row 5▸░░███░░███░░███░░███░░███░░███░░███░░███░░███░░███  20 │
│ row 6▸░░███░░███░░███░░███░░███░░███░░███░░███░░███░░███  20 │
│ row 7▸░░███░░███░░███░░███░░███░░███░░███░░███░░███░░▇▇▇  20 │
│ row 8▸░░▇▇▇░░▇▇▇░░▇▇▇░░▇▇▇░░▇▇▇░░▇▇▇░░▇▇▇░░▇▇▇░░▇▇▇░░▇▇▆  20 │
│ row 9 ░░▆▆▆░░▆▆▆░░▆▆▆░░▆▆▆░░▆▆▆░░▅▅▅░░▅▅▅░░▅▅▄░░▄▄▄░░▃▃▂  20 │
│       └─────┘ tokens 1–4, rows 1–8                           │
│                                                              │
│ policy_log_probs  (B, S) = (9, 30)                           │
│    token 1     token 2     token 3     token 4               │
│ ░   −33.75░ [   −33.62] [    −33.5] ░   −33.38░              │
│ ░      −30░ [   −29.88] [   −29.75] ░   −29.62░              │
│ ░   −26.25░ [   −26.12] [      −26] ░   −25.88░              │
│ ░    −22.5░ [   −22.38] [   −22.25] ░   −22.12░              │
│ ░   −18.75░ [   −18.62] [    −18.5] ░   −18.38░              │
│ ░      −15░ [   −14.88] [   −14.75] ░   −14.62░              │
│ ░   −11.25░ [   −11.12] [      −11] ░   −10.88░              │
│ ░     −7.5░ [   −7.375] [    −7.25] ░   −7.125░              │
│                                                              │
│ response_mask  1 = response, 0 = masked                      │
│ ░        0░ [        1] [        1] ░        0░              │
│ ░        0░ [        1] [        1] ░        0░              │
│ ░        0░ [        1] [        1] ░        0░              │
│ ░        0░ [        1] [        1] ░        0░              │
│ ░        0░ [        1] [        1] ░        0░              │
│ ░        0░ [        1] [        1] ░        0░              │
│ ░        0░ [        1] [        1] ░        0░              │
│ ░        0░ [        1] [        1] ░        0░              │
│ tokens 1–4, rows 1–8; sums are over all                      │
│ gradient_accumulation_steps  = G                 [        3] │
│ normalize_constant  = c                          [        2] │
╰──┬───────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────╮
│ (1) Count tokens                                             │
│ num_tokens = response_mask.sum()                             │
│            = 20 + 20 + 20 + … + 20  of 270       [      180] │
╰──┬───────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────╮
│ (2) Masked sum                                               │
│ masked_log_probs = torch.where(response_mask,                │
│     policy_log_probs, 0)                                     │
│ ░        0░ [   −33.62] [    −33.5] ░        0░ Σ −637.5     │
│ ░        0░ [   −29.88] [   −29.75] ░        0░ Σ −562.5     │
│ ░        0░ [   −26.12] [      −26] ░        0░ Σ −487.5     │
│ ░        0░ [   −22.38] [   −22.25] ░        0░ Σ −412.5     │
│ ░        0░ [   −18.62] [    −18.5] ░        0░ Σ −337.5     │
│ ░        0░ [   −14.88] [   −14.75] ░        0░ Σ −262.5     │
│ ░        0░ [   −11.12] [      −11] ░        0░ Σ −187.5     │
│ ░        0░ [   −7.375] [    −7.25] ░        0░ Σ −112.5     │
│ masked_sum = _sum(masked_log_probs) / normalize_constant     │
│            = (−637.5 − 562.5 − 487.5 + … − 37.5)             │
│      ÷ 2                                         [    −1519] │
╰──┬───────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────╮
│ (3) Negate, divide by G                                      │
│ loss = -masked_sum / G                                       │
│      ≈ −(−1519) ÷ 3                              [    506.2] │
╰──┬───────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────╮
│ (4) Divide by G again                                        │
│ scaled_loss = loss / G                                       │
│             ≈ 506.2 ÷ 3  in all ÷ G² = ÷ 9       [    168.8] │
╰──┬───────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────╮
│ (5) Backward                                                 │
│ scaled_loss.backward()                                       │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ ░        0░ [ −0.05556] [ −0.05556] ░        0░              │
│ grad = −1 ÷ (G² · c) = −1 ÷ (3² · 2)                         │
│       0 at masked tokens                         [ −0.05556] │
╰──┬───────────────────────────────────────────────────────────╯
╭──▼───────────────────────────────────────────────────────────╮
│ (6) Return                                                   │
│ return scaled_loss.detach(), metadata                        │
│        168.8, {"num_tokens": 180, "masked_sum": −1519}       │
╰──────────────────────────────────────────────────────────────╯"""


def picture(text):
    """A literal: its first line is empty, so that the rest stands at the margin."""
    return text.removeprefix("\n")


def rows_of(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


@pytest.fixture
def uneven():
    """B = 3, S = 4, G = 5, c = 7: no number of it is another one's."""
    generator = torch.Generator().manual_seed(7)
    log_probs = -3 * torch.rand(3, 4, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
    return trace_step(log_probs, mask, 5, 7.0)


@pytest.fixture
def large():
    generator = torch.Generator().manual_seed(3)
    log_probs = -3 * torch.rand(64, 1024, generator=generator, dtype=torch.float64)
    return trace_step(log_probs, torch.rand(64, 1024, generator=generator) < 0.7, 3, 2.0)


# ---------------------------------------------------------------- whole pictures


def test_the_worked_example_wide():
    trace = WORKED_EXAMPLE.trace()
    assert step_flow(trace, WORKED_EXAMPLE.tokens, 100).text == picture(WIDE)


def test_the_worked_example_where_its_tokens_have_room_in_half_of_the_width():
    trace = WORKED_EXAMPLE.trace()
    assert step_flow(trace, WORKED_EXAMPLE.tokens).text == picture(FOLDED)


@pytest.mark.parametrize("width", [108, 112, 127, 128, 140])
def test_the_layout_stays_while_numbers_change(width):
    layouts = set()
    for mask in (torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]), WORKED_EXAMPLE.response_mask):
        for G in (1, 3, 7, 16):
            for shift in (0.0, -0.01, -0.123, -1.5, -9.25):
                trace = trace_step(WORKED_EXAMPLE.policy_log_probs + shift, mask, G)
                page = step_flow(trace, WORKED_EXAMPLE.tokens, width).page
                places = [(x, y) for x, y, shape in page.marks if not isinstance(shape, Text)]
                layouts.add((page.width, page.height, tuple(places)))
    assert len(layouts) == 1
    scene = step_flow(trace, WORKED_EXAMPLE.tokens, width).scene
    assert len(scene.columns) == 2 and ("Σ" in draw(scene)) is (width >= 128)
    assert len(step_flow(trace, WORKED_EXAMPLE.tokens, 107).scene.columns) == 1


def test_a_long_sum_has_its_lines_from_the_start():
    short, long = (
        trace_step(torch.full((3, 4), at), torch.ones(3, 4), 2) for at in (-1.0, -1.2345)
    )
    heights = [step_flow(trace, width=112).scene.columns[0].height for trace in (short, long)]
    assert heights[0] == heights[1]


def test_folded_or_not_it_has_the_same_values():
    trace, tokens = WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens
    wide, folded = (step_flow(trace, tokens, width) for width in (100, 140))
    assert set(wide.keys) == set(folded.keys) and wide.alt == folded.alt
    assert len(folded.scene.columns) == 2 and folded.scene.height < 0.75 * wide.scene.height


@pytest.mark.parametrize(
    ("trace", "tokens"),
    [
        (trace_step(torch.zeros(9, 2), torch.ones(9, 2), 2), None),  # more rows than are shown
        (trace_step(torch.zeros(2, 5), torch.ones(2, 5), 2), None),  # too many columns
        (trace_step(torch.zeros(1, 2), torch.ones(1, 2), 2), [["unabridged!", "."]]),
    ],
)
def test_it_is_not_folded_at_the_cost_of_a_token(trace, tokens):
    assert len(step_flow(trace, tokens, 112).scene.columns) == 1


def test_the_worked_example_in_a_terminal_of_80():
    trace = WORKED_EXAMPLE.trace()
    assert step_flow(trace, WORKED_EXAMPLE.tokens, 80).text == picture(AT_80)


def test_the_worked_example_at_its_narrowest_without_tokens(worked):
    assert step_flow(worked, width=48).text == picture(AT_48)


def test_a_batch_too_large_to_show_has_an_overview_and_a_lens():
    log_probs = torch.arange(-270, 0).reshape(9, 30) / 8
    mask = torch.arange(270).reshape(9, 30) % 3 > 0
    assert step_flow(trace_step(log_probs, mask, 3, 2.0), width=64).text == picture(LENS)


def test_the_key_formula_with_other_numbers():
    trace = trace_step(rows_of([-1.5, -0.25], [-2.0, -9.0]), rows_of([1, 1], [1, 0]), 4, 7.0)
    assert key_formula(trace).text == picture("""
╭──────────────────────────────────────────────────────────────────────╮
│ masked_sum  = Σ masked_log_probs ÷ c = (−1.75 − 2) ÷ 7 = [  −0.5357] │
│ loss        = −masked_sum ÷ G        = −(−0.5357) ÷ 4  = [   0.1339] │
│ scaled_loss = loss ÷ G               = 0.1339 ÷ 4      ≈ [  0.03348] │
│ grad        = −1 ÷ (G² · c)          = −1 ÷ (4² · 7)   = [−0.008929] │
╰──────────────────────────────────────────────────────────────────────╯""")


def test_the_gradient_formula_with_other_numbers():
    trace = trace_step(rows_of([-1.5, -0.25, -1.0]), rows_of([1, 0, 0]), 40, 7.0)
    assert gradient_formula(trace).text == picture("""
╭────────────────────────────────────────────────────────────────────────────╮
│ grad = ⎧ −1 ÷ (G² · c) = −1 ÷ (40² · 7) = [−8.929e−5]  at 1 response token │
│        ⎩ 0                              = ░        0░  at 2 masked tokens  │
╰────────────────────────────────────────────────────────────────────────────╯""")


def test_the_gradient_table_runs_the_step_for_each_G(worked):
    drawing = gradient_table(worked, steps=(1, 3, 32))
    assert drawing.text == picture("""
╭────────────────────────────────────────────────╮
│ G = [        1]  −1 ÷ (1² · 1)  = [        −1] │
│ G = [        3]  −1 ÷ (3² · 1)  = [   −0.1111] │
│ G = [       32]  −1 ÷ (32² · 1) = [−0.0009766] │
╰────────────────────────────────────────────────╯""")
    assert drawing.alt == (
        "Gradient at a response token: −1 for G = 1, −0.1111 for G = 3, −0.0009766 for G = 32."
    )


def test_the_token_table_of_a_batch_too_long_to_show():
    trace = trace_step(-torch.arange(1.0, 7).reshape(2, 3), rows_of([0, 1, 1], [0, 0, 1]), 2)
    tokens = (("Hi", " there", "!\n"), ("日本", "<b>", "interpretability and more"))
    assert token_table(trace, tokens, max_tokens=5).text == picture("""
╭────────────────────────────────────────────────────────────────────────────────────────────╮
│                                policy_log_probs response_mask masked_log_probs grad        │
│ row 1 token 1 Hi               ░            −1░ ░          0░ ░             0░ ░        0░ │
│ row 1 token 2 ␣there           [            −2] [          1] [            −2] [    −0.25] │
│ row 1 token 3 !↵               [            −3] [          1] [            −3] [    −0.25] │
│ ⋮     2 more                                                                               │
│ row 2 token 3 interpretabilit… [            −6] [          1] [            −6] [    −0.25] │
╰────────────────────────────────────────────────────────────────────────────────────────────╯""")


# ---------------------------------------------------------------- where the numbers come from

STRUCTURE = re.compile(
    r"\([0-6]\) |\(B, S\) = \(\d+, \d+\)|1 = response, 0 = masked|, 0\)|of \d+ |G²|"
    r"in all ÷ .*÷ \d+|0 at masked tokens|−1 ÷ \(|row \d+ token \d+|⎩ 0 "
)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e−?\d+)?")


def numbers_of(trace):
    """Every number that a picture of a trace may show, without its sign, four digits."""
    rows = trace.masked_log_probs.tolist(), trace.response_mask.tolist()
    values = [
        *(trace.num_tokens, trace.gradient_accumulation_steps, trace.normalize_constant),
        *(trace.masked_sum.item(), trace.loss.item(), trace.scaled_loss.item()),
        *(x for field in TOKEN_FIELDS for x in getattr(trace, field).flatten().tolist()),
        *(math.fsum(row) for field in rows for row in field),
    ]
    return {f"{abs(value):.4g}" for value in values}


@pytest.mark.parametrize("view", [step_flow, key_formula, gradient_formula, token_table])
def test_every_number_in_a_picture_is_the_traces(view, uneven):
    drawing = view(uneven)
    shown = set(NUMBER.findall(STRUCTURE.sub(" ", drawing.text)))
    assert len(shown) >= 4 and shown - numbers_of(uneven) == set()


def test_every_number_of_a_small_trace_is_in_its_flow(uneven):
    shown = set(NUMBER.findall(step_flow(uneven).text))
    assert numbers_of(uneven) - shown == set()


def test_the_totals_of_a_picture_of_a_part_are_those_of_all_tokens(large):
    text = step_flow(large).text
    masked_sum = math.fsum(large.policy_log_probs[large.response_mask].tolist()) / 2
    count = int(large.response_mask.sum())
    assert re.search(rf"of 65536 +\[ *{count}\]", text)
    assert float(re.search(r"÷ 2 +\[ *−(\d+)\]", text)[1]) == pytest.approx(-masked_sum, rel=1e-3)
    first = math.fsum(large.masked_log_probs[0].tolist())
    assert f"Σ −{-first:.4g}" in text


def test_a_picture_of_a_part_says_which(large):
    drawing = step_flow(large, columns=700, rows=40)
    places = [re.fullmatch(r"grad\[(\d+),(\d+)\]", key) for key in drawing.keys]
    rows = {int(place[1]) for place in places if place}
    columns = {int(place[2]) for place in places if place}
    assert rows == set(range(40, 48)) and columns == set(range(700, 708))
    assert "tokens 701–708, rows 41–48; sums are over all" in drawing.text
    assert drawing.alt.endswith(" Shown: tokens 701–708, rows 41–48.")


def test_a_picture_shows_what_autograd_left_and_not_the_formula(uneven):
    """A gradient from elsewhere appears as it is, beside a formula that it does not fit."""
    object.__setattr__(uneven, "grad", torch.full((3, 4), 0.625))
    for drawing in (step_flow(uneven), key_formula(uneven), gradient_formula(uneven)):
        assert re.search(r"\[ +0.625\]", drawing.text)


# ---------------------------------------------------------------- where they stand


@pytest.mark.parametrize(("width", "columns"), [(48, 2), (80, 4), (112, 4), (200, 4)])
def test_a_token_keeps_its_column_through_all_four_grids(width, columns, uneven, hostile):
    scene = step_flow(uneven, [row[:4] for row in (*hostile, hostile[0])], width).scene
    lefts = {}
    for x, _, shape in scene.marks():
        if isinstance(shape, Cell) and "," in (shape.key or ""):
            field, place = shape.key.split("[")
            lefts.setdefault(place, {})[field] = (x, shape.width)
    assert len(lefts) == 3 * columns and all(
        set(fields) == set(TOKEN_FIELDS) for fields in lefts.values()
    )
    assert all(len(set(fields.values())) == 1 for fields in lefts.values())
    assert len({fields["grad"][0] for fields in lefts.values()}) == columns
    rights = {place: sum(fields["grad"]) for place, fields in lefts.items()}
    for x, _, shape in scene.marks():  # and the token itself ends where its values do
        if isinstance(shape, Text) and (shape.key or "").startswith("tokens"):
            assert x + cells(shape.text) == rights[shape.key.removeprefix("tokens[")]


def test_results_stand_at_the_right_edge(uneven):
    scene = step_flow(uneven, width=100).scene
    marks = scene.marks()
    cards = [(x, shape.width) for x, _, shape in marks if isinstance(shape, Frame)]
    assert cards == [(0, scene.width)] * 7
    rights = {shape.key: x + shape.width for x, _, shape in marks if isinstance(shape, Cell)}
    for key in ("num_tokens", "masked_sum", "loss", "scaled_loss", "grad"):
        assert rights[key] == scene.width - 2


words = st.text(st.characters(exclude_categories=("Cn",)), max_size=12)
any_number = st.floats(width=32) | st.sampled_from([-0.5, -1.2345e-10, 0.0, math.nan, -math.inf])


@st.composite
def any_traces(draw):
    B, S = draw(st.integers(1, 11)), draw(st.integers(1, 40))
    some = torch.tensor(draw(st.lists(any_number, min_size=1, max_size=6)))
    log_probs = some.repeat(B * S // len(some) + 1)[: B * S].reshape(B, S)
    mask = torch.arange(B * S).reshape(B, S) % draw(st.integers(1, 4)) > 0
    return trace_step(log_probs, mask, draw(st.integers(1, 10**6)), draw(st.floats(1e-30, 1e30)))


@given(any_traces(), st.integers(48, 140), st.lists(words, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_flow_fits_its_width_with_straight_edges(trace, width, words):
    B, S = trace.policy_log_probs.shape
    tokens = [[words[(row + column) % len(words)] for column in range(S)] for row in range(B)]
    for drawing in (step_flow(trace, tokens, width), step_flow(trace, None, width)):
        for column in drawing.scene.columns:
            assert {cells(line) for line in draw(column).splitlines()} == {column.width}
        assert max(map(cells, drawing.text.splitlines())) == drawing.scene.width <= width
        ElementTree.fromstring(drawing.svg)
        assert_inside(drawing.scene)


def assert_inside(scene):
    """Every value stands within its frame, and leaves its edges free."""
    values = [shape for _, _, shape in scene.marks() if isinstance(shape, Cell)]
    assert values and all(cell.indent > 0 for cell in values)  # behind it is always a cell of air


@given(any_traces())
@settings(max_examples=50, deadline=None)
def test_any_value_stands_within_its_frame(trace):
    for drawing in (
        *(key_formula(trace), gradient_formula(trace)),
        *(gradient_table(trace, steps=(1, 7, 1000)), token_table(trace, max_tokens=9)),
    ):
        assert_inside(drawing.scene)
        assert len({cells(line) for line in drawing.text.splitlines()}) == 1


@pytest.mark.parametrize("view", [step_flow, token_table])
def test_hostile_tokens_keep_the_edges_straight(view, hostile):
    trace = trace_step(torch.full((2, 6), -0.5), torch.ones(2, 6), 2)
    lines = view(trace, hostile).text.splitlines()
    assert {cells(line) for line in lines} == {cells(lines[0])}
    assert "日本語" in "".join(lines) and "xxx…" in "".join(lines)


# ---------------------------------------------------------------- in words


def test_the_sentence_is_the_traces(uneven, worked):
    assert step_flow(worked).alt == (
        "SFT step, G = 2: 7 of 8 tokens count; masked_sum −2.8; loss 1.4; scaled_loss 0.7; "
        "gradient −0.25 at response tokens, 0 elsewhere."
    )
    masked_sum = math.fsum(uneven.policy_log_probs[uneven.response_mask].tolist()) / 7
    assert step_flow(uneven).alt == (
        f"SFT step, G = 5: 7 of 12 tokens count; masked_sum −{-masked_sum:.4g}; "
        f"loss {-masked_sum / 5:.4g}; scaled_loss {-masked_sum / 25:.4g}; "
        f"gradient −{1 / 175:.4g} at response tokens, 0 elsewhere."
    )


@pytest.mark.parametrize("view", [step_flow, key_formula, gradient_formula, token_table])
def test_every_view_has_a_sentence_and_is_pure(view, uneven):
    before = uneven.grad.clone()
    assert view(uneven).alt == step_flow(uneven).alt
    assert view(uneven) == view(uneven) and view(uneven).svg == view(uneven).svg
    assert torch.equal(uneven.grad, before)


def test_no_view_displays():
    import sftviz.views.step

    assert not re.search(
        r"\b(display|print)\(", re.sub(r">>>.*", "", inspect.getsource(sftviz.views.step))
    )


@pytest.mark.parametrize("width", [48, 112])
def test_log_probs_above_0_are_named_in_the_picture_and_in_its_sentence(width):
    log_probs = rows_of([-0.5, 0.25, -1.0], [0.5, -0.5, -2.0])
    drawing = step_flow(trace_step(log_probs, torch.ones(2, 3), 5), width=width)
    sentence = above_zero(log_probs)
    assert sentence.startswith("2 log-probs are above 0 (the first: row 1, token 2)")
    assert drawing.alt.endswith(f" at every token. {sentence}")
    shown = re.sub(r"[ │\n]+", " ", draw(drawing.scene.columns[0]))
    assert sentence in shown and drawing.scene.width <= width
    assert "above 0" not in step_flow(trace_step(-log_probs.abs(), torch.ones(2, 3), 5)).text


def test_a_number_of_lines_or_of_steps_that_is_none_is_refused(worked):
    for call, message in (
        (
            lambda: token_table(worked, max_tokens=0),
            "max_tokens must be an int of at least 1, got 0: it is a number of lines.",
        ),
        (lambda: gradient_table(worked, steps=()), "steps is empty: give at least one G."),
    ):
        with pytest.raises(ValueError) as refusal:
            call()
        assert str(refusal.value) == message


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("view", [step_flow, token_table])
@pytest.mark.parametrize(
    ("tokens", "kind", "message"),
    [
        (
            *([["a", "b"], ["c", "d"]], ValueError),
            "tokens has 2 rows of 2, 2 strings but policy_log_probs has shape (2, 4): "
            "give one string per token.",
        ),
        (
            *([["a"] * 4], ValueError),
            "tokens has 1 rows of 4 strings but policy_log_probs has shape (2, 4): "
            "give one string per token.",
        ),
        ([[1] * 4] * 2, TypeError, "tokens must be strings, got int: decode the token ids first."),
        (
            *(7, TypeError),
            "tokens must be B rows of S strings, got 7: give one string per token.",
        ),
        (
            *([1, 2], TypeError),
            "tokens must be B rows of S strings, got [1, 2]: give one string per token.",
        ),
        (
            *({"abcd": 0, "efgh": 1}, TypeError),
            "tokens must be B rows of S strings, got {'abcd': 0, 'efgh': 1}: "
            "give one string per token.",
        ),
    ],
)
def test_tokens_that_do_not_fit_are_refused(view, tokens, kind, message, worked):
    with pytest.raises(kind) as refusal:
        view(worked, tokens)
    assert type(refusal.value) is kind and str(refusal.value) == message


def test_a_width_too_small_for_a_formula_is_refused(worked):
    with pytest.raises(ValueError) as refusal:
        step_flow(worked, width=47)
    assert str(refusal.value) == (
        "width must be at least 48 cells, got 47: a formula needs that many."
    )


def test_a_gradient_table_of_no_number_is_refused(worked):
    with pytest.raises(
        ValueError, match=r"^gradient_accumulation_steps must be an int of at least 1"
    ):
        gradient_table(worked, steps=(1, 0))
