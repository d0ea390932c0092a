"""The explorers without a browser: to set a trait, or to send what a page would, is the click."""

import math
import re

import ipywidgets
import numpy as np
import pytest
import torch
from traitlets import TraitError

from sftviz import WORKED_EXAMPLE, StepExplorer, StepInputs, step_flow
from sftviz.examples import PRESETS
from sftviz.explorers.step import CONTROLS
from sftviz.live.widget import LiveDrawing

NAN, INF = float("nan"), float("inf")


pytestmark = pytest.mark.usefixtures("shown_errors")  # there must be none but those removed


@pytest.fixture
def explorer() -> StepExplorer:
    """The worked example."""
    return StepExplorer()


@pytest.fixture
def sent(monkeypatch) -> list[dict]:
    """Every state that a drawing sends to the page from here on."""
    messages = []

    def send(self, message, buffers=None):
        if message["method"] == "update":
            messages.append(message["state"])

    monkeypatch.setattr(LiveDrawing, "_send", send)
    return messages


def change(explorer: StepExplorer, values: dict[str, float]) -> None:
    """Send what the page sends when a person has changed some values."""
    live = explorer.live
    edits = {"id": live.acknowledged + 1, "generation": live.generation, "values": values}
    live.set_state({"edits": edits})


def click(explorer: StepExplorer, key: str, value: float) -> None:
    """Send what the page sends when a person has changed one value."""
    change(explorer, {key: value})


def shown(explorer: StepExplorer, key: str) -> str:
    """What the picture has in a frame."""
    frame = rf'<g class="\w+" data-key="{re.escape(key)}"><rect.*?<text[^>]*>([^<]*)</text></g>'
    (text,) = re.findall(frame, explorer.live.svg)
    return text


def consistent(explorer: StepExplorer) -> bool:
    """Whether everything that follows from the state has followed it."""
    live, trace = explorer.live, explorer.trace
    values = {
        **{f"policy_log_probs[{i},{j}]": trace.policy_log_probs[i, j] for i, j in _places(trace)},
        **{f"response_mask[{i},{j}]": trace.response_mask[i, j] for i, j in _places(trace)},
    }
    entries = {key: value for key, value in live.values.items() if not key.startswith("lens[")}
    lens = {"columns": explorer.columns, "rows": explorer.rows}
    return (
        explorer.drawing.text == step_flow(trace, explorer.tokens, **lens).text
        and live.alt == explorer.drawing.alt
        and set(entries) <= set(values)
        and all(
            value is None or value == pytest.approx(float(values[key]), rel=1e-5)
            for key, value in entries.items()
        )
    )


def _places(trace):
    return torch.ones_like(trace.policy_log_probs).nonzero().tolist()


# The state, and what follows from it


def test_an_explorer_starts_with_the_worked_example(explorer):
    trace = explorer.trace
    assert trace.num_tokens == 7
    assert trace.scaled_loss == torch.tensor(0.7)
    assert explorer.drawing.text == step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens).text
    assert explorer.live.values["policy_log_probs[0,2]"] == -0.8
    assert explorer.live.values["response_mask[0,2]"] == 0
    assert consistent(explorer)


