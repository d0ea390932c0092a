"""`sftviz inspect`: a batch in a file, judged in a terminal."""

import json

from sftviz.files import read_file
from sftviz.inspection.inspection import inspect_batch
from sftviz.inspection.picture import draw
from sftviz.inspection.tokenizer_file import load_tokenizer
from sftviz.terminal import Parser, columns, file_path, one_line, printable
from sftviz.views.parts import NARROWEST, WIDTH

_DESCRIPTION = """\
Say what is wrong with a batch of training data: which token counts, the shift, padding, packing,
log-probs. The exit status is 0 if nothing is wrong, 1 if something is, 2 if it can't be read."""

_EXAMPLES = """\
examples:
  %(prog)s batch.pt
      what torch.save(batch, "batch.pt") wrote: a dictionary of tensors as the collator makes it
  %(prog)s batch.pt --tokenizer path/to/model --save report.html
      the same with the text of the tokens, in one file for a browser
  %(prog)s batch.npz --redact --json
      without texts and ids, for a program to read"""


def inspect(prog: str, words: list[str]) -> tuple[str, str, int]:
    """Inspect the batch in a file: what is to be printed, a remark, and the exit status."""
    parser = Parser(prog=prog, description=_DESCRIPTION, epilog=_EXAMPLES)
    parser.add_argument("file", type=file_path, metavar="FILE", help="a .pt, .npz or .json")
    parser.add_argument(
        "--tokenizer", type=file_path, metavar="DIR", help="a folder with a tokenizer.json"
    )
    parser.add_argument(
        "--save",
        type=file_path,
        metavar="FILE",
        help="also write a .html, .svg, .png, .pdf or .txt",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument(
        "--redact", action="store_true", help="no texts and no ids: shapes, counts, places"
    )
    ids = "if the tokenizer does not know it"
    parser.add_argument("--pad-token-id", type=int, metavar="ID", help=ids)
    parser.add_argument("--eos-token-id", type=int, metavar="ID", help=ids)
    parser.add_argument(
        "--accept", action="append", default=[], metavar="NAME", help="a finding that is meant so"
    )
    parser.add_argument("-G", "--gradient-accumulation-steps", type=int, metavar="G")
    parser.add_argument("--width", type=int, help="cells to fit")
    arguments = parser.parse_args(words)
    with one_line(parser, arguments.tokenizer):
        tokenizer = arguments.tokenizer and load_tokenizer(arguments.tokenizer)
    with one_line(parser, arguments.file):
        inspection = inspect_batch(
            read_file(arguments.file),
            tokenizer,
            gradient_accumulation_steps=arguments.gradient_accumulation_steps,
            accept=arguments.accept,
            needs_grad=False,
            redact=arguments.redact,
            pad_token_id=arguments.pad_token_id,
            eos_token_id=arguments.eos_token_id,
        )
    remark = ""
    with one_line(parser, arguments.save):
        width = columns(WIDTH, NARROWEST) if arguments.width is None else arguments.width
        if arguments.json:
            said = json.dumps(inspection.as_dict(), indent=2, ensure_ascii=False)
        else:
            said = str(draw(inspection, width))
        if arguments.save is not None:
            remark = f"{printable(str(inspection.save(arguments.save)))} was written."
    is_wrong = any(finding.severity != "note" for finding in inspection.findings)
    return said, remark, int(is_wrong)
