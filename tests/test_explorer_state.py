"""One state per explorer: it is checked, run and drawn as a whole, and closed as a whole."""

import gc
import tracemalloc
from itertools import pairwise

import ipywidgets
import pytest
import torch
import traitlets
from ipywidgets.widgets import widget

from sftviz import (
    PRESETS,
    SCALINGS,
    WORKED_EXAMPLE,
    AccumulationExplorer,
    DivisorExplorer,
    ImpostorsExplorer,
    LogitsExplorer,
    LogitsInputs,
    MaskExplorer,
    Scaling,
    StepExplorer,
    StepInputs,
)
from sftviz.explorers.accumulation import WindowSetting
from sftviz.explorers.losses import LossesExplorer
from sftviz.explorers.ranks import RanksExplorer, RanksSetting
from sftviz.explorers.widget import _parts_of
from sftviz.rules import RANK_SCALINGS

STATES = {
    StepExplorer: StepInputs,
    LogitsExplorer: LogitsInputs,
    AccumulationExplorer: WindowSetting,
    RanksExplorer: RanksSetting,
}
G = {StepExplorer: "gradient_accumulation_steps", LogitsExplorer: "gradient_accumulation_steps"}
G[AccumulationExplorer] = G[RanksExplorer] = "G"


@pytest.fixture
def runs(monkeypatch):
    """Every run of a state from here on."""
    runs = []
    for state in STATES.values():
        trace = state.trace
        monkeypatch.setattr(state, "trace", lambda self, run=trace: runs.append(self) or run(self))
    return runs


@pytest.fixture
def drawn(monkeypatch):
    """Every picture that an explorer draws from here on."""
    drawn = []
    for explorer in STATES:
        draw = explorer.draw
        monkeypatch.setattr(
            explorer, "draw", lambda *args, draw=draw: drawn.append(args) or draw(*args)
        )
    return drawn


# Once


@pytest.mark.parametrize("kind", STATES, ids=lambda kind: kind.__name__)
def test_constructing_loading_and_one_edit_each_run_and_draw_once(kind, runs, drawn):
    explorer = kind()
    assert (len(runs), len(drawn)) == (1, 1)
    setattr(explorer, G[kind], 3)
    assert (len(runs), len(drawn)) == (2, 2)
    explorer.load(explorer.state)
    assert (len(runs), len(drawn)) == (3, 3)
    if "response_mask" in explorer.live.actions:
        explorer.edit({"response_mask[0,0]": 0})
        assert (len(runs), len(drawn)) == (4, 4)


def test_another_width_or_another_selection_runs_nothing(runs):
    explorer = StepExplorer()
    explorer.live.set_state({"columns": 60})
    explorer.selected = (1, 1)
    assert len(runs) == 1


def test_setting_what_is_already_there_runs_nothing(runs):
    explorer = StepExplorer()
    explorer.gradient_accumulation_steps = 2
    assert len(runs) == 1
    with pytest.raises(traitlets.TraitError, match=r"got float 2\.0"):
        explorer.gradient_accumulation_steps = 2.0


# Together


def test_fields_that_only_fit_together_are_set_together(runs):
    explorer = StepExplorer()
    with pytest.raises(traitlets.TraitError, match="response_mask has shape"):
        explorer.response_mask = [[1, 0, 1]]
    explorer.update(policy_log_probs=[[-1, -2, -3]], response_mask=[[1, 0, 1]], tokens=None)
    assert explorer.trace.masked_sum == -4 and len(runs) == 2


def test_fields_set_while_notifications_are_held_count_together(runs):
    explorer = StepExplorer()
    seen = []
    explorer.observe(lambda change: seen.append(change["name"]), ["tokens", "normalize_constant"])
    with explorer.hold_trait_notifications():
        explorer.tokens = None
        explorer.policy_log_probs = [[-1, -2, -3]]
        with explorer.hold_trait_notifications():
            explorer.response_mask = [[1, 0, 1]]
        explorer.normalize_constant = 2.0
        assert seen == [] and explorer.trace.num_tokens == 7
    assert explorer.trace.masked_sum == -2 and len(runs) == 2
    assert sorted(seen) == ["normalize_constant", "tokens"]