def test_setting_a_trait_is_the_click(explorer):
    explorer.gradient_accumulation_steps = 4
    assert explorer.trace.scaled_loss == torch.tensor(2.8 / 16)
    assert shown(explorer, "scaled_loss") == "0.175"
    assert explorer.controls["gradient_accumulation_steps"].value == 4

    explorer.normalize_constant = 2
    assert shown(explorer, "masked_sum") == "−1.4"
    assert explorer.controls["normalize_constant"].value == 2

    explorer.response_mask = [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert shown(explorer, "num_tokens") == "1"
    assert explorer.live.values["response_mask[1,3]"] == 0

    explorer.policy_log_probs = torch.full((2, 4), -2.0)
    assert shown(explorer, "masked_sum") == "−1"
    assert explorer.controls["policy_log_probs"].value == -2
    assert consistent(explorer)


def test_what_the_step_came_to_stands_above_the_picture(explorer):
    def line():
        above = explorer.live.svg.partition('class="card"')[0]
        return "".join(re.findall(r"<text[^>]*>([^<]*)</text>", above)).strip().split("   ")

    quantities = ("num_tokens", "masked_sum", "loss", "scaled_loss", "grad")
    values = ("7", "−2.8", "1.4", "0.7", "−0.25")
    assert line() == [f"{name} = {value}" for name, value in zip(quantities, values, strict=True)]
    explorer.gradient_accumulation_steps = 4
    click(explorer, "response_mask[0,2]", 1)
    assert line()[0] == "num_tokens = 8" and line()[-1] == "grad = −0.0625"
    assert "scaled_loss = 0.225" in line()


def test_a_change_on_the_page_arrives_in_the_state(explorer):
    click(explorer, "response_mask[0,2]", 1)
    assert explorer.trace.num_tokens == 8
    click(explorer, "policy_log_probs[0,2]", -1.8)
    assert shown(explorer, "masked_sum") == "−4.6"
    assert consistent(explorer)


def test_several_changes_in_one_message_all_arrive(explorer):
    change(explorer, {"response_mask[0,0]": 0, "policy_log_probs[1,1]": -6.0})
    assert explorer.response_mask[0, 0] == 0
    assert explorer.policy_log_probs[1, 1] == -6
    assert consistent(explorer)


def test_what_was_not_touched_keeps_every_digit():
    exact = torch.tensor([[-1 / 3, -2 / 3, -1e-7]], dtype=torch.float64)
    explorer = StepExplorer(exact)
    for value in (-0.5, -0.6, -0.7):
        click(explorer, "policy_log_probs[0,1]", value)
    explorer.controls["policy_log_probs"].value = -0.25  # of the first token
    assert explorer.policy_log_probs[0].tolist() == [-0.25, -0.7, -1e-7]
    click(explorer, "response_mask[0,0]", 0)
    assert explorer.policy_log_probs[0].tolist() == [-0.25, -0.7, -1e-7]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_going_to_a_token_rounds_nothing(dtype):
    start = torch.tensor([[-1 / 3, -0.123456789, -2.0]], dtype=dtype)
    explorer = StepExplorer(start.clone())
    for column in (1, 0, 2):
        explorer.live.set_state({"selected": f"policy_log_probs[0,{column}]"})
    assert torch.equal(explorer.policy_log_probs, start)
    assert explorer.policy_log_probs.dtype == dtype


def test_the_tensors_that_were_given_stay_as_they_are():
    log_probs, mask = torch.tensor([[-1.0, -2.0]], requires_grad=True), torch.tensor([[1, 0]])
    explorer = StepExplorer(log_probs, mask)
    click(explorer, "policy_log_probs[0,0]", -5)
    click(explorer, "response_mask[0,1]", 1)
    assert log_probs.tolist() == [[-1, -2]] and mask.tolist() == [[1, 0]]
    assert log_probs.grad is None
    assert explorer.trace.masked_sum == -7


def test_what_json_has_no_number_for_is_left_out_of_the_values():
    explorer = StepExplorer([[NAN, -INF, -1.0]], [[0, 0, 1]])
    sent = [explorer.live.values[f"policy_log_probs[0,{token}]"] for token in range(3)]
    assert sent == [None, None, -1]
    click(explorer, "response_mask[0,2]", 0)
    assert explorer.policy_log_probs[0].isnan().tolist() == [True, False, False]
    assert explorer.policy_log_probs[0, 1] == -INF
    click(explorer, "policy_log_probs[0,0]", -0.1)
    assert explorer.policy_log_probs[0, 0] == torch.tensor(-0.1)


def test_edits_of_an_earlier_generation_are_ignored(explorer, sent):
    generation = explorer.live.generation
    late = {"id": 0.5, "generation": generation, "values": {"response_mask[1,3]": 1}}
    explorer.controls["preset"].value = "padding"
    sent.clear()
    explorer.live.set_state({"edits": late})
    assert torch.equal(explorer.response_mask, PRESETS["padding"].response_mask)
    assert sent == [{"acknowledged": 0.5}]
    click(explorer, "response_mask[0,0]", 1)
    assert explorer.response_mask[0, 0] == 1


def test_the_state_is_its_own():
    log_probs, mask = torch.tensor([[-1.0, -2.0]]), torch.tensor([[1, 1]])
    explorer = StepExplorer(log_probs, mask)
    log_probs[0, 0], mask[0, 1] = -5, 0
    assert explorer.trace.masked_sum == -3
    explorer.response_mask = mask
    mask[0, 1] = 1
    assert explorer.trace.masked_sum == -1
    for preset in PRESETS:
        explorer.controls["preset"].value = preset
        explorer.policy_log_probs.zero_()
        explorer.response_mask.zero_()
    assert StepExplorer().trace.num_tokens == 7 and StepExplorer().trace.masked_sum == -2.8


def test_a_run_is_made_once(explorer):
    before = explorer.trace
    explorer.selected = (1, 1)
    assert explorer.trace is before
    explorer.gradient_accumulation_steps = 3
    assert explorer.trace is not before


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.int8])
@pytest.mark.parametrize("value", [0.5, -0.25, 2, NAN])
def test_a_mask_of_bits_or_integers_takes_no_other_number(dtype, value):
    """0.5 became 1 in one of booleans, and 0 in one of integers."""
    explorer = StepExplorer([[-1.0, -2.0]], torch.tensor([[1, 0]], dtype=dtype))
    for key in ("response_mask[0,0]", "response_mask[0,1]"):
        with pytest.raises((TraitError, ValueError, RuntimeError)) as refusal:
            explorer.edit({key: value})
        if value == 0.5:
            assert str(refusal.value) == f"{key} can't be 0.5: response_mask has dtype {dtype}."
    assert explorer.response_mask.tolist() == [[1, 0]]
    explorer.edit({"response_mask[0,0]": 0.0, "response_mask[0,1]": True})
    assert explorer.response_mask.tolist() == [[0, 1]]
    assert explorer.response_mask.dtype == dtype


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (
            "response_mask[2,0]",
            "response_mask[2,0] does not exist: response_mask has shape (2, 4).",
        ),
        ("response_mask[0]", "response_mask[0] does not exist: response_mask has shape (2, 4)."),
        (
            "policy_log_probs[0,0]",
            "policy_log_probs can't be -1e+39: the largest torch.float32 is 3.4e+38.",
        ),
    ],
)
def test_an_edit_that_can_not_be_is_refused(explorer, key, sentence):
    with pytest.raises(ValueError) as refusal:
        explorer.edit({"response_mask[0,0]": 0, key: -1e39})
    assert str(refusal.value) == sentence
    assert explorer.trace.num_tokens == 7
    explorer.edit({"policy_log_probs[0,0]": -INF})
    assert explorer.trace.masked_sum == -INF


