"""The step as a diagram that is its own input."""

import math
import re
from collections.abc import Sequence

import ipywidgets
import traitlets
from torch import Tensor

from sftviz.batch import Batch, matrix
from sftviz.drawing import Drawing
from sftviz.examples import PRESETS, WORKED_EXAMPLE
from sftviz.explorers.live_drawing import LiveDrawing
from sftviz.scene import Frame
from sftviz.sheet import Tokens, check_tokens
from sftviz.step import StepTrace
from sftviz.validate import check_step
from sftviz.views import NARROWEST, WIDTH, step_flow

CONTROLS = (
    "preset",
    "gradient_accumulation_steps",
    "normalize_constant",
    "policy_log_probs",
    "response_mask",
)
_ACTIONS = {"response_mask": "toggle", "policy_log_probs": "move"}
_STATE = ("policy_log_probs", "response_mask", "gradient_accumulation_steps", "normalize_constant")
_WRAP = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
_OWN = "as given"  # the preset that is the explorer's own start
_TOKEN = re.compile(r"(\w+)\[(\d+),(\d+)\]")


class StepExplorer(ipywidgets.VBox):
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
        controls: which of `CONTROLS` are offered; the others stay as they were given.

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
    selected = traitlets.Any((0, 0))  # row and column of a token

    def __init__(
        self,
        policy_log_probs: Tensor | Sequence[Sequence[float]] | None = None,
        response_mask: Tensor | Sequence[Sequence[float]] | None = None,
        gradient_accumulation_steps: int = WORKED_EXAMPLE.gradient_accumulation_steps,
        normalize_constant: float = WORKED_EXAMPLE.normalize_constant,
        tokens: Tokens | None = None,
        controls: Sequence[str] = CONTROLS,
    ) -> None:
        if strange := set(controls) - set(CONTROLS):
            raise ValueError(f"controls must be among {CONTROLS}, got {min(strange)!r}.")
        if policy_log_probs is None:
            policy_log_probs = WORKED_EXAMPLE.policy_log_probs
            response_mask = WORKED_EXAMPLE.response_mask if response_mask is None else response_mask
            tokens = WORKED_EXAMPLE.tokens if tokens is None else tokens
        policy_log_probs = matrix("policy_log_probs", policy_log_probs)
        if response_mask is None:
            response_mask = policy_log_probs.new_ones(policy_log_probs.shape)
        self._start = Batch(
            policy_log_probs,
            matrix("response_mask", response_mask),
            gradient_accumulation_steps,
            normalize_constant,
            tokens,
        )
        check_tokens(self._start.trace(), tokens)

        self.live = LiveDrawing(
            actions={field: action for field, action in _ACTIONS.items() if field in controls}
        )
        self._shown: dict[str, float | None] = {}  # the values that `live` was last given
        self._controls: dict[str, ipywidgets.Widget] = {}
        super().__init__()
        self.add_class("sftviz-explorer")
        self.load(self._start)
        self._controls = self._make_controls(controls)
        self._show_controls()
        self.children = (ipywidgets.Box(tuple(self._controls.values()), layout=_WRAP), self.live)
        self.live.observe(self._take_values, "values")
        self.live.observe(self._take_selected, "selected")
        self.live.observe(self._redraw, "columns")

    @property
    def batch(self) -> Batch:
        """The state, as the arguments of the step."""
        return Batch(*(getattr(self, name) for name in _STATE), self.tokens)

    @property
    def trace(self) -> StepTrace:
        """The step, run on the state."""
        return self.batch.trace()

    @property
    def drawing(self) -> Drawing:
        """The step flow of the state, as a picture that stands still."""
        return step_flow(self.trace, self.tokens)

    def load(self, batch: Batch) -> None:
        """Take over all arguments of a batch at once."""
        with self.hold_trait_notifications():
            for name in (*_STATE, "tokens"):
                setattr(self, name, getattr(batch, name))
            self.selected = (0, 0)

    @traitlets.validate(*_STATE)
    def _check(self, proposal: dict) -> object:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            if name in _ACTIONS:
                value = matrix(name, value)
            check_step(**{**{other: getattr(self, other) for other in _STATE}, name: value})
        except (TypeError, ValueError) as error:
            raise traitlets.TraitError(str(error)) from error
        return value

    @traitlets.observe(*_STATE, "tokens", "selected")
    def _redraw(self, change: object = None) -> None:
        columns = self.live.columns or WIDTH
        drawing = step_flow(self.trace, self.tokens, max(NARROWEST, min(columns, WIDTH)))
        self._shown = self._values(drawing)
        self.live.show(drawing, self._shown)
        self._show_controls()

    def _values(self, drawing: Drawing) -> dict[str, float | None]:
        """What can be changed in a drawing, by key; None for what JSON has no number for."""
        values = {}
        for mark in drawing.scene.marks():
            if isinstance(mark, Frame) and (place := _TOKEN.fullmatch(mark.key or "")):
                field, row, column = place[1], int(place[2]), int(place[3])
                if field in self.live.actions:
                    value = float(getattr(self, field)[row, column])
                    # Six digits are what a float32 is sure of: −0.3, not −0.30000001192092896.
                    values[mark.key] = float(f"{value:.6g}") if math.isfinite(value) else None
        return values

    def _take_values(self, change: dict) -> None:
        """Take over what was changed in the drawing. What is as it was shown was not changed."""
        edits = {key: new for key, new in change["new"].items() if new != self._shown.get(key)}
        if edits:
            with self.live.guard():
                self._edit(edits)

    def _edit(self, edits: dict[str, float]) -> None:
        fields = {}
        for key, value in edits.items():
            place = _TOKEN.fullmatch(key)
            if place is None or place[1] not in self.live.actions:
                raise ValueError(f"{key!r} can't be changed here: change a log-prob or a mask bit.")
            field = fields.setdefault(place[1], getattr(self, place[1]).clone())
            field[int(place[2]), int(place[3])] = value
        with self.hold_trait_notifications():
            for name, field in fields.items():
                setattr(self, name, field)

    def _take_selected(self, change: dict) -> None:
        if place := _TOKEN.fullmatch(change["new"]):
            self.selected = (int(place[2]), int(place[3]))

    # --- the controls beside the drawing ----------------------------------------------------------

    def _make_controls(self, names: Sequence[str]) -> dict[str, ipywidgets.Widget]:
        wide = {"style": {"description_width": "initial"}}
        made = {
            "preset": ipywidgets.Dropdown(options=[_OWN, *PRESETS], description="preset"),
            "gradient_accumulation_steps": ipywidgets.IntSlider(
                min=1,
                max=max(16, self.gradient_accumulation_steps),
                description="G",
                tooltip="gradient_accumulation_steps",
                **wide,
            ),
            "normalize_constant": ipywidgets.FloatText(
                description="c", tooltip="normalize_constant", layout={"width": "120px"}, **wide
            ),
            "policy_log_probs": ipywidgets.FloatSlider(
                max=0.0, step=0.01, layout={"width": "min(100%, 400px)"}, **wide
            ),
        }
        controls = {name: control for name, control in made.items() if name in names}
        for name, control in controls.items():
            control.observe(lambda change, name=name: self._take_control(name, change.new), "value")
        return controls

    def _show_controls(self) -> None:
        """Let the controls follow the state."""
        row, column = self.selected
        log_prob = float(self.policy_log_probs[row, column])
        for name, control in self._controls.items():
            match name:
                case "preset":
                    continue
                case "policy_log_probs":
                    control.description = f"log-prob of row {row + 1}, token {column + 1}"
                    control.disabled = not math.isfinite(log_prob)
                    if not control.disabled:
                        control.min, control.max = min(-5.0, log_prob), max(0.0, log_prob)
                        control.value = log_prob
                case _:
                    control.value = getattr(self, name)

    def _take_control(self, name: str, value: object) -> None:
        with self.live.guard():
            match name:
                case "preset":
                    self.load(PRESETS.get(value, self._start))
                case "policy_log_probs":
                    row, column = self.selected
                    if not math.isclose(value, self.policy_log_probs[row, column], abs_tol=1e-6):
                        self._edit({f"policy_log_probs[{row},{column}]": value})
                case _:
                    setattr(self, name, value)

    # --- how it shows -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        return self.drawing.text

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, object]:
        # The picture beside the widget: what a notebook that nobody has run yet can show.
        return super()._repr_mimebundle_(**kwargs) | self.drawing._repr_mimebundle_()
