"""What is said to an answer: it is compared with what is computed, and met by its cause."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sftviz.drawing.formatting import count_of, number
from sftviz.mistakes import Mistake, recognise
from sftviz.mistakes.answer import Answer, read_answer
from sftviz.predictions.question import Ask, Bits, Choice, Number
from sftviz.validate import brief, place

CANT_SAY = "can't say"
_MOST = 3  # names or places in one sentence


@dataclass(frozen=True)
class Reply:
    """An answer beside the truth, and what is said to it.

    Numbers are written as everywhere, a mask as its rows: "1101 1111".
    """

    is_right: bool
    yours: str
    right: str
    message: str  # what would have led to this answer; may be empty if it is right


def reply(ask: Ask, answer: object) -> Reply:
    """Compare an answer with what is computed, and find what would have led to it.

    Args:
        ask: what was asked.
        answer: of a `Number` the text that was typed; its digits decide how exact it is. Of a
            `Choice` the place of an option, from 0. Of `Bits` rows of 0 and 1, (B, S). None: the
            person can't say, and sees what is so.

    Raises:
        ValueError: it is not an answer to what was asked.

    Example:
        >>> from sftviz.examples import WORKED_EXAMPLE
        >>> loss = Number("scaled_loss", lambda: 0.7, inputs=WORKED_EXAMPLE, quantity="scaled_loss")
        >>> reply(loss, "5").message
        'No known mistake gives 5 here.'
    """
    if answer is None:
        return Reply(False, CANT_SAY, right_answer(ask), "")
    match ask:
        case Number():
            return _to_number(ask, _read_number(ask, answer))
        case Choice():
            return _to_choice(ask, _read_choice(ask, answer))
        case Bits():
            return _to_bits(ask, _read_bits(ask, answer))


def right_answer(ask: Ask) -> str:
    """What is so, computed and written."""
    match ask:
        case Number():
            return number(ask.value())
        case Choice():
            return ask.options[ask.value()].text
        case Bits():
            return _written(ask.value())


def check_answer(ask: Ask, answer: object) -> None:
    """Check that something is an answer to what was asked. Nothing is computed.

    Raises:
        ValueError: it is not; says what to do.
    """
    match ask:
        case Number():
            _read_number(ask, answer)
        case Choice():
            _read_choice(ask, answer)
        case Bits():
            _read_bits(ask, answer)


def _to_number(ask: Number, read: Answer) -> Reply:
    truth = ask.value()
    right = number(truth)
    typed = read.value.item()
    yours = number(int(typed) if isinstance(truth, int) and typed.is_integer() else typed)
    # Pictures show four digits: nobody has to know more.
    if _fits(read, truth) or yours == right:
        mistakes = _mistakes(ask, str(truth))  # of two digits, others are right as well
        are_few = 0 < len(mistakes) <= _MOST  # if many agree, the batch tells nothing apart
        return Reply(True, yours, right, f"{_given_by(mistakes)} it here too." if are_few else "")
    beliefs = [each.because for each in ask.beliefs if _fits(read, each.value())]
    mistakes = _mistakes(ask, read.text)
    if not beliefs and not mistakes:
        is_not = f"{yours} is not {ask.label}."
        message = is_not if ask.inputs is None else f"No known mistake gives {yours} here."
    else:
        message = _causes(yours, beliefs, mistakes)
    return Reply(False, yours, right, message)


def _read_number(ask: Number, answer: object) -> Answer:
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"a number is asked for, got {brief(answer)}: type one such as -0.25.")
    return read_answer(answer, ask.quantity, torch.Size())


def _mistakes(ask: Number, answer: str) -> tuple[Mistake, ...]:
    """The known mistakes that give a number, if it is one of a step."""
    return () if ask.inputs is None else recognise(answer, ask.quantity, ask.inputs).mistakes


def _fits(read: Answer, truth: float) -> bool:
    return read.fits(torch.tensor(truth, dtype=torch.float64))


def _causes(yours: str, beliefs: Sequence[str], mistakes: Sequence[Mistake]) -> str:
    """What would have led to a wrong number. That there are several ways is said first."""
    sentences = [*beliefs]
    if len(beliefs) > 1:
        sentences.insert(0, f"{len(beliefs)} ways lead to {yours}.")
    if mistakes:
        sentences.append(f"{_given_by(mistakes)} {yours} here.")
    if len(mistakes) == 1 and not beliefs:
        sentences += [mistakes[0].cause, mistakes[0].remedy]
    return " ".join(sentences)


def _given_by(mistakes: Sequence[Mistake]) -> str:
    names = [f'"{mistake.name}"' for mistake in mistakes]
    if len(names) == 1:
        return f"The mistake {names[0]} gives"
    if len(names) > _MOST:
        return f"{len(names)} mistakes, such as {' and '.join(names[: _MOST - 1])}, give"
    return f"The mistakes {', '.join(names[:-1])} and {names[-1]} give"


def _read_choice(ask: Choice, answer: object) -> int:
    last = len(ask.options) - 1
    if type(answer) is int and 0 <= answer <= last:
        return answer
    raise ValueError(
        f"the place of an option is asked for, from 0 to {last}, got {brief(answer)}: "
        "choose one of them."
    )


def _to_choice(ask: Choice, place: int) -> Reply:
    chosen = ask.options[place]
    right = right_answer(ask)
    return Reply(chosen.text == right, chosen.text, right, chosen.reply)


def _to_bits(ask: Bits, painted: Tensor) -> Reply:
    truth = ask.value() != 0  # (B, S)
    yours, right = _written(painted), _written(truth)
    if yours == right:
        return Reply(True, yours, right, "")
    causes = [cause for mask, cause in ask.beliefs if _written(mask()) == yours]
    if causes:
        return Reply(False, yours, right, _causes("this mask", causes, ()))
    wrong = (painted != truth).nonzero().tolist()
    places = "; ".join(place(row, column) for row, column in wrong[:_MOST])
    more = f"; and {len(wrong) - _MOST} more" if len(wrong) > _MOST else ""
    differ = "is different" if len(wrong) == 1 else "are different"
    said = f"{count_of(len(wrong), 'bit')} of {truth.numel()} {differ}: {places}{more}."
    return Reply(False, yours, right, said)


def _read_bits(ask: Bits, answer: object) -> Tensor:
    shape = len(ask.tokens), len(ask.tokens[0])
    try:
        bits = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError):
        bits = torch.empty(0)
    if tuple(bits.shape) != shape or not bool(((bits == 0) | (bits == 1)).all()):
        raise ValueError(
            f"a mask of {shape[0]} × {shape[1]} bits is asked for, got {brief(answer)}: "
            "give rows of 0 and 1, one bit for each token."
        )
    return bits != 0


def _written(mask: Tensor) -> str:
    """The rows of a mask: "1101 1111"."""
    return " ".join("".join(str(int(bit)) for bit in row) for row in (mask != 0).tolist())
