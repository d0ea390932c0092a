"""The command `sftviz`: what it prints, what it reads, what it writes, and how it refuses."""

import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftviz import WORKED_EXAMPLE, __version__, step_flow
from sftviz.__main__ import main


@pytest.fixture
def run(capsys):
    """The exit status of a command line, what it printed, what it complained of."""

    def run(*words):
        try:
            status = main(list(map(str, words)))
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


# ---------------------------------------------------------------- what it prints


def test_without_options_it_prints_the_worked_example(run):
    drawing = step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens)
    assert run() == (0, drawing.text + "\n", "")
    for number in ("7", "−2.8", "1.4", "0.7", "−0.25"):
        assert re.search(rf"\[ +{number}\]", drawing.text)


def test_G_and_the_constant_change_the_worked_example(run):
    status, out, _ = run("-G", 4, "--normalize-constant", 7)
    assert status == 0 and "[−0.008929]" in out and "−1 ÷ (4² · 7)" in out


@pytest.mark.parametrize(
    "rows",
    ["-0.5 -0.25; -1 -2", "-.5,-.25;-1,-2", "[[-0.5, -0.25], [-1, -2]]", "-0.5 -0.25\n-1 -2"],
)
def test_log_probs_can_be_written_by_hand(run, rows):
    status, out, err = run("--log-probs", rows, "--mask", "1 0; 1 1", "-G", 3)
    assert (status, err) == (0, "")
    assert "−(−3.5) ÷ 3" in out and re.search(r"\[ +3\]", out) and "Because" not in out


def test_log_probs_alone_are_all_of_the_response(run):
    assert re.search(r"\[ +4\]", run("--log-probs=-1 -2; -3 -4")[1])


@pytest.mark.parametrize("width", [48, 80])
def test_it_fits_the_width_asked_for(run, width):
    out = run("--width", width)[1]
    assert max(map(len, out.splitlines())) <= width
    assert out == step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens, width).text + "\n"


def test_help_teaches(run):
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    for word in ("--log-probs", "--mask", "-G", "--normalize-constant", "--from", "--save"):
        assert word in out
    assert "log_softmax(logits)" in out and "\n  sftviz -G 4" in out


def test_help_names_the_command_as_it_was_called(python):
    out = python("-m", "sftviz", "--help").stdout
    assert out.startswith("usage: python -m sftviz ") and "\n  python -m sftviz -G 4" in out


def test_it_has_a_version(run):
    assert run("--version") == (0, f"sftviz {__version__}\n", "")


# ---------------------------------------------------------------- what it reads and writes

CONTENT = {
    "policy_log_probs": [[-0.5, -0.25], [-1.0, -2.0]],
    "response_mask": [[1, 0], [1, 1]],
    "gradient_accumulation_steps": 3,
    "tokens": [["Hi", "<b>"], ["日本", "$x"]],
}


def write(path, content=CONTENT):
    match path.suffix:
        case ".json":
            path.write_text(json.dumps(content), encoding="utf-8")
        case ".pt":
            torch.save(content, path)
        case ".npz":
            np.savez(path, **content)
    return path


@pytest.mark.parametrize("ending", [".json", ".pt", ".npz"])
def test_it_reads_a_batch_from_a_file(run, ending, tmp_path):
    status, out, err = run("--from", write(tmp_path / f"batch{ending}"))
    assert (status, err) == (0, "")
    assert "−(−3.5) ÷ 3" in out and "日本" in out


def test_an_option_overrides_the_file(run, tmp_path):
    path = write(tmp_path / "batch.json")
    status, out, _ = run("--from", path, "-G", 5, "--mask", "0 0; 0 1")
    assert status == 0 and "−(−2) ÷ 5" in out and "日本" in out