# The token last touched


@pytest.mark.parametrize("index", [(2, 0), (0, 4), (0,), (0, 0, 0), (-1, 0)])
def test_no_token_is_selected_that_is_not_there(explorer, index):
    with pytest.raises(TraitError, match="selected must be the index of an entry, got"):
        explorer.selected = index
    assert explorer.selected == (0, 0)


def test_a_touch_of_what_is_gone_is_passed_over(explorer):
    explorer.controls["preset"].value = "all masked"
    explorer.live.set_state({"selected": "response_mask[1,3]"})
    assert explorer.selected == (0, 0)
    explorer.gradient_accumulation_steps = 5
    assert shown(explorer, "gradient_accumulation_steps") == "5"


def test_the_box_holds_the_log_prob_of_the_token_last_touched(explorer):
    box = explorer.controls["policy_log_probs"]
    assert (box.description, box.value) == ("log-prob of row 1, token 1", -0.5)
    explorer.live.set_state({"selected": "grad[1,2]"})
    assert explorer.selected == (1, 2)
    assert (box.description, box.value) == ("log-prob of row 2, token 3", -0.3)
    box.value = -2
    assert explorer.policy_log_probs.tolist()[1] == pytest.approx([-0.4, -0.6, -2, -0.5])
    assert shown(explorer, "policy_log_probs[1,2]") == "−2"
    assert shown(explorer, "policy_log_probs[0,0]") == "−0.5"


def test_the_first_response_token_is_selected_at_first():
    explorer = StepExplorer([[-1.0, -2.0], [-3.0, -4.0]], [[0, 0], [0, 1]])
    assert explorer.selected == (1, 1)
    assert explorer.controls["policy_log_probs"].value == -4
    explorer.load(StepInputs([[-1.0, -2.0]], [[0, 0]]))
    assert explorer.selected == (0, 0)
    explorer.selected = (0, 1)
    explorer.update(policy_log_probs=[[-5.0]], response_mask=[[1]])
    assert explorer.selected == (0, 0)


def test_what_is_no_token_leaves_the_box_where_it_is(explorer):
    explorer.live.set_state({"selected": "grad[1,2]"})
    explorer.live.set_state({"selected": "masked_sum"})
    assert explorer.selected == (1, 2)


def test_a_token_can_be_gone_to_again_after_a_reset(explorer):
    explorer.live.set_state({"selected": "grad[1,2]"})
    explorer.controls["reset"].click()
    assert explorer.selected == (0, 0)
    # A page only says what is new to it.
    assert explorer.live.selected != "grad[1,2]"
    explorer.live.set_state({"selected": "grad[1,2]"})
    assert explorer.selected == (1, 2)


def test_no_log_prob_is_too_large_or_too_small_for_the_box():
    start = [[-12.5, 0.5, NAN, -1e-9]]
    explorer = StepExplorer(torch.tensor(start, dtype=torch.float64))
    box = explorer.controls["policy_log_probs"]
    for column, number in ((1, 0.5), (0, -12.5), (3, -1e-9)):
        explorer.selected = (0, column)
        assert box.value == number
    assert explorer.policy_log_probs[0, 3] == -1e-9
    for typed in (0.7, 1e300, -1e300):  # none is changed in silence; the picture can say what it is
        box.value = typed
        assert explorer.policy_log_probs[0, 3] == typed == box.value
    explorer.policy_log_probs = torch.tensor(start, dtype=torch.float64)
    explorer.selected = (0, 2)
    assert box.layout.visibility == "hidden"
    explorer.selected = (0, 0)
    assert box.layout.visibility == "visible"
    assert explorer.policy_log_probs.isnan().tolist() == [[False, False, True, False]]
    assert explorer.policy_log_probs[0, [0, 1, 3]].tolist() == [-12.5, 0.5, -1e-9]


