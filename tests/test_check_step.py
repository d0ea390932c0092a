"""Functions that learners write, and files of them: what is said to each."""

import json
from dataclasses import replace

import pytest
import torch

from sftviz.__main__ import main
from sftviz.exercises.step import STEP, check_step
from sftviz.exercises.verdict import Number, Verdict

# ---------------------------------------------------------------- right


def test_a_plain_sum_is_correct_and_its_rounding_is_mentioned():
    verdict = check_step(
        changed("sum(dtype=torch.promote_types(lp.dtype, torch.float32))", "sum()")
    )
    assert (verdict.outcome, verdict.wrong) == ("correct", ())
    assert "Where the log-probs have 16 bits, the sum loses digits" in verdict.message


# ---------------------------------------------------------------- wrong, by name


def changed(before="", after="", body=None):
    """The right step with a change of its text."""
    body = body or (
        "kept = torch.where(mask.bool(), lp, 0)\n"
        "total = kept.sum(dtype=torch.promote_types(lp.dtype, torch.float32)) / c\n"
        "loss = -total / G / G\n"
        "loss.backward()\n"
        "return loss.detach(), {'num_tokens': int(mask.sum()), 'masked_sum': total.detach()}"
    )
    assert before in body
    lines = body.replace(before, after).splitlines() if before else body.splitlines()
    source = "def my_step(lp, mask, G, c):\n" + "\n".join(f"    {line}" for line in lines)
    names = {"torch": torch}
    exec(source, names)
    return names["my_step"]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("loss.backward()", "lp.grad = None; loss.backward()", ".grad has a value before the call"),
        ("loss.backward()", "lp.grad = -mask.to(lp) / G**2 / c", "policy_log_probs is not a leaf"),
        ("return", "mask.zero_(); return", "The function changes its arguments: work on a copy."),
        ("return loss.detach()", "return loss[None].detach()", "must be a scalar, got shape (1,)"),
        ("return loss.detach()", "return loss.item()", "The loss must be a tensor, got float"),
        (", {'num_tokens'", "#", "Return a tuple of two, (scaled_loss, metadata); got Tensor."),
        ("'masked_sum':", "'sum':", "The metadata lacks 'masked_sum'."),
        ("total.detach()", "total", "still hangs on the graph"),
        ("total.detach()", "str(total)", "masked_sum must be a number or a tensor, got str."),
        ("total.detach()", "None", "masked_sum must be a number or a tensor, got NoneType."),
        ("/ G / G", "/ 17", "No known mistake gives these numbers."),
        ("int(mask.sum())", "int((kept < 0).sum())", "the log-prob of a response token is 0."),
        ("lp, 0)", "lp, 0)[:, 1:]", "No known mistake gives these numbers."),
        (
            "kept = torch.where(mask.bool(), lp, 0)",
            "kept = torch.where(mask, lp, 0)",
            "It goes wrong where the mask contains the numbers 0 and 1.",
        ),
    ],
)
def test_what_is_wrong_is_said(before, after, sentence):
    verdict = check_step(changed(before, after))
    assert verdict.outcome in ("wrong", "error")
    assert sentence in verdict.message, verdict


def test_what_is_wrong_under_a_condition_alone_is_named():
    step = changed("torch.where(mask.bool(), lp, 0)", "lp[mask]")
    assert check_step(step).mistake == "integer mask as index"


def test_a_forgotten_backward_is_named_even_if_the_loss_is_detached():
    message = check_step(changed("loss.backward()", "")).message
    assert "Or backward not called: The loss is returned and nothing calls backward()" in message


def test_a_mean_that_is_reported_as_the_sum_is_named_by_its_gradient():
    total = "kept.sum(dtype=torch.promote_types(lp.dtype, torch.float32))"
    verdict = check_step(changed(total, "lp.double()[mask.bool()].mean()"))
    assert (verdict.outcome, verdict.mistake) == ("wrong", "token mean ÷G²")
    assert "masked_sum" in verdict.wrong


def test_two_mistakes_at_once_are_not_called_right():
    step = changed("-total / G / G", "-(lp * mask).sum() / c / G")
    verdict = check_step(step)
    assert (verdict.outcome, verdict.mistake) == ("wrong", "÷G")


def test_the_numbers_stand_beside_ours():
    verdict = check_step(changed("/ G / G", "/ 17"))
    names = [number.name.partition("[")[0] for number in verdict.numbers]
    assert names == ["num_tokens", "masked_sum", "scaled_loss", "grad"]
    assert [number.same for number in verdict.numbers] == [True, True, False, False]
    assert verdict.right == ("num_tokens", "masked_sum", "detached results", "unchanged inputs")
    assert verdict.wrong == ("scaled_loss", "grad")
    html = verdict._repr_mimebundle_()["text/html"]
    assert "<img" in html and verdict.draw().alt.startswith("wrong. No known mistake")


