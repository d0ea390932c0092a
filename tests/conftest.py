"""What several test files use."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from sftviz import WORKED_EXAMPLE, step_flow
from sftviz.live.widget import LiveDrawing
from sftviz.step import StepTrace

torch.set_num_threads(1)  # the batches are small: more threads would only wait for each other

# Tokens that would break out of their cell, of the line or of the file, if they were let.
HOSTILE = (
    ("<script>alert(1)</script>", "a&b", "\"quote'", "$x_{$", "\x1b[31m\x00\n", "x" * 300),
    ("日本語テキスト", "👩‍👩‍👧‍👦🇬🇧", "שבת", "a\u0301e\u0301", "\u202e\u2066", "\ud800\ufffe\u2028"),
)


@pytest.fixture
def worked() -> StepTrace:
    """The worked example: B = 2, S = 4, G = 2, one token masked."""
    return WORKED_EXAMPLE.trace()


@pytest.fixture
def hostile() -> tuple[tuple[str, ...], ...]:
    """Two rows of six tokens."""
    return HOSTILE


@pytest.fixture
def shown_errors(monkeypatch) -> Iterator[list[str]]:
    """The errors that explorers show. At its end, a test must have removed those it expects."""
    errors = []
    guard = LiveDrawing.guard

    @contextmanager
    def record(live: LiveDrawing) -> Iterator[None]:
        with guard(live):
            yield
        if live.error["message"]:
            errors.append(live.error["message"])

    monkeypatch.setattr(LiveDrawing, "guard", record)
    yield errors
    assert errors == []


@pytest.fixture
def python(tmp_path):
    """Run Python in a process of its own; what it wrote and its exit status come back."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **variables},
            capture_output=True,
            encoding="utf-8",
        )

    return run


_SAVE = """\
import sys; from pathlib import Path; from sftviz import WORKED_EXAMPLE, step_flow
drawing = step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens)
for ending in ("svg", "txt", "png", "pdf"): drawing.save(Path(sys.argv[1], f"flow.{ending}"))
"""


@pytest.fixture(scope="session")
def same_bytes_elsewhere(tmp_path_factory):
    """Whether the worked example's flow is saved as the same bytes here and in another process,
    whose strings hash differently."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run(
        [sys.executable, "-c", _SAVE, there],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": seed},
        check=True,
    )
    drawing = step_flow(WORKED_EXAMPLE.trace(), WORKED_EXAMPLE.tokens)

    def same(ending: str) -> bool:
        name = f"flow.{ending}"
        saved = [drawing.save(here / name).read_bytes(), (there / name).read_bytes()]
        return len({hashlib.sha256(data).digest() for data in saved}) == 1

    return same
