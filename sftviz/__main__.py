"""`sftviz`, or `python -m sftviz`: the step, drawn in a terminal."""

import argparse
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module

from torch import Tensor

from sftviz import __version__
from sftviz.examples import WORKED_EXAMPLE
from sftviz.files import load_inputs
from sftviz.formats import UnreadableError, parse_json
from sftviz.inputs import StepInputs
from sftviz.rows import Rows, log_prob_rows, mask_rows
from sftviz.terminal import (
    Parser,
    abandon_output,
    columns,
    file_path,
    has_colours,
    one_line,
    printable,
    remark,
    say,
)
from sftviz.validate import above_zero
from sftviz.views.parts import NARROWEST, WIDTH
from sftviz.views.step import step_flow

_DESCRIPTION = """\
Draw one SFT microbatch train step: mask the log-probs, sum them, negate, divide by G,
divide by G again, backward. Without options: the worked example (B = 2, S = 4, G = 2)."""

_EXAMPLES = """\
examples:
  %(prog)s -G 4
      the worked example with four microbatches in a window: each gradient is now -1/16
  %(prog)s --log-probs "-0.5 -0.3; -0.4 -0.6" --mask "1 0; 1 1"
      two sequences of two tokens; the second token of the first is masked
  %(prog)s --from batch.json --save flow.svg
      a batch of your own, as a picture; the file contains, by name, policy_log_probs and
      response_mask, optionally gradient_accumulation_steps, normalize_constant, tokens

three more commands, each with a --help of its own:
  %(prog)s inspect batch.pt
      what is wrong with a batch that a training loop is fed with
  %(prog)s check my_step.py
      what is wrong with a function that computes the step
  %(prog)s practice
      one question after another about small batches, harder with each right answer

Log-probs are in nats, at most 0: log_softmax(logits), at the label of each token."""

# By name: the module and the function, which returns what is to be printed, a remark, the status.
_SUBCOMMANDS = {
    "check": ("sftviz.exercises.command", "check"),
    "inspect": ("sftviz.inspection.command", "inspect"),
    "practice": ("sftviz.predictions.command", "practice"),
}


def main(argv: list[str] | None = None, prog: str = "sftviz") -> int:
    """Draw what the arguments ask for; return the exit status.

    Args:
        argv: the words after the command; None: those of this process. In a notebook, give a list.
        prog: the command, for the examples in the help.
    """
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's has not
        sys.stdout.reconfigure(encoding="utf-8")  # a Windows pipe would refuse the box drawing
    status = 0
    words = sys.argv[1:] if argv is None else argv
    subcommand = _SUBCOMMANDS.get(words[0]) if words else None
    try:
        try:
            if subcommand is not None:
                module, function = subcommand
                command = getattr(import_module(module), function)  # a drawing does not need it
                said, note, status = command(f"{prog} {words[0]}", words[1:])
            else:
                said, note = _draw(_parser(prog), words)
            say(said)
            if note not in said:  # the description of a picture may contain it already
                remark(note)
        except SystemExit as end:  # --help, --version, or what was asked for can't be done
            status = end.code
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130  # 128 + SIGINT, as shells count
    except BrokenPipeError:  # `| head` has seen enough
        abandon_output()
    except OSError as error:
        abandon_output()
        remark(f"the output can't be written: {error.strerror}.")
        status = 1 if subcommand is None else 2  # of a subcommand, 1 is a finding
    return status


def _draw(parser: argparse.ArgumentParser, words: list[str]) -> tuple[str, str]:
    """What is to be printed, and a remark about the log-probs, which may be empty."""
    arguments = parser.parse_args(_join(words))
    with one_line(parser, arguments.source):
        batch = _batch(arguments)
    with one_line(parser, arguments.save):
        width = columns(WIDTH, NARROWEST) if arguments.width is None else arguments.width
        drawing = step_flow(batch.trace(), batch.tokens, width)
        said = drawing.coloured_text if has_colours() else drawing.text
        if arguments.save is not None:
            said = f"{printable(str(drawing.save(arguments.save)))}: {drawing.alt}"
    return said, above_zero(batch.policy_log_probs)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXAMPLES)
    rows = 'rows of numbers, ";" between rows, or a JSON list of lists'
    parser.add_argument("--log-probs", metavar="ROWS", help=f"policy_log_probs: {rows}")
    parser.add_argument(
        "--mask", metavar="ROWS", help="response_mask, likewise: 1 = response token, 0 = masked"
    )
    parser.add_argument(
        "-G",
        "--gradient-accumulation-steps",
        type=int,
        metavar="G",
        help="microbatches of one optimizer step",
    )
    parser.add_argument(
        "--normalize-constant", type=float, metavar="C", help="divides the masked sum"
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=file_path,
        metavar="FILE",
        help="read the batch from a .json, .pt or .npz",
    )
    parser.add_argument(
        "--save",
        type=file_path,
        metavar="FILE",
        help="write a .svg, .png, .pdf or .txt instead of printing",
    )
    parser.add_argument(
        "--width", type=int, help="cells to fit; as wide as the terminal if left out"
    )
    parser.add_argument("--version", action="version", version=f"sftviz {__version__}")
    return parser


def _join(argv: list[str]) -> list[str]:
    """Join an option to numbers that begin with a minus, which would pass for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--log-probs", "--mask", "--normalize-constant"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _batch(arguments: argparse.Namespace) -> StepInputs:
    batch = WORKED_EXAMPLE if arguments.source is None else load_inputs(arguments.source)
    if arguments.log_probs is not None:
        log_probs = _rows("--log-probs", arguments.log_probs, log_prob_rows)
        batch = replace(batch, policy_log_probs=log_probs, response_mask=None, tokens=None)
    if arguments.mask is not None:
        batch = replace(batch, response_mask=_rows("--mask", arguments.mask, mask_rows))
    names = ("gradient_accumulation_steps", "normalize_constant")
    given = {name: getattr(arguments, name) for name in names}
    return replace(batch, **{name: value for name, value in given.items() if value is not None})


def _rows(option: str, text: str, make: Callable[[str, Rows], Tensor]) -> Tensor:
    if text.lstrip().startswith("["):
        try:
            return make(option, parse_json(text))
        except UnreadableError as error:
            raise ValueError(f"{option} {error}.") from error
    rows = [re.split(r"[\s,]+", row.strip(" ,\n\t")) for row in re.split(r"[;\n]", text)]
    try:
        return make(option, [list(map(_number, row)) for row in rows])
    except ValueError as error:
        raise ValueError(f'{error} Or write them as "-0.5 -0.3; -0.4 -0.6".') from error


def _number(word: str) -> float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word.replace("−", "-"))  # a minus as the pictures print it
    return word


if __name__ == "__main__":
    sys.exit(main(prog="python -m sftviz"))