def test_a_verdict_as_text():
    numbers = (Number("masked_sum", "−5.6", "−2.8", False), Number("grad[0,1]", "1", "1", True))
    verdict = Verdict(
        "wrong", "doubled", "It is doubled.\x1b", (), (), numbers, "The batch: B = 1."
    )
    assert str(verdict) == (
        "╭─────────────────────────────────────────────────────╮\n"
        "│ ✗ wrong: doubled                                    │\n"
        "│ It is doubled.\\x1b                                  │\n"
        "│                                                     │\n"
        "│ The batch: B = 1.                                   │\n"
        "│                 yours       right                   │\n"
        "│ masked_sum [     −5.6] [     −2.8] ← here they part │\n"
        "│ grad[0,1]  [        1] [        1]                  │\n"
        "╰─────────────────────────────────────────────────────╯"
    )


# ---------------------------------------------------------------- not attempted, errors


@pytest.mark.parametrize("body", ["...", "pass", "return ...", "raise NotImplementedError"])
def test_a_stub_is_not_attempted(body):
    assert check_step(changed(body=body)).outcome == "not attempted"


def test_a_step_that_forgets_to_return_has_been_attempted():
    verdict = check_step(changed("return", "nothing ="))
    assert verdict.outcome == "wrong" and "got NoneType" in verdict.message


def deep(lp, mask, G, c):
    def inner():
        return lp @ mask  # the learner's own line

    return inner()


def test_an_error_shows_the_lines_of_the_learner_alone():
    first, *lines = check_step(deep).message.splitlines()
    assert first.startswith("deep raised RuntimeError: ")
    assert [line.partition(": ")[2] for line in lines[:2]] == [
        "return inner()",
        "return lp @ mask  # the learner's own line",
    ]
    assert all(line.startswith("test_check_step.py, line ") for line in lines[:2])
    assert not any("trials.py" in line for line in lines)


def test_what_is_printed_is_mentioned_and_not_shown(capsys):
    verdict = check_step(changed("loss.backward()", "print('hello'); loss.backward()"))
    assert verdict.outcome == "correct" and "“hello”" in verdict.message
    assert capsys.readouterr().out == ""


def test_the_batches_have_what_a_function_may_stumble_over():
    conditions = " ".join(trial.condition for trial in STEP.trials)
    for text in ("NaN", "numbers 0 and 1", "not a leaf", ".grad has a value"):
        assert text in conditions
    ordinary = [trial.arguments for trial in STEP.trials if not trial.condition]
    assert any(
        log_probs.dtype == torch.float64
        and len(log_probs) != G
        and c != 1
        and not mask.any(1).all()
        for log_probs, mask, G, c in ordinary
    )


# ---------------------------------------------------------------- files

FILE = """\
import torch
def my_step(lp, mask, G, c):
    total = lp[mask.bool()].sum() / c
    loss = -total / G / G
    loss.backward()
    return loss.detach(), {"num_tokens": int(mask.sum()), "masked_sum": total.detach()}
"""
FILES = {  # the text of a file, its outcome, and a part of the message
    "right": (FILE, "correct", "Right: num_tokens, masked_sum"),
    "once": (FILE.replace("/ G / G", "/ G"), "wrong", "Right: num_tokens"),
    "loop": ("def my_step(*all):\n    while True: pass", "error", "loop.py, line 2: while True"),
    "stubborn": (
        "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
        "error",
        "stubborn.py was not finished after 3 s.",
    ),
    "exits": ("import sys\nsys.exit(0)", "error", "exits.py, line 2: sys.exit(0)"),
    "ends": ("import os\nos._exit(0)", "error", "ended its process with exit status 0"),
    "floods": (FILE + "import os\nprint('x' * 10**8)\nos.write(1, b'y' * 10**6)", "correct", ""),
    "greedy": ("x = bytearray(20 * 10**9)", "error", "MemoryError"),
    "large": ("import torch\nx = torch.zeros(5 * 10**9)", "error", "large.py, line 2: x = torch"),
    "forks": ("import os\nos.fork()\n" + FILE, "correct", "Right: num_tokens, masked_sum"),
    "syntax": ("x = 1\ndef my_step(:", "error", "syntax.py, line 2: def my_step(:"),
    "without": ("def f(): ...\ndef g(): ...", "error", "no function my_step or sft_microbatch"),
    "stub": ("def anything(a, b, c, d): ...", "not attempted", "nothing yet"),
    "asks": ("input()", "error", "asks.py, line 1: input()"),
    "pipes": (
        "import os\nfor at in range(3, 99):\n  try: os.write(at, b'y')\n  except OSError: pass",
        "error",
        "no function my_step",
    ),
    "nul": ("x = '\0'", "error", "nul.py raised"),
}