def test_fields_that_do_not_fit_together_are_all_refused():
    explorer = StepExplorer()
    before = explorer.state, explorer.live.svg
    with (
        pytest.raises(traitlets.TraitError, match="response_mask has shape"),
        explorer.hold_trait_notifications(),
    ):
        explorer.gradient_accumulation_steps = 8
        explorer.response_mask = [[1]]
    assert (explorer.state, explorer.live.svg) == before
    explorer.gradient_accumulation_steps = 4
    assert explorer.trace.scaled_loss == torch.tensor(2.8 / 16)


def test_what_can_not_be_drawn_is_refused_and_nothing_changes(monkeypatch):
    explorer = StepExplorer()
    explorer.selected = (1, 2)
    seen = []
    explorer.observe(seen.append)
    before = explorer.state, explorer.trace, explorer.live.svg, explorer.selected

    def draw(*arguments):
        raise ValueError("no picture of this")

    with monkeypatch.context() as context:
        context.setattr(StepExplorer, "draw", draw)
        with pytest.raises(traitlets.TraitError, match="no picture of this"):
            explorer.gradient_accumulation_steps = 4
        with pytest.raises(ValueError, match="no picture of this"):
            explorer.load(PRESETS["padding"])
    assert (explorer.state, explorer.trace, explorer.live.svg, explorer.selected) == before
    assert seen == [] and explorer.controls["gradient_accumulation_steps"].value == 2


def test_what_no_control_can_show_is_refused_and_nothing_changes(monkeypatch):
    """The controls are set after the picture was drawn."""
    explorer = StepExplorer()
    before = explorer.state, explorer.trace, explorer.live.svg, explorer.selected
    show = StepExplorer.show_controls

    def refuse(self):
        show(self)
        if self.gradient_accumulation_steps == 4:
            raise ValueError("no control for this")

    monkeypatch.setattr(StepExplorer, "show_controls", refuse)
    with pytest.raises(traitlets.TraitError, match="no control for this"):
        explorer.gradient_accumulation_steps = 4
    assert (explorer.state, explorer.trace, explorer.live.svg, explorer.selected) == before
    assert explorer.controls["gradient_accumulation_steps"].value == 2
    explorer.gradient_accumulation_steps = 5
    assert explorer.trace.gradient_accumulation_steps == 5


LOG_PROBS, LOGITS, LABELS = -torch.rand(2, 4), torch.zeros(1, 4, 5), torch.zeros(1, 4).long()
NOT_A_STATE = {
    StepExplorer: [
        {"policy_log_probs": LOG_PROBS.to_sparse()},
        {"policy_log_probs": LOG_PROBS.to(torch.float8_e4m3fn)},
        {"policy_log_probs": LOG_PROBS.to(torch.complex64)},
        {"policy_log_probs": LOG_PROBS.to("meta")},
        {"response_mask": torch.ones(2, 4).to_sparse()},
        {"response_mask": torch.ones(2, 4).to(torch.complex64)},
        {"response_mask": False},
        {"normalize_constant": False},
        {"normalize_constant": 10**400},
        {"gradient_accumulation_steps": 0},
        {"tokens": [{"a", "b", "c", "d"}] * 2},
        {"tokens": 0},
    ],
    LogitsExplorer: [
        {"logits": LOGITS.to_sparse()},
        {"logits": LOGITS.to(torch.float8_e5m2)},
        {"response_mask": torch.ones(1, 4).to(torch.complex64)},
        {"labels": LABELS.to_sparse()},
        {"labels": LABELS - 100},
        {"vocabulary": 0},
        {"vocabulary": iter("abcde")},
        {"vocabulary": set("abcde")},
        {"vocabulary": dict.fromkeys("abcde")},
    ],
    AccumulationExplorer: [
        {"scaling": None},
        {"scaling": Scaling("own", "a rule that no list has", lambda counts: 1)},
        {"scaling": Scaling("G", "another rule of this name", lambda counts: 7)},
        {"ran_out": None},
        {"ran_out": 2},
        {"ran_out": torch.tensor(True)},
        {"G": 1, "ran_out": True},
        {"forgot_zero_grad": ""},
        {"unevenness": False},
        {"B": 2.0},
        {"reached": 1.5},
    ],
    RanksExplorer: [
        {"ranks": 1},
        {"ranks": 2.0},
        {"ranks": 65},
        {"scaling": None},
        {"scaling": Scaling("G²", "another rule of this name", lambda counts: 7)},
        {"G": True},
        {"G": 0},
        {"G": 10**9},
        {"unevenness": 1.5},
        {"B": 2.0},
        {"reached": 1.5},
    ],
}


