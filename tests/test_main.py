"""The command `sftviz`: what it prints, what it reads, what it writes, and how it refuses."""

import errno
import io
import json
import os
import pickle
import re
import signal
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


@pytest.mark.parametrize(
    ("variables", "has_colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_only_a_terminal_that_has_colours_gets_them(run, monkeypatch, variables, has_colours):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "name", "posix")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert "\x1b" not in run()[1]  # a pipe
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "112")
    status, out, _ = run()
    assert status == 0 and ("\x1b[38;5;" in out) is has_colours
    assert (
        re.sub(r"\x1b\[[0-9;]*m", "", out)
        == step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens).text + "\n"
    )


def test_G_and_the_constant_change_the_worked_example(run):
    status, out, _ = run("-G", 4, "--normalize-constant", 7)
    assert status == 0 and "[−0.008929]" in out and "−1 ÷ (4² · 7)" in out


@pytest.mark.parametrize(
    "rows",
    [
        "-0.5 -0.25; -1 -2",
        "-.5,-.25;-1,-2",
        "[[-0.5, -0.25], [-1, -2]]",
        "-0.5 -0.25\n-1 -2",
        "−0.5 −0.25; −1 −2",  # as the picture writes them
    ],
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


@pytest.mark.parametrize("saved", [False, True])
def test_log_probs_above_0_are_remarked_on_beside_the_picture(run, saved, tmp_path):
    words = ["--save", tmp_path / "flow.svg"] if saved else []
    status, out, err = run("--log-probs", "0.0 0.7; 0.9 0.1", "--mask", "1 0; 1 1", *words)
    assert status == 0 and ("flow.svg: SFT step" if saved else "╭") in out
    assert (out + err).count(
        "3 log-probs are above 0 (the first: row 1, token 2), but a log-prob is at most 0: "
        "these look like probabilities, so take their log."
    ) == 1
    assert saved or err.startswith("sftviz: 3 log-probs are above 0 (")
    assert "look like logits" in "".join(run("--log-probs", "-3 2.5 1.5", *words)[1:])
    assert run("--log-probs", "-3 -2.5", *words)[2] == ""


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


def test_a_path_is_printed_without_what_a_terminal_would_obey(run, tmp_path):
    path = tmp_path / "\x1b[31mred\n.svg"
    assert run("--save", path)[1].startswith(rf"{tmp_path}/\x1b[31mred\n.svg: SFT step, ")
    assert path.exists()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are Unicode here")
def test_a_name_that_is_not_unicode_is_read_and_written(run, tmp_path):
    write(tmp_path / "batch.json").rename(tmp_path / os.fsdecode(b"\xff.json"))
    words = "--from", tmp_path / os.fsdecode(b"\xff.json"), "--save", tmp_path / "\udcfe.svg"
    status, out, err = run(*words)
    assert (status, err) == (0, "") and out.startswith(rf"{tmp_path}/\udcfe.svg: SFT step, ")
    assert os.path.exists(os.fsencode(tmp_path) + b"/\xfe.svg")


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
        (
            ["--normalize-constant", "-1e3"],
            "normalize_constant must be a finite number above 0, got -1000.0: it divides",
        ),
        (["--mask", "-.5,3"], "response_mask has shape (1, 2) but policy_log_probs has shape (2"),
        (["--mask", "1 2; 1 1"], "response_mask has shape (2, 2) but policy_log_probs has shape"),
        (["--mask", "2 0 1 1; 1 1 1 1"], "response_mask must contain only 0 and 1, got 2 at row 1"),
        (["--mask", "1 0.9999999999"], "response_mask has shape (1, 2) but policy_log_probs has"),
        (
            ["--log-probs", "-1 -2", "--mask", "1 0.9999999999"],
            "response_mask must contain only 0 and 1, got 0.9999999999 at row 1, token 2: 1 marks",
        ),
        (["--log-probs", "15 27 3"], "--log-probs must be floating point, got 15 at row 1, token"),
        (["--log-probs", "[[-1, true]]"], "--log-probs must be rows of numbers, got bool True at"),
        (["--log-probs", '[["-1"]]'], "--log-probs must be rows of numbers, got str '-1' at row 1"),
        (["--log-probs", "[" * 9999], "--log-probs is nested too deeply: give rows of numbers."),
        (["--log-probs", '[{"a": 1, "a": 2}]'], "--log-probs contains 'a' twice: give each"),
        (["--from", ""], "argument --from: give a path, got an empty one: is a variable unset?"),
        (["--save", ""], "argument --save: give a path, got an empty one: is a variable unset?"),
        (
            ["--from", "\x1b[31m\u202ered.json"],
            r"\x1b[31m\u202ered.json: No such file or directory.",
        ),
        (["--from", "a\nb.json"], r"a\nb.json: No such file or directory."),
        (["--from", os.fsdecode(b"\xff.json")], r"\udcff.json: No such file or directory."),
        (["--\x1b[31m"], r"unrecognized arguments: --\x1b[31m"),
        (
            ["--mask", "1 x"],
            "--mask must be rows of numbers, got str 'x' at row 1, token 2: "
            'write them as [[0, 1], [1, 1]]. Or write them as "-0.5 -0.3; -0.4 -0.6".',
        ),
        (["--mask", "1 0; 1"], "--mask has rows of 2, 1 entries: give all rows the same length"),
        (["--log-probs", ""], "--log-probs must be rows of numbers, got str '' at row 1, token 1"),
        (["--log-probs", "[[-1,"], "--log-probs is not JSON: Expecting value at line 1, column "),
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
        assert err.startswith("sftviz: batch.pt contains policy_log_probs made by ")
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
        assert out.startswith("╭") and (not err or " above 0 (" in err)
        assert err.count("\n") <= 1
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


def test_in_a_notebook_it_prints_into_what_is_there(monkeypatch):
    """A notebook's output is not a file and has no encoding to change."""
    monkeypatch.setattr(sys, "stdout", out := io.StringIO())
    assert main([]) == 0
    assert out.getvalue() == step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens).text + "\n"
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    assert main() == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not enough memory for this batch: give fewer or shorter rows."),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GB"),
            "there is not enough memory for this batch: give fewer or shorter rows.",
        ),
        (OSError("no number"), "None: no number."),
    ],
)
def test_too_little_memory_is_one_line(run, monkeypatch, error, said):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("sftviz.__main__.step_flow", fail)
    assert run() == (2, "", f"sftviz: {said}\n")


