"""Which format a batch has: recognised by names and numbers, and brought to one form."""

from sftviz.inspection.batch import Hints, Reading
from sftviz.inspection.formats.alignment import Alignment, align
from sftviz.inspection.formats.collect import Columns, collect
from sftviz.inspection.formats.marks import Marks, read_mask
from sftviz.inspection.formats.normal import normal_form
from sftviz.inspection.formats.padding import divide
from sftviz.validate import listed

NO_HINTS = Hints()
# Of a batch that is not shifted.
PLACES = "A place is where a token is read: what is predicted there is one column later."


def read_batch(batch: object, hints: Hints = NO_HINTS) -> Reading:
    """Recognise a batch and bring it to the form of `NormalBatch`.

    Args:
        batch: a mapping of tensors, arrays or lists, or an object that has them as attributes; one
            row or many, padded or packed. Or a list of such mappings, of one example each; or a
            pair of inputs and targets. It is not changed.
        hints: what decides where it can be read in more than one way.

    Raises:
        TypeError, ValueError: nothing in it can be read as a batch.

    Example:
        >>> batch = {"input_ids": [[5, 6, 7, 8]], "labels": [[-100, -100, 7, 8]]}
        >>> reading = read_batch(batch)
        >>> reading.format
        'input_ids with labels of −100, not shifted, as Hugging Face, TRL and axolotl have them'
        >>> reading.batch.response_mask.int().tolist()
        [[0, 1, 1]]
    """
    columns = collect(batch)
    parts = divide(columns, hints)
    alignment = align(columns, parts, hints)
    marks = read_mask(columns, parts, alignment, hints)
    questions = [alignment.question, marks.question]
    if not {"labels", "mask", "log_probs"} & {*columns.names}:
        questions.append(
            "Nothing says which tokens count: read as if all do; give labels or a loss_mask."
        )
    evidence = [*alignment.evidence, *marks.evidence, *parts.evidence]
    if "labels" in columns.names and not alignment.is_shifted:
        evidence.append(PLACES)
    if columns.unused:
        evidence.append(f"Not used: {listed(columns.unused)}.")
    return Reading(
        format=_phrase(columns, alignment, marks),
        evidence=tuple(evidence),
        batch=normal_form(columns, parts, alignment, marks, hints.pad_token_id),
        shift=alignment.shift,
        usual_shift=alignment.usual_shift,
        question=" ".join(filter(None, questions)),
        log_probs=columns.log_probs,
    )


def _phrase(columns: Columns, alignment: Alignment, marks: Marks) -> str:
    """What a batch was taken for, in one phrase."""
    names = columns.names
    main = [names[role] for role in ("log_probs", "ids", "labels") if role in names]
    words = " with ".join(main)
    if alignment.ignore_index is not None:  # a token id is content of the batch: it is not named
        ignored = f"of {alignment.ignore_index}" if alignment.ignore_index < 0 else "of a token id"
        words += f" {ignored}".replace("-", "−")
    if "labels" in names:
        words += ", shifted," if alignment.is_shifted else ", not shifted,"
    if "mask" in names:
        words += f" and {names['mask']}" if main else names["mask"]
        if "ids" in names and marks.is_about_label != (alignment.is_shifted):
            words += " about the next token" if marks.is_about_label else " about the token itself"
        elif "ids" in names and "labels" not in names:
            words += " about the token itself"
        if not marks.marks_counted:
            words += " (1 = masked)"
    words = words.removesuffix(",")
    stack = _stack(names, alignment, marks)
    return f"{words}, as {stack} {'has' if stack in _ONE else 'have'} them" if stack else words


_ONE = ("the step", "nanochat", "torchtune", "prime-rl", "TRL before collation", "verl")


def _stack(names: dict[str, str], alignment: Alignment, marks: Marks) -> str:
    """Who has batches with such names and such a shift. Empty: nobody that is known here."""
    ids, labels, mask = (names.get(role, "") for role in ("ids", "labels", "mask"))
    shifted = alignment.is_shifted
    match (ids, labels, mask):
        case _ if "log_probs" in names:
            return "the step" if mask == "response_mask" else ""
        case "input_ids", "labels", "" if not shifted:
            return "Hugging Face, TRL and axolotl"
        case "input_ids", "", _ if mask.startswith(("completion_mask", "assistant_mask")):
            return "TRL before collation"
        case "input_ids", "", "loss_mask":
            return "OpenRLHF and older versions of verl" if marks.is_about_label else "verl"
        case "input_ids", "labels", "response_mask" if shifted:
            return "CS336 and sftviz"
        case "input_ids", "target_ids", "loss_mask" if shifted:
            return "prime-rl"
        case "inputs", "targets", _ if shifted:
            return "nanochat" if alignment.ignore_index == -1 else "torchtitan and CS336"
        case "input", "labels" | "targets", _ if shifted:
            return "torchtitan and CS336"
        case "tokens", "labels", "loss_mask" if shifted:
            return "Megatron and NeMo"
        case _, "target_tokens", "weights" if shifted:
            return "Tinker and Fireworks"
        case "tokens", "labels", "mask" | "":
            return "torchtune"
    return ""