@pytest.mark.parametrize(
    "kind, changes", [(kind, changes) for kind in NOT_A_STATE for changes in NOT_A_STATE[kind]]
)
def test_whatever_was_refused_the_explorer_works_on(kind, changes):
    explorer = kind()
    before = explorer.state, explorer.live.svg, explorer.live.values
    with pytest.raises(traitlets.TraitError):
        explorer.update(**changes)
    assert (explorer.state, explorer.live.svg, explorer.live.values) == before
    explorer.live.set_state({"columns": 60})
    explorer.controls[G[kind]].value = 3
    assert explorer.live.error["message"] == "" and getattr(explorer, G[kind]) == 3
    explorer.controls["reset"].click()
    assert explorer.live.error["message"] == ""
    assert getattr(explorer, G[kind]) == getattr(before[0], G[kind])
    assert explorer.drawing.text


@pytest.mark.parametrize(
    "kind, changes",
    [
        (StepExplorer, {"policy_log_probs": LOG_PROBS.half()}),
        (StepExplorer, {"gradient_accumulation_steps": 2**60}),
        (AccumulationExplorer, {"scaling": SCALINGS[3]}),
        (AccumulationExplorer, {"G": 1}),
        (AccumulationExplorer, {"B": 40, "unevenness": 0}),
        (AccumulationExplorer, {"reached": 99}),
        (RanksExplorer, {"scaling": RANK_SCALINGS[4]}),
        (RanksExplorer, {"G": 1}),
        (RanksExplorer, {"ranks": 9, "B": 1, "unevenness": 0}),
        (RanksExplorer, {"reached": 99}),
    ],
)
def test_what_is_accepted_can_be_drawn_and_shown(kind, changes):
    for explorer in (kind(), kind(**changes)):
        explorer.update(**changes)
        state = explorer.state
        explorer.redraw()
        assert explorer.state is state and explorer.drawing.text
        for name in {"B", "G", "gradient_accumulation_steps"} & set(explorer.controls):
            assert explorer.controls[name].value == getattr(explorer, name)


def test_a_selection_that_the_new_state_does_not_have_is_given_up():
    explorer = StepExplorer()
    explorer.selected = (1, 3)
    explorer.update(policy_log_probs=[[-1.5]], response_mask=[[1]], tokens=None)
    assert explorer.selected == (0, 0)
    assert explorer.controls["policy_log_probs"].value == -1.5


# As ipywidgets' users expect


def test_a_field_can_be_observed():
    explorer = StepExplorer()
    changes = []
    explorer.observe(changes.append, "gradient_accumulation_steps")
    explorer.gradient_accumulation_steps = 4
    explorer.controls["gradient_accumulation_steps"].value = 5
    explorer.load(WORKED_EXAMPLE)
    assert [(change["old"], change["new"]) for change in changes] == [(2, 4), (4, 5), (5, 2)]
    assert {change["name"] for change in changes} == {"gradient_accumulation_steps"}


def test_an_edit_notifies_of_its_own_field_alone():
    explorer = StepExplorer()
    names = []
    explorer.observe(lambda change: names.append(change["name"]))
    explorer.edit({"response_mask[0,2]": 1})
    assert names == ["response_mask"]


