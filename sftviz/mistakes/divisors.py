"""Wrong divisors: the masked sum is right, and divided by something else than c and G²."""

from collections.abc import Callable

from sftviz.mistakes.mistake import Mistake, Sizes, vary
from sftviz.rules import EXAMPLE_MEAN, MISTAKEN_SCALINGS, SCALINGS, STEP, Divisor, Scaling

_REMEDY = "Divide the masked sum by G, and by G again: nothing else than c and G divides it."
_SEEN = {
    "none": "as a default in tinker-cookbook (#271)",
    "G": "6 of 95 public solutions of CS336's assignment 5",
    "B·G": "85 of 95 public solutions of CS336's assignment 5",
    "averaged averages": "transformers #24725 and #34191, trl #2175",
    "one weight per example": "tinker-cookbook #334",
}


def _of_rule(rule: Scaling) -> Mistake:
    """A rule that is not the step's, as a mistake: the same function divides."""
    name = rule.name if " " in rule.name or rule.name == "none" else f"÷{rule.name}"
    name = "not divided" if name == "none" else name
    cause = f"The masked sum is {rule.description}."
    if not rule.description.startswith(("divided", "not divided")):
        cause = f"The loss is {rule.description}."
    if rule is EXAMPLE_MEAN:
        cause = f"In the loss, {rule.description}."
    seen = _SEEN.get(rule.name, "")
    return Mistake(name, cause, _REMEDY, "step", vary(divisor=rule.divisor), seen)


# Powers are of floats: an int with a million digits takes seconds.
def _divided(name: str, by: str, divisor: Callable[[Sizes], Divisor]) -> Mistake:
    cause = f"The masked sum is divided by {by}, not by G²."
    return Mistake(name, cause, _REMEDY, "step", vary(divisor=divisor))


# In one step the tokens of the window are not known, so that rule has no place here.
_RULES = [rule for rule in SCALINGS if rule is not STEP and rule.name != "tokens"]

DIVISORS = (
    *map(_of_rule, (*_RULES, EXAMPLE_MEAN, *MISTAKEN_SCALINGS)),
    _divided("÷G³", "G three times", lambda n: n.G**3),
    _divided("÷2G", "2G, which is G² only if G = 2", lambda n: 2 * n.G),
    _divided("÷(G+2)", "G + 2, which is G² only if G = 2", lambda n: n.G + 2),
    _divided("÷G^G", "G to the power of G, which is G² only if G ≤ 2", lambda n: float(n.G) ** n.G),
    _divided("÷2^G", "2 to the power of G, which is G² only if G = 2 or 4", lambda n: 2.0**n.G),
    _divided("÷(B+G)", "the sum of B and G", lambda n: n.B + n.G),
    _divided("÷B²", "the number of rows twice", lambda n: n.B**2),
    _divided("÷B", "the number of rows alone", lambda n: n.B),
    _divided("token mean", "the response tokens alone", lambda n: n.num_tokens or 1),
    _divided(
        "token mean ÷G²",
        "the response tokens, and then by G²",
        lambda n: (n.num_tokens or 1) * n.G**2,
    ),
    _divided(
        "mean of row means",
        "the response tokens of each row, by the number of rows, and then by G²",
        lambda n: [n.B * n.G**2 * (tokens or 1) for tokens in n.row_tokens],
    ),
    _divided("dense mean", "all B·S tokens, masked ones too, and by G", lambda n: n.B * n.S * n.G),
)

CONSTANTS = (
    Mistake(
        "c left out",
        "The masked sum is not divided by normalize_constant.",
        "Divide the masked sum by normalize_constant.",
        "step",
        vary(constant=lambda c: 1),
    ),
    Mistake(
        "c twice",
        "The masked sum is divided by normalize_constant two times.",
        "Divide by normalize_constant once: masked_normalize does so already.",
        "step",
        vary(constant=lambda c: c * c),
    ),
    Mistake(
        "c multiplied",
        "The masked sum is multiplied by normalize_constant.",
        "Divide the masked sum by normalize_constant.",
        "step",
        vary(constant=lambda c: 1 / c),
    ),
)