@pytest.mark.parametrize(
    ("ending", "start"),
    [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("txt", b"\xe2\x95\xad")],
)
def test_it_saves_instead_of_printing_and_says_what(run, ending, start, tmp_path):
    path = tmp_path / f"flow.{ending}"
    status, out, err = run("--save", path)
    assert (status, err) == (0, "") and path.read_bytes().startswith(start)
    assert out == f"{path}: {step_flow(WORKED_EXAMPLE.trace()).alt}\n"


# ---------------------------------------------------------------- what it refuses


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-G", "0"], "gradient_accumulation_steps must be an int of at least 1, got 0: it is"),
        (["-G", "two"], "argument -G/--gradient-accumulation-steps: invalid int value: 'two'"),
        (["-G", "9" * 30], "gradient_accumulation_steps must be an int below 2**63"),
        (["--normalize-constant", "0"], "normalize_constant must be a finite number above 0, got "),
        (
            ["--normalize-constant", "nan"],
            "normalize_constant must be a finite number above 0, got",
        ),
        (["--mask", "1 2; 1 1"], "response_mask has shape (2, 2) but policy_log_probs has shape"),
        (["--mask", "2 0 1 1; 1 1 1 1"], "response_mask must contain only 0 and 1, got 2: 1 marks"),
        (
            ["--mask", "1 x"],
            "--mask must be rows of numbers, such as [[-0.5, -0.3], [-0.4, -0.6]].",
        ),
        (["--mask", "1 0; 1"], "--mask has rows of 2, 1 entries: give all rows the same length"),
        (["--log-probs", ""], "--log-probs must be rows of numbers, such as"),
        (["--log-probs", "[[-1,"], "--log-probs is no JSON list of lists: "),
        (["--log-probs"], "argument --log-probs: expected one argument"),
        (["--width", "10"], "width must be at least 48 cells, got 10: a formula needs that many."),
        (["--from", "missing.json"], "missing.json: No such file or directory."),
        (["--from", "batch.csv"], "a batch can't be read from '.csv': give a path that ends in"),
        (["--save", "flow.jpg"], "a drawing can't be saved as '.jpg': give a path that ends in"),
        (["--save", "no/such/place.svg"], "no/such/place.svg: No such file or directory."),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_input_is_one_clear_line_and_exit_2(run, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith(f"sftviz: {said}") and err.count("\n") == 1 and err.endswith("\n")
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_checkpoint_is_refused_and_does_nothing(run, tmp_path):
    sprung, path = tmp_path / "sprung", tmp_path / "batch.pt"
    for save in (torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap, protocol=2))):
        save({"policy_log_probs": Trap(sprung)}, path)
        status, out, err = run("--from", path)
        assert (status, out) == (2, "") and not sprung.exists()
        assert err.startswith(
            "sftviz: batch.pt is not a .pt file of plain data (UnpicklingError): "
        )
        assert err.count("\n") == 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*CONTENT, "normalize_constant", "x"]), anything, max_size=3),
    st.booleans(),
)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_a_file_holds_there_is_a_picture_or_one_line(run, tmp_path, content, whole):
    path = tmp_path / "batch.json"
    path.write_text(json.dumps((CONTENT if whole else {}) | content), encoding="utf-8")
    status, out, err = run("--from", path)
    if status == 0:
        assert out.startswith("╭") and err == ""
    else:
        assert status == 2 and out == "" and err.startswith("sftviz: ") and err.count("\n") == 1


# ---------------------------------------------------------------- as a process


def test_as_a_process_it_prints_unicode_into_any_pipe(python):
    run = python("-m", "sftviz", "-G", "2", PYTHONIOENCODING="ascii")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens).text + "\n"


def test_as_a_process_bad_input_exits_2_with_one_line(python):
    run = python("-m", "sftviz", "-G", "0")
    assert (run.returncode, run.stdout) == (2, "")
    assert (
        run.stderr.startswith("sftviz: gradient_accumulation_steps") and run.stderr.count("\n") == 1
    )


def test_a_reader_who_has_seen_enough_is_no_error():
    """`python -m sftviz | head`, where head is gone before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run([sys.executable, "-m", "sftviz"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, b"")
