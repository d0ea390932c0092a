"""`sftviz`, or `python -m sftviz`: the step, drawn in a terminal."""

import argparse
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from typing import NoReturn

import torch

from sftviz import __version__
from sftviz.examples import WORKED_EXAMPLE
from sftviz.files import load_inputs
from sftviz.inputs import StepInputs, matrix
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

Log-probs are in nats, at most 0: log_softmax(logits), at the label of each token."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sftviz: {message}\n")  # one line: the usage is a --help away


def main(argv: list[str] | None = None, prog: str = "sftviz") -> int:
    """Draw what the arguments ask for; return the exit status."""
    parser = _parser(prog)
    arguments = parser.parse_args(_join(sys.argv[1:] if argv is None else argv))
    sys.stdout.reconfigure(encoding="utf-8")  # a Windows pipe would refuse the box drawing
    try:
        batch = _batch(arguments)
        drawing = step_flow(batch.trace(), batch.tokens, _width(arguments))
        said = f"{drawing.save(arguments.save)}: {drawing.alt}" if arguments.save else drawing
    except OSError as error:
        parser.error(f"{error.filename or arguments.save}: {error.strerror}.")
    except (TypeError, ValueError, OverflowError) as error:
        parser.error(str(error))
    try:
        print(said, flush=True)
    except BrokenPipeError:  # `| head` has seen enough; Python would complain of it at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        "--from", dest="source", metavar="FILE", help="read the batch from a .json, .pt or .npz"
    )
    parser.add_argument(
        "--save", metavar="FILE", help="write a .svg, .png, .pdf or .txt instead of printing"
    )
    parser.add_argument(
        "--width", type=int, help="cells to fit; as wide as the terminal if left out"
    )
    parser.add_argument("--version", action="version", version=f"sftviz {__version__}")
    return parser


def _join(argv: list[str]) -> list[str]:
    """Join an option to rows that begin with a minus, which would pass for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] == "--log-probs":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _batch(arguments: argparse.Namespace) -> StepInputs:
    batch = load_inputs(arguments.source) if arguments.source else WORKED_EXAMPLE
    if arguments.log_probs is not None:
        log_probs = _rows("--log-probs", arguments.log_probs)
        batch = replace(batch, policy_log_probs=log_probs, response_mask=None, tokens=None)
    if arguments.mask is not None:
        batch = replace(batch, response_mask=_rows("--mask", arguments.mask))
    names = ("gradient_accumulation_steps", "normalize_constant")
    given = {name: getattr(arguments, name) for name in names}
    return replace(batch, **{name: value for name, value in given.items() if value is not None})


def _rows(option: str, text: str) -> torch.Tensor:
    if text.lstrip().startswith("["):
        try:
            return matrix(option, json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"{option} is no JSON list of lists: {error}.") from error
    rows = [re.split(r"[\s,]+", row.strip(" ,\n\t")) for row in re.split(r"[;\n]", text)]
    try:
        return matrix(option, rows)
    except ValueError as error:
        raise ValueError(f'{error} Or write them as "-0.5 -0.3; -0.4 -0.6".') from error


def _width(arguments: argparse.Namespace) -> int:
    if arguments.width is not None:
        return arguments.width
    if not sys.stdout.isatty():
        return WIDTH
    return max(NARROWEST, shutil.get_terminal_size().columns)


if __name__ == "__main__":
    sys.exit(main(prog="python -m sftviz"))