def test_a_field_can_be_linked():
    explorer, slider = StepExplorer(), ipywidgets.IntSlider(min=1, max=9)
    link = traitlets.link((explorer, "gradient_accumulation_steps"), (slider, "value"))
    assert slider.value == 2
    slider.value = 7
    assert explorer.trace.gradient_accumulation_steps == 7
    explorer.load(WORKED_EXAMPLE)
    assert slider.value == 2
    link.unlink()


def test_an_observer_sees_the_finished_state():
    explorer = StepExplorer()
    seen = []
    explorer.observe(
        lambda _: seen.append((explorer.trace.num_tokens, explorer.live.alt)), "response_mask"
    )
    explorer.response_mask = [[0, 0, 0, 0], [0, 0, 0, 1]]
    assert seen == [(1, explorer.drawing.alt)]


# Its own


def test_changing_what_was_read_changes_nothing():
    explorer = StepExplorer(tokens=WORKED_EXAMPLE.tokens)
    code, picture = explorer.code, explorer.live.svg
    explorer.response_mask[0, 0] = 0
    explorer.policy_log_probs.zero_()
    assert explorer.code == code and explorer.live.svg == picture
    explorer.gradient_accumulation_steps = 4
    assert explorer.trace.num_tokens == 7


def test_changing_what_was_given_changes_nothing():
    tokens, mask = [list("abcd"), list("efgh")], torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]])
    explorer = StepExplorer(WORKED_EXAMPLE.policy_log_probs, mask, tokens=tokens)
    picture = explorer.drawing.text
    tokens[0][0], mask[0, 0] = "changed", 0
    assert explorer.drawing.text == picture
    vocabulary = list("abcde")
    explorer = LogitsExplorer(vocabulary=vocabulary)
    vocabulary[0] = "changed"
    assert "changed" not in explorer.drawing.text


@pytest.mark.parametrize("kind", [StepExplorer, LogitsExplorer])
def test_nothing_that_was_given_is_in_a_widgets_text(kind):
    """Some front ends show it as markup, others typeset `$x^2$` as mathematics."""
    given = "$x^2$<b>"
    if kind is StepExplorer:
        explorer = kind([[-1.0, -2.0]], tokens=[[given, given]])
        explorer.controls["code"].value = True
    else:
        explorer = kind(vocabulary=[given] * 5)
    texts = {
        (type(part).__name__, name): value
        for part in _parts_of(explorer, [])
        if part is not explorer.live
        for name, value in part.get_state().items()
        if "$x" in repr(value)
    }
    code = texts.pop(("HTML", "value"), "<pre>")  # in `pre` nothing is typeset
    assert texts == {} and code.startswith("<pre") and "<b>" not in code
    assert explorer.live.svg.count("$x^2$&lt;b&gt;") > 1


# Closed


def few_controls():
    return StepExplorer(controls=("code",))


@pytest.mark.parametrize(
    "kind",
    [*STATES, few_controls, DivisorExplorer, ImpostorsExplorer, LossesExplorer, MaskExplorer],
    ids=lambda kind: kind.__name__,
)
def test_closing_an_explorer_closes_all_of_it(kind):
    is_8 = hasattr(widget, "_instances")
    instances = widget._instances if is_8 else widget.Widget.widgets
    before = set(instances)
    explorer = kind()
    assert len(set(instances) - before) > 10
    explorer.close()
    assert set(instances) == before
    explorer.close()  # and again


def test_explorers_that_were_closed_leave_no_memory_behind():
    """200 of them took 26 MB while anywidget watched the script of each."""

    def use(count: int) -> None:
        for i in range(count):
            kind = list(STATES)[i % 3]
            explorer = kind()
            explorer._repr_mimebundle_()
            setattr(explorer, G[kind], 3)
            explorer.close()
        gc.collect()

    use(12)
    tracemalloc.start()
    try:
        taken = []
        for _ in range(4):
            use(9)
            taken.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # The least of all rounds: in one of them a table of ipywidgets may be made larger.
    assert min(after - before for before, after in pairwise(taken)) < 45_000