@pytest.mark.parametrize("G", [17, 1000])
def test_a_control_that_does_not_reach_so_far_clips_no_state(explorer, G):
    explorer.gradient_accumulation_steps = G
    assert explorer.gradient_accumulation_steps == G
    assert explorer.controls["gradient_accumulation_steps"].value == G


# Controls


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_can_be_hidden_and_its_value_is_fixed(name, shown_errors):
    explorer = StepExplorer(controls=[other for other in CONTROLS if other != name])
    assert name not in explorer.controls
    box = explorer.children[0]
    assert len(box.children) == len(explorer.controls)
    if name in ("policy_log_probs", "response_mask"):
        assert not any(key.startswith(name) for key in explorer.live.values)
        click(explorer, f"{name}[0,0]", 1)
        assert shown_errors.pop().startswith(f"{name}[0,0] can't be changed here")
    assert consistent(explorer)


def test_no_controls_leave_a_picture_that_only_python_changes():
    explorer = StepExplorer(controls=())
    assert explorer.live.actions == {} and explorer.live.values == {}
    explorer.gradient_accumulation_steps = 1
    assert shown(explorer, "scaled_loss") == "2.8"


def test_an_unknown_control_is_refused():
    with pytest.raises(ValueError) as refusal:
        StepExplorer(controls=["preset", "G"])
    assert str(refusal.value) == f"controls must be among {', '.join(CONTROLS)}, got 'G'."


def test_moving_a_control_moves_the_state(explorer):
    explorer.controls["gradient_accumulation_steps"].value = 8
    explorer.controls["normalize_constant"].value = 0.5
    assert (explorer.gradient_accumulation_steps, explorer.normalize_constant) == (8, 0.5)
    assert consistent(explorer)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_takes_over_everything(explorer, name):
    explorer.normalize_constant = 3
    explorer.selected = (1, 3)
    explorer.controls["preset"].value = name
    preset = PRESETS[name]
    assert torch.equal(explorer.response_mask, preset.response_mask)
    torch.testing.assert_close(
        explorer.policy_log_probs, preset.policy_log_probs, equal_nan=True, rtol=0, atol=0
    )
    assert explorer.gradient_accumulation_steps == preset.gradient_accumulation_steps
    assert explorer.normalize_constant == preset.normalize_constant
    assert explorer.tokens == preset.tokens
    assert explorer.drawing.text == step_flow(preset.trace(), preset.tokens).text
    assert consistent(explorer)


def test_a_preset_is_not_worn_out_by_use(explorer):
    explorer.controls["preset"].value = "padding"
    click(explorer, "policy_log_probs[0,0]", -9)
    click(explorer, "response_mask[0,0]", 1)
    explorer.controls["reset"].click()
    assert torch.equal(explorer.policy_log_probs, PRESETS["padding"].policy_log_probs)
    assert torch.equal(explorer.response_mask, PRESETS["padding"].response_mask)
    assert explorer.controls["preset"].value == "padding"


def test_reset_goes_back_to_what_was_given():
    explorer = StepExplorer([[-1.0, -2.0]], [[0, 1]], 4, 2.5, [["a", "b"]])
    before = explorer.drawing.text
    explorer.gradient_accumulation_steps = 1
    explorer.normalize_constant = 1.0
    click(explorer, "response_mask[0,0]", 1)
    assert explorer.drawing.text != before
    explorer.controls["reset"].click()
    assert explorer.drawing.text == before


def test_several_changes_at_once_are_drawn_once(explorer, monkeypatch):
    drawn, draw = [], explorer.draw
    monkeypatch.setattr(explorer, "draw", lambda *args: drawn.append(args) or draw(*args))
    explorer.load(PRESETS["several turns"])
    assert len(drawn) == 1
    change(explorer, {"response_mask[0,1]": 0.0, "policy_log_probs[0,2]": -9.0})
    assert len(drawn) == 2
    assert explorer.drawing.text == step_flow(explorer.trace, explorer.tokens).text


def test_any_batch_can_be_loaded(explorer):
    explorer.load(StepInputs([[-1.0]], [[1]], 3, 2.0, [["x"]]))
    assert explorer.trace.policy_log_probs.shape == (1, 1)
    assert explorer.controls["gradient_accumulation_steps"].value == 3
    assert consistent(explorer)


# As code


