"""The step as a diagram that is its own input."""

from collections.abc import Sequence
from dataclasses import fields
from html import escape

import ipywidgets
import traitlets
from torch import Tensor

from sftviz.batch import Batch
from sftviz.drawing import Drawing
from sftviz.examples import PRESETS, WORKED_EXAMPLE
from sftviz.explorers.explorer import Explorer, number_box, show_number
from sftviz.scene import Text
from sftviz.sheet import Tokens, check_tokens
from sftviz.step import StepTrace
from sftviz.views import readings, step_flow

CONTROLS = (
    "preset",
    "reset",
    "gradient_accumulation_steps",
    "normalize_constant",
    "policy_log_probs",
    "response_mask",
    "code",
)
_ACTIONS = {"response_mask": "toggle", "policy_log_probs": "move"}
_STATE = tuple(field.name for field in fields(Batch))
_OWN = "as given"  # the preset that is the explorer's own start


class StepExplorer(Explorer):
    """The step flow, live: click a mask cell, drag a log-prob, move G, and see what follows.

    Its state is the arguments of the step and the token last touched; `trace` and `drawing` are
    computed from it. Setting one of its traits from Python does what a hand does. Of several that
    only fit together, `load` sets all at once.

    Args:
        policy_log_probs: (B, S) tensor or rows of numbers; the worked example's if left out.
        response_mask: likewise, 1 = response token; if left out, every token is one.
        gradient_accumulation_steps: int G >= 1.
        normalize_constant: finite number > 0.
        tokens: B rows of S strings, shown above the log-probs.
        controls: which of `CONTROLS` are offered; what the others hold stays as it was given.

    Raises:
        TypeError, ValueError: what `trace_step` refuses; a `TraitError` where a trait is set.

    Example:
        >>> explorer = StepExplorer(gradient_accumulation_steps=4)
        >>> explorer.response_mask = [[0, 0, 0, 1], [0, 0, 1, 1]]
        >>> explorer.trace.num_tokens, explorer.trace.scaled_loss
        (3, tensor(0.0625))
    """

    policy_log_probs = traitlets.Any()  # (B, S) tensor
    response_mask = traitlets.Any()  # (B, S) tensor
    gradient_accumulation_steps = traitlets.Any()
    normalize_constant = traitlets.Any()
    tokens = traitlets.Any()

    def __init__(
        self,
        policy_log_probs: Tensor | Sequence[Sequence[float]] | None = None,
        response_mask: Tensor | Sequence[Sequence[float]] | None = None,
        gradient_accumulation_steps: int = WORKED_EXAMPLE.gradient_accumulation_steps,
        normalize_constant: float = WORKED_EXAMPLE.normalize_constant,
        tokens: Tokens | None = None,
        controls: Sequence[str] = CONTROLS,
    ) -> None:
        if strange := [name for name in controls if name not in CONTROLS]:
            raise ValueError(f"controls must be among {', '.join(CONTROLS)}, got {strange[0]!r}.")
        if policy_log_probs is None:
            policy_log_probs = WORKED_EXAMPLE.policy_log_probs
            response_mask = WORKED_EXAMPLE.response_mask if response_mask is None else response_mask
            tokens = WORKED_EXAMPLE.tokens if tokens is None else tokens
        if response_mask is None:
            response_mask = [[1.0] * len(row) for row in policy_log_probs]
        start = Batch(
            policy_log_probs,
            response_mask,
            gradient_accumulation_steps,
            normalize_constant,
            tokens,
        )
        super().__init__(
            start,
            {name: action for name, action in _ACTIONS.items() if name in controls},
            limits={"policy_log_probs": 0.0},  # the log of a probability is never above
        )
        self._presets = {_OWN: start, **PRESETS}
        self._code = ipywidgets.HTML()
        made = self._make_controls()
        self.assemble({name: made[name] for name in made if name in controls}, [self._code])

    @property
    def code(self) -> str:
        """The lines of Python that make an explorer with this state."""
        arguments = {name: getattr(self, name) for name in _STATE}
        lines = [
            f"    {name}={_written(argument)},"
            for name, argument in arguments.items()
            if argument is not None
        ]
        return "\n".join(["from sftviz import StepExplorer", "", "StepExplorer(", *lines, ")"])

    def draw(self, trace: StepTrace, width: int) -> Drawing:
        return step_flow(trace, self.tokens, width)

    def read(self, trace: StepTrace) -> dict[str, Text]:
        return readings(trace)

    def refuse(self, batch: Batch) -> None:
        batch.check()
        check_tokens(batch.policy_log_probs.shape, batch.tokens)

    @traitlets.validate(*_STATE)
    def _check(self, proposal: dict) -> object:
        return self.checked(proposal)

    def _make_controls(self) -> dict[str, ipywidgets.DOMWidget]:
        style = {"description_width": "initial"}
        narrow = {"width": "max-content"}
        return {
            "preset": ipywidgets.Dropdown(
                options=list(self._presets), description="preset", style=style, layout=narrow
            ),
            "reset": ipywidgets.Button(description="reset", layout=narrow),
            "gradient_accumulation_steps": ipywidgets.IntSlider(
                min=1,
                max=16,
                description="G",
                tooltip="gradient_accumulation_steps",
                style=style,
            ),
            "normalize_constant": ipywidgets.FloatText(
                description="c", tooltip="normalize_constant", style=style, layout={"width": "8em"}
            ),
            "policy_log_probs": number_box("policy_log_probs"),
            "code": ipywidgets.ToggleButton(
                description="as code", tooltip="Python that makes this state", layout=narrow
            ),
        }

    def show_controls(self) -> None:
        for name, control in self.controls.items():
            match name:
                case "policy_log_probs":
                    row, token = self.selected
                    log_prob = self.policy_log_probs[row, token].item()
                    show_number(control, f"log-prob of row {row + 1}, token {token + 1}", log_prob)
                case "gradient_accumulation_steps":
                    control.max = max(control.max, self.gradient_accumulation_steps)
                    control.value = self.gradient_accumulation_steps
                case "normalize_constant":
                    control.value = self.normalize_constant
                case "code":
                    code = escape(self.code) if control.value else ""
                    self._code.value = code and f"<pre>{code}</pre>"

    def take(self, name: str, value: object) -> None:
        match name:
            case "preset":
                self.load(self._presets[value])
            case "reset":
                chosen = self.controls["preset"].value if "preset" in self.controls else _OWN
                self.load(self._presets[chosen])
            case "policy_log_probs":
                row, column = self.selected
                self.edit({f"policy_log_probs[{row},{column}]": value})
            case "code":
                self.show_controls()
            case _:
                super().take(name, value)


def _written(argument: object) -> str:
    """An argument as Python source, a tensor as the rows that it was given as."""
    if not isinstance(argument, Tensor):
        return repr(argument)
    rows = argument.tolist()
    text = repr([[float(f"{entry:.6g}") for entry in row] for row in rows])
    if not argument.is_floating_point() or set(argument.flatten().tolist()) <= {0.0, 1.0}:
        text = repr([[int(entry) for entry in row] for row in rows])
    return text.replace("nan", 'float("nan")').replace("inf", 'float("inf")')