def test_an_interrupt_is_quiet(run, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sftviz.__main__.step_flow", interrupt)
    assert run() == (130, "", "")


def test_an_error_of_our_own_is_not_hidden(run, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a defect")

    monkeypatch.setattr("sftviz.__main__.step_flow", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run()


COMMAND = [sys.executable, "-m", "sftviz"]


def test_a_reader_who_has_seen_enough_is_no_error():
    """`python -m sftviz | head`, where head is gone before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(COMMAND, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, b"")


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


@needs_full
def test_an_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        run = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE)
    assert run.returncode == 1
    assert run.stderr == b"sftviz: the output can't be written: No space left on device.\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_an_output_that_is_closed_is_one_line():
    run = subprocess.run(f"'{sys.executable}' -m sftviz >&-", shell=True, capture_output=True)
    assert run.returncode == 1
    assert run.stderr == b"sftviz: the output can't be written: Bad file descriptor.\n"


class Unwritable(io.StringIO):
    """What is written to it stays in its buffer; flushing the buffer is an error."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def flush(self):
        raise self.error


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["--save", "flow.svg"]], ids=str)
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BrokenPipeError(), 0, ""),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "sftviz: the output can't be written: No space left on device.\n",
        ),
    ],
    ids=["gone", "full"],
)
def test_whatever_is_printed_the_output_may_be_unwritable(
    words, error, status, said, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", Unwritable(error))
    monkeypatch.setattr(sys, "stderr", err := io.StringIO())
    assert (main(words), err.getvalue()) == (status, said)


@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        ([], ["stdout", "stderr"], 1),
        (["--log-probs", "0.5"], ["stderr"], 0),
        (["--nonsense"], ["stderr"], 2),
        (["--nonsense"], ["stdout"], 2),
        (["--help"], ["stdout"], 0),
    ],
)
def test_an_output_that_python_did_not_find_is_no_traceback(words, closed, status, monkeypatch):
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    assert main(words) == status


@needs_full
@pytest.mark.parametrize("ending", ["svg", "png", "pdf", "txt"])
def test_a_full_disk_is_one_line(run, ending, tmp_path):
    path = tmp_path / f"flow.{ending}"
    path.symlink_to("/dev/full")
    assert run("--save", path) == (2, "", f"sftviz: {path}: No space left on device.\n")


@pytest.mark.skipif(os.name != "posix", reason="no named pipes here")
def test_an_interrupted_process_is_quiet(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)  # to which nothing is written: the command waits for it
    run = subprocess.Popen(
        [*COMMAND, "--from", pipe],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored under nohup
    )
    with pipe.open("wb"):  # returns when the command has opened it too
        run.send_signal(signal.SIGINT)
        assert run.communicate(timeout=60) == (b"", b"")
    assert run.returncode == 130