@pytest.mark.parametrize("name", PRESETS)
def test_the_code_makes_the_same_explorer(explorer, name):
    explorer.load(PRESETS[name])
    explorer.normalize_constant = 0.3
    variables = {}
    exec(explorer.code.replace("StepExplorer(\n", "again = StepExplorer(\n"), variables)
    again = variables["again"]
    assert again.drawing.text == explorer.drawing.text
    assert again.code == explorer.code
    for field in ("policy_log_probs", "grad"):
        one, other = getattr(again.trace, field), getattr(explorer.trace, field)
        torch.testing.assert_close(one, other, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_code_keeps_every_digit(dtype):
    torch.manual_seed(0)
    log_probs = -torch.rand(3, 5, dtype=torch.float64).to(dtype)
    log_probs[0, 0], log_probs[0, 1] = NAN, -INF
    explorer = StepExplorer(log_probs, [[0, 0, 1, 1, 1]] * 3, tokens=[["=torch.tensor("] * 5] * 3)
    explorer.normalize_constant = np.float64(0.1)
    explorer.tokens = np.array(explorer.tokens)
    variables = {}
    exec(explorer.code.replace("StepExplorer(\n", "again = StepExplorer(\n"), variables)
    again = variables["again"]
    assert again.policy_log_probs.dtype == dtype
    torch.testing.assert_close(again.policy_log_probs, log_probs, equal_nan=True, rtol=0, atol=0)
    assert again.code == explorer.code
    if dtype == torch.float32:
        assert f" {np.float32(log_probs[2, 4].item())!s}]" in explorer.code  # and none too many


def test_to_ask_for_the_code_changes_nothing(shown_errors):
    explorer = StepExplorer(torch.tensor([[-1 / 3]]))
    before = explorer.policy_log_probs.clone()
    explorer.controls["policy_log_probs"].value = -1e39
    assert "can't be -1e+39" in shown_errors.pop()
    explorer.controls["code"].value = True
    assert torch.equal(explorer.policy_log_probs, before)


def test_the_code_shows_where_it_is_asked_for_and_follows_the_state(explorer):
    _, panel, drawing = explorer.children
    assert drawing is explorer.live
    assert (panel.value, panel.layout.display) == ("", "none")
    explorer.controls["code"].value = True
    assert "gradient_accumulation_steps=2" in panel.value and panel.layout.display is None
    explorer.gradient_accumulation_steps = 5
    assert "gradient_accumulation_steps=5" in panel.value
    explorer.tokens = [["<b>", "&", "x", "y"]] * 2
    assert "&lt;b&gt;" in panel.value and "<b>" not in panel.value
    explorer.controls["code"].value = False
    assert (panel.value, panel.layout.display) == ("", "none")


# What is refused

REFUSED = {
    "gradient_accumulation_steps": (
        0,
        "gradient_accumulation_steps must be an int of at least 1, got 0: "
        "it is the number of microbatches in one optimizer step.",
    ),
    "normalize_constant": (
        -1.0,
        "normalize_constant must be a finite number above 0, got -1.0: it divides the masked sum.",
    ),
    "response_mask": (
        [[1, 1, 1, 2], [1, 1, 1, 1]],
        "response_mask must contain only 0 and 1, got 2 at row 1, token 4: "
        "1 marks a response token, 0 a masked one.",
    ),
    "policy_log_probs": (
        [[-1.0, -2.0]],
        "response_mask has shape (2, 4) but policy_log_probs has shape (1, 2): "
        "give one mask entry per token.",
    ),
    "tokens": (
        [["a", "b"]],
        "tokens has 1 rows of 2 strings but policy_log_probs has shape (2, 4): "
        "give one string per token.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_python_is_told_what_is_wrong_and_the_state_stays(explorer, name):
    value, sentence = REFUSED[name]
    before = explorer.drawing.text
    with pytest.raises(TraitError) as refusal:
        setattr(explorer, name, value)
    assert str(refusal.value) == sentence
    assert explorer.drawing.text == before
    assert explorer.live.error["message"] == ""
    assert consistent(explorer)


@pytest.mark.parametrize("name", [n for n in REFUSED if n not in ("tokens", "response_mask")])
def test_nothing_is_refused_too(explorer, name):
    before = explorer.state
    with pytest.raises(TraitError):
        setattr(explorer, name, None)
    assert explorer.state is before
    explorer.gradient_accumulation_steps = 3
    assert consistent(explorer)


@pytest.mark.parametrize("value, kind", [(True, "bool True"), (2.0, "float 2.0"), ("2", "str '2'")])
def test_a_number_of_the_wrong_type_is_refused(explorer, value, kind):
    with pytest.raises(TraitError, match=f"must be an int of at least 1, got {kind}"):
        explorer.gradient_accumulation_steps = value


def test_a_start_that_does_not_fit_is_refused_as_by_the_step():
    with pytest.raises(ValueError, match="give one mask entry per token"):
        StepExplorer([[-1.0, -2.0]], [[1]])
    with pytest.raises(ValueError, match="policy_log_probs must be rows of numbers"):
        StepExplorer(5)
    with pytest.raises(TypeError, match="policy_log_probs must be floating point"):
        StepExplorer(torch.tensor([[1, 2]]))
    with pytest.raises(ValueError, match="give one string per token"):
        StepExplorer([[-1.0, -2.0]], tokens=[["a"]])


def test_an_invalid_control_shows_an_error_until_the_next_valid_value(explorer, shown_errors):
    _, sentence = REFUSED["normalize_constant"]
    picture = explorer.live.svg
    explorer.controls["normalize_constant"].value = -1.0
    assert explorer.live.error["message"] == sentence == shown_errors.pop()
    assert "Traceback (most recent call last)" in explorer.live.error["traceback"]
    assert explorer.normalize_constant == 1.0
    assert explorer.live.svg == picture

    explorer.controls["normalize_constant"].value = 2.0
    assert explorer.live.error == {"message": "", "traceback": ""}
    assert shown(explorer, "masked_sum") == "−1.4"


def test_an_error_outlasts_another_width_of_the_page(explorer, shown_errors):
    explorer.controls["normalize_constant"].value = -1.0
    explorer.live.set_state({"columns": 60})
    assert explorer.live.error["message"] == shown_errors.pop()
    assert explorer.controls["normalize_constant"].value == -1


@pytest.mark.parametrize("good", ["control", "click", "Python"])
def test_any_valid_value_clears_the_error_and_corrects_the_controls(explorer, shown_errors, good):
    explorer.controls["normalize_constant"].value = 0.0
    assert explorer.live.error["message"] == shown_errors.pop()
    match good:
        case "control":
            explorer.controls["gradient_accumulation_steps"].value = 3
        case "click":
            click(explorer, "response_mask[0,0]", 0)
        case "Python":
            explorer.gradient_accumulation_steps = 3
    assert explorer.live.error["message"] == ""
    assert explorer.controls["normalize_constant"].value == 1
    assert consistent(explorer)


@pytest.mark.parametrize(
    "key, value, sentence",
    [
        ("response_mask[0,0]", 2, "response_mask must contain only 0 and 1, got 2"),
        ("grad[0,0]", 1.0, "grad[0,0] can't be changed here"),
        ("nonsense", 1, "nonsense can't be changed here"),
        ("policy_log_probs[0,0]", "x", "must be real number, not str"),
    ],
)
def test_rejected_edits_show_an_error_and_are_acknowledged(
    explorer, sent, shown_errors, key, value, sentence
):
    before = dict(explorer.live.values)
    edits = {"id": 0.25, "generation": explorer.live.generation, "values": {key: value}}
    explorer.live.set_state({"edits": edits})
    assert sentence in explorer.live.error["message"] == shown_errors.pop()
    assert explorer.live.values == before
    assert [list(state) for state in sent] == [["error"], ["acknowledged"]]
    assert sent[-1] == {"acknowledged": 0.25}  # so the page drops the edits
    click(explorer, "response_mask[0,1]", 0)
    assert explorer.live.error["message"] == ""
    assert explorer.trace.num_tokens == 6


# Company


def test_two_explorers_do_not_disturb_each_other():
    one, other = StepExplorer(), StepExplorer()
    click(one, "response_mask[0,0]", 0)
    click(one, "policy_log_probs[0,0]", -7)
    one.selected = (1, 1)
    one.controls["preset"].value = "padding"
    assert other.drawing.text == StepExplorer().drawing.text
    assert other.selected == (0, 0)
    assert WORKED_EXAMPLE.policy_log_probs[0, 0] == -0.5


def test_a_preset_is_shared_by_no_two_explorers():
    one, other = StepExplorer(), StepExplorer()
    one.controls["preset"].value = other.controls["preset"].value = "padding"
    click(one, "policy_log_probs[0,0]", -7)
    assert torch.equal(other.policy_log_probs, PRESETS["padding"].policy_log_probs)


# In a notebook


def test_the_bundle_is_a_live_view_and_a_picture(explorer):
    bundle, _ = explorer._repr_mimebundle_()
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == explorer.model_id
    assert bundle["text/plain"] == explorer.drawing.text
    assert '<img alt="SFT step, G = 2: 7 of 8 tokens count;' in bundle["text/html"]
    assert bundle["text/html"] == explorer.drawing._repr_mimebundle_()["text/html"]


def test_the_bundle_is_the_same_for_the_same_state(explorer):
    (again, _), (bundle, _) = StepExplorer()._repr_mimebundle_(), explorer._repr_mimebundle_()
    for kind in ("text/plain", "text/html"):
        assert again[kind] == bundle[kind]
    assert repr(explorer) == explorer.drawing.text
    assert not re.search(r"0x[0-9a-f]{6}", repr(explorer))


def test_controls_are_stock_widgets_with_a_name(explorer):
    for control in explorer.controls.values():
        assert type(control).__module__.startswith("ipywidgets.")
        assert control.description
        assert not isinstance(control, ipywidgets.Output)


# Economy


def test_one_change_is_one_message(explorer, sent):
    for change in (
        lambda: setattr(explorer, "gradient_accumulation_steps", 4),
        lambda: setattr(explorer, "response_mask", torch.ones(2, 4)),
        lambda: setattr(explorer, "selected", (1, 1)),
        lambda: explorer.load(PRESETS["padding"]),
        lambda: setattr(explorer.controls["normalize_constant"], "value", 3.0),
        lambda: click(explorer, "response_mask[0,0]", 1),
    ):
        sent.clear()
        change()
        assert len([state for state in sent if "svg" in state]) <= 1
        assert len(sent) <= 1


def test_a_change_on_the_page_is_acknowledged_in_one_message(explorer, sent):
    click(explorer, "policy_log_probs[0,0]", -1.25)
    click(explorer, "response_mask[0,0]", 0)
    assert [set(state) for state in sent] == [{"svg", "alt", "values", "acknowledged"}] * 2
    assert [state["acknowledged"] for state in sent] == [1, 2]


def test_edits_are_acknowledged_by_the_picture_that_includes_them(explorer, sent):
    """And not by an earlier picture, drawn for another trait in the same message."""
    explorer.live.set_state(
        {
            "columns": 60,
            "selected": "response_mask[0,1]",
            "edits": {
                "id": 0.5,
                "generation": explorer.live.generation,
                "values": {"response_mask[0,1]": 0},
            },
        }
    )
    (answer,) = [state for state in sent if "acknowledged" in state]
    assert answer["acknowledged"] == 0.5
    assert answer["values"]["response_mask[0,1]"] == 0 and answer["svg"] == explorer.live.svg


def test_edits_are_not_echoed(explorer, monkeypatch):
    """The picture would have to wait for the echo."""
    methods = []
    monkeypatch.setattr(LiveDrawing, "_send", lambda self, message, **_: methods.append(message))
    click(explorer, "response_mask[0,0]", 0)
    assert [message["method"] for message in methods] == ["update"]


def test_edits_without_values_are_acknowledged_and_change_nothing(explorer, sent, shown_errors):
    explorer.controls["normalize_constant"].value = -1.0
    sent.clear()
    change(explorer, {})
    assert sent == [{"acknowledged": 1}]
    assert explorer.live.error["message"] == shown_errors.pop()  # it still applies


def test_the_same_change_can_be_made_again_after_a_reset(explorer):
    for _ in range(2):
        click(explorer, "response_mask[0,0]", 0)
        assert explorer.trace.num_tokens == 6
        explorer.controls["reset"].click()
        assert explorer.trace.num_tokens == 7


def test_what_changes_nothing_sends_nothing(explorer, sent):
    explorer.gradient_accumulation_steps = 2
    explorer.live.set_state({"columns": 200})  # wider than the picture ever gets
    explorer.live.set_state({"selected": "grad[0,1]"})
    assert sent == []


def test_the_picture_fits_the_width_of_the_page(explorer):
    def width():
        return int(re.search(r'<svg [^>]*width="(\d+)"', explorer.live.svg)[1])

    widths = []
    for columns in (200, 80, 60, 10):
        explorer.live.set_state({"columns": columns})
        widths.append(width())
        assert width() <= max(columns, 48) * 8 + 16
    assert widths == sorted(widths, reverse=True)
    assert consistent(explorer)


def test_a_large_batch_sends_no_more_than_is_shown(sent):
    torch.manual_seed(0)
    explorer = StepExplorer(-torch.rand(64, 1024), (torch.rand(64, 1024) > 0.3).int())
    before = explorer.trace.num_tokens
    assert len(explorer.live.values) < 400
    assert len(explorer.live.svg) < 300_000
    sent.clear()
    click(explorer, "response_mask[63,1023]", 1 - int(explorer.response_mask[63, 1023]))
    assert abs(explorer.trace.num_tokens - before) == 1
    assert len(sent) == 1
    explorer.selected = (63, 1000)  # it comes into view
    assert {"policy_log_probs[63,1000]", "response_mask[63,1000]"} <= set(explorer.live.values)
    explorer.controls["policy_log_probs"].value = -3
    assert explorer.policy_log_probs[63, 1000] == -3
    assert consistent(explorer)


# The lens


def answer(B=2, S=188, start=161):
    """An explorer of a batch whose last tokens count."""
    mask = torch.zeros(B, S)
    mask[:, start:] = 1
    return StepExplorer(-torch.ones(B, S), mask)


def columns(explorer):
    """The columns that are shown, as they are in the picture that the page has."""
    found = re.findall(r'data-key="grad\[(\d+),(\d+)\]"', explorer.live.svg)
    return sorted({int(column) for _, column in found})


def test_the_lens_begins_at_what_counts_and_stays_there_while_the_batch_is_edited():
    explorer = answer()
    before = columns(explorer)
    assert before[:2] == [160, 161] and explorer.selected == (0, 161) and explorer.columns == 160
    click(explorer, "response_mask[0,161]", 0)  # now another token is the first
    explorer.edit({"policy_log_probs[1,187]": math.nan})
    for G in (3, 16):
        explorer.gradient_accumulation_steps = G
    assert columns(explorer) == before
    explorer.response_mask = answer(start=61).response_mask  # another batch
    assert columns(explorer)[-1] == 187  # the NaN
    explorer.load(answer(start=61).state)
    assert columns(explorer)[0] == 60 and explorer.columns == 60
    assert consistent(explorer)


def test_the_lens_can_be_put_anywhere_and_what_is_selected_stays_in_it():
    explorer = answer(B=20)
    events = []
    explorer.observe(lambda change: events.append((change.name, change.new)))
    state = explorer.state
    explorer.columns, explorer.rows = 30, slice(5, 9)
    assert columns(explorer)[0] == 30 and explorer.selected == (5, 37)
    assert explorer.state is state  # nothing runs
    assert {("columns", 30), ("rows", 5), ("selected", (5, 37))} <= set(events)
    explorer.selected = (19, 100)
    assert 100 in columns(explorer) and explorer.rows == 12
    explorer.columns = 187  # there the lens ends
    assert columns(explorer)[-1] == 187 and len(columns(explorer)) == 187 - explorer.columns + 1
    assert explorer.drawing.page.outline.columns.first == explorer.columns
    explorer.edit({"policy_log_probs[0,0]": -7})  # out of view
    assert explorer.policy_log_probs[0, 0] == -7


def test_the_page_moves_the_lens_by_edits():
    explorer = answer(B=20)
    values = explorer.live.values
    assert [values[f"lens[{name}]"] for name in ("row", "rows", "all rows")] == [0, 8, 20]
    assert [values[f"lens[{name}]"] for name in ("column", "all columns")] == [160, 188]
    assert values["lens[columns]"] == len(columns(explorer))
    change = {"lens[column]": 7, "lens[row]": 3, "response_mask[3,8]": 1}
    generation = explorer.live.generation
    explorer.live.set_state({"edits": {"id": 0.5, "generation": generation, "values": change}})
    assert (explorer.rows, explorer.columns) == (3, 7) and columns(explorer)[0] == 7
    assert explorer.response_mask[3, 8] == 1 and explorer.live.acknowledged == 0.5
    explorer.live.set_state({"selected": "grad[0,161]"})  # from the picture before
    assert explorer.columns == 7 and explorer.selected[0] == 3
    explorer.live.set_state({"selected": "grad[4,9]"})
    assert explorer.columns == 7 and explorer.selected == (4, 9)
    explorer.live.set_state({"columns": 60})  # a narrow page
    assert columns(explorer)[0] == 7 and explorer.columns == 7
    explorer.columns = 187
    narrow = columns(explorer)
    explorer.live.set_state({"columns": 112})
    assert columns(explorer)[0] == explorer.columns < narrow[0] and columns(explorer)[-1] == 187


def test_page_down_reaches_every_token_whatever_the_width_of_its_numbers():
    """The page adds what is shown now, and so much may be too wide at the next place."""
    explorer = StepExplorer(
        -(10.0 ** -(torch.arange(376) % 11)).reshape(2, 188), torch.ones(2, 188)
    )
    seen, before = set(columns(explorer)), -1
    while explorer.columns > before:
        before, values = explorer.columns, explorer.live.values
        last = values["lens[all columns]"] - values["lens[columns]"]
        change(explorer, {"lens[column]": min(last, before + values["lens[columns]"])})
        seen |= {*columns(explorer)}
    assert seen == set(range(188))


def test_a_small_batch_has_no_lens(explorer):
    explorer.response_mask = [[0, 0, 0, 1], [0, 0, 0, 1]]
    assert (explorer.rows, explorer.columns) == (0, 0)
    assert not any(key.startswith("lens") for key in explorer.live.values)
    explorer.columns = 2
    assert {"grad[0,0]", "grad[1,3]"} <= set(explorer.drawing.keys)


@pytest.mark.parametrize("name", ["rows", "columns"])
@pytest.mark.parametrize("wish", [-1, 2000, 1.5, "a"])
def test_a_lens_that_can_not_be_put_there_stays(name, wish, shown_errors):
    explorer = answer()
    before = columns(explorer)
    with pytest.raises(TraitError, match=name):
        setattr(explorer, name, wish)
    assert columns(explorer) == before and consistent(explorer)
