"""A test of the step as the text of a pytest file, which needs torch and not this package."""

from textwrap import wrap

from torch import Tensor

from sftviz.mistakes.survivors import Survivors

_LINE = 88
_BEGIN = '''\
"""A test of sft_microbatch_train_step: B = {B}, G = {G}, c = {c:g}.

{survivors}
"""

import torch

from my_step import sft_microbatch_train_step

G, C = {G}, {c!r}
LOG_PROBS = torch.tensor(
    [
{log_probs}
    ],
    dtype=torch.float64,
)
MASK = torch.tensor(
    [
{mask}
    ]
).bool()

# By hand: the log-probs where the mask is 1, divided by C; negated, and divided by G twice.
NUM_TOKENS = {num_tokens}
MASKED_SUM = (
{terms}
) / C
SCALED_LOSS = -MASKED_SUM / G / G  # {scaled_loss:.6g}
GRAD = MASK.double() * (-1 / (G * G * C))  # {grad:.6g} at each response token


def run(log_probs=LOG_PROBS, calls=1):
    leaf = log_probs.clone().requires_grad_()
    for _ in range(calls):
        loss, metadata = sft_microbatch_train_step(leaf, MASK.clone(), G, C)
    return loss, metadata, leaf.grad


def close(found, expected, rtol={rtol:g}, atol={atol:g}):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def compare(loss, metadata, grad):
    close(loss.item(), SCALED_LOSS)
'''
# What `compare` does besides, and then one function for each further call.
_PARTS = {
    "grad": """\
    close(grad, GRAD)
""",
    "metadata": """\
    assert metadata["num_tokens"] == NUM_TOKENS
    close(float(metadata["masked_sum"]), MASKED_SUM)
""",
    "": """

def test_the_numbers():
    compare(*run())
""",
    "no_graph": """

def test_the_loss_has_no_graph():
    loss, _, _ = run()
    assert not loss.requires_grad
""",
    "second_call": """

def test_gradients_add_up():
    _, _, grad = run(calls=2)
    close(grad, 2 * GRAD)
""",
    "nan": """

def test_masked_log_probs_are_not_used():
    compare(*run(LOG_PROBS.masked_fill(~MASK, float("nan"))))
""",
    "bfloat16": """

def test_16_bits_are_added_up_in_float32():
    log_probs = LOG_PROBS.bfloat16()
    loss, _, _ = run(log_probs)
    masked_sum = log_probs.double()[MASK].sum().item() / C
    close(loss.item(), -masked_sum / G / G, rtol={rtol16:g}, atol={atol16:g})
""",
}


def write_test(survivors: Survivors) -> str:
    """Write a test as a pytest file. Its comment says which known mistakes pass it.

    The file imports torch, and `sft_microbatch_train_step` from `my_step.py`.

    Example:
        >>> from sftviz.mistakes import STEP_TESTS
        >>> "def test_gradients_add_up():" in write_test(STEP_TESTS["(5, 3, 7)"].trace())
        True
    """
    test = survivors.test
    G, c = test.gradient_accumulation_steps, test.normalize_constant
    (rtol, atol), (rtol16, atol16) = test.tolerance, test.tolerance_16
    parts = [part for name, part in _PARTS.items() if not name or getattr(test, name)]
    return (_BEGIN + "".join(parts)).format(
        B=len(test.policy_log_probs),
        G=G,
        c=float(c),
        survivors="\n".join(wrap(_describe(survivors), _LINE)),
        log_probs=_rows(test.policy_log_probs),
        mask=_rows(test.response_mask.int()),
        num_tokens=survivors.right.num_tokens,
        terms=_sum(test.policy_log_probs[test.response_mask]),
        scaled_loss=survivors.right.scaled_loss.item(),
        grad=-1 / (G * G * c),
        rtol=rtol,
        atol=atol,
        rtol16=rtol16,
        atol16=atol16,
    )


def _describe(survivors: Survivors) -> str:
    alive, all_of = survivors.alive, f"{len(survivors.killers)} known mistakes"
    if not alive:
        return f"None of {all_of} passes it."
    names = ", ".join(mistake.name for mistake in alive)
    return f"{len(alive)} of {all_of} pass{'es' if len(alive) == 1 else ''} it: {names}."


def _rows(tensor: Tensor) -> str:
    return "\n".join(f"        {row}," for row in tensor.tolist())


def _sum(entries: Tensor) -> str:
    terms = [f"{'-' if each < 0 else '+'}_{abs(each)!r}" for each in entries.tolist()] or ["0.0"]
    terms[0] = terms[0].removeprefix("+_").replace("_", "")
    indent = " " * 4
    lines = wrap(" ".join(terms), _LINE, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines).replace("_", " ")  # a line never begins with a number alone