def test_a_folder_of_hostile_files_is_judged_and_a_table_is_printed(tmp_path, capfd):
    for name, (text, _, _) in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert main(["check", str(tmp_path), "--timeout", "3", "--json"]) == 1
    out, err = capfd.readouterr()
    assert err == ""
    answers = {each["file"].rpartition("/")[2][:-3]: each for each in json.loads(out)}
    assert list(answers) == sorted(FILES)
    assert {name: each["outcome"] for name, each in answers.items()} == {
        name: outcome for name, (_, outcome, _) in FILES.items()
    }
    for name, (_, _, part) in FILES.items():
        assert part in answers[name]["message"], name
    assert answers["once"]["mistake"] == "÷G" and answers["once"]["function"] == "my_step"
    assert not list(tmp_path.glob("__pycache__"))


def test_a_file_is_judged_by_the_name_of_its_function(tmp_path, capsys):
    file = tmp_path / "my_step.py"
    file.write_text(FILE.replace("my_step", "other"))
    assert main(["check", f"{file}:other"]) == 0
    assert "✓ correct" in capsys.readouterr().out
    assert main(["check", f"{file}:another", str(file)]) == 1
    table = capsys.readouterr().out
    assert "1 file: 1 error, 1 correct." in table and "my_step.py              error" in table


LOG_PROBS = """\
def my_log_probs(model, input_ids, labels):
    probs = model(input_ids).softmax(-1)
    return probs.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1) * (labels >= 0)
"""


def judged(capsys, *words):
    main(["check", "--json", *map(str, words)])
    return [
        (each["file"].rpartition("/")[2], each["function"], each["outcome"], each["mistake"])
        for each in json.loads(capsys.readouterr().out)
    ]


def test_the_name_of_a_function_or_an_option_chooses_the_subject(tmp_path, capsys):
    both, other, applied = (tmp_path / name for name in ("both.py", "other.py", "applied.py"))
    both.write_text(FILE + LOG_PROBS + "def train(): ...")  # a name that other functions have too
    other.write_text(LOG_PROBS.replace("my_log_probs", "lookup"))
    general = FILE.replace("my_step(lp", "general(more, lp")
    applied.write_text(f"from functools import partial\n{general}my_step = partial(general, 0)")
    wrong = ("my_log_probs", "wrong", "probabilities")
    assert judged(capsys, both, f"{both}:my_log_probs", applied) == [
        ("both.py", "my_step", "correct", None),
        ("both.py", *wrong),
        ("both.py", *wrong),
        ("applied.py", "my_step", "correct", None),
    ]
    assert judged(capsys, "--subject", "log-probs", both, other) == [
        ("both.py", *wrong),
        ("other.py", "lookup", "wrong", "probabilities"),
    ]


CELLS = {
    "import": "%matplotlib inline\nimport torch\nimport sftviz",
    "masked_sum": "def masked_sum(log_probs, mask):\n    return log_probs[mask.bool()].sum()",
    "shown": "sftviz.check_step(masked_sum)\nexit()",
    "magic": "%%bash\nls",
    "shift": "def shift(tokens, in_response):\n    while True: pass",
    "fails": "1 / 0",
    "prose": "def response_mask(prompt_lengths, lengths, T):\n    return T T",
    "negate": "def negate_and_divide(total, G, c):\n    raise NotImplementedError",
}


def test_each_exercise_in_a_notebook_is_judged_whatever_the_others_do(tmp_path, capsys):
    folder = tmp_path / "ann"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    cells = [{"cell_type": "code", "source": text.splitlines(True)} for text in CELLS.values()]
    cells.insert(1, {"cell_type": "markdown", "source": ["def no_code"]})
    for name in ("sheet.ipynb", ".ipynb_checkpoints/sheet.ipynb"):
        (folder / name).write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    assert judged(capsys, tmp_path, "--timeout", "6") == [
        ("sheet.ipynb", "masked_sum", "correct", None),
        ("sheet.ipynb", "shift", "error", None),
        ("sheet.ipynb", "negate_and_divide", "not attempted", None),
        ("sheet.ipynb", "cell 8", "error", None),
    ]
    assert main(["check", str(folder / "sheet.ipynb"), "--timeout", "6"]) == 1
    text = capsys.readouterr().out
    assert "cell 6, line 2: while True: pass" in text and "was not finished after 2 s" in text
    assert "cell 8, line 2: return T T" in text and text.startswith("masked_sum\n╭")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{}/none.py"], "{}/none.py: No such file or directory."),
        (["{}"], "{} contains no .py or .ipynb: give the folder that has them."),
        (["{}", "--timeout", "0"], "argument --timeout: give seconds above 0, got 0."),
    ],
)
def test_what_can_not_be_read_is_one_line(tmp_path, capsys, words, line):
    assert main(["check", *(word.format(tmp_path) for word in words)]) == 2
    assert capsys.readouterr().err == f"sftviz: {line.format(tmp_path)}\n"


def test_a_verdict_is_data():
    verdict = replace(Verdict("correct", None, "."), numbers=(Number("loss", "1", "1", True),))
    assert json.loads(json.dumps(verdict.as_dict()))["numbers"][0]["name"] == "loss"
