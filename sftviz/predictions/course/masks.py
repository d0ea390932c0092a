"""Questions of `02_masks_and_log_probs`: from text to labels, a mask and log-probs."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from sftviz.drawing.drawing import Drawing
from sftviz.experiments.bigram import BigramModel
from sftviz.label_log_probs import label_log_probs
from sftviz.log_probs import get_response_log_probs
from sftviz.predictions.course.pictures import outcome_list, value_table
from sftviz.predictions.question import Belief, Bits, Choice, Number, Option, Question
from sftviz.step import sft_microbatch_train_step
from sftviz.tokens import TokenBatch, Turn, build_token_batch
from sftviz.views.tokens import shift_view

VOCABULARY = ("<pad>", "<start>", "<end>", "2", "+2=", "4", "Why?")
END = VOCABULARY.index("<end>")
CONVERSATIONS: list[list[Turn]] = [
    [("prompt", [1, 3, 4]), ("response", [5, 2])],
    [("prompt", [1, 3]), ("response", [3, 2]), ("prompt", [6]), ("response", [5, 2])],
]
BATCH = build_token_batch(CONVERSATIONS, pad_id=0)


def _words(ids: Tensor) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(VOCABULARY[token] for token in row) for row in ids.tolist())


def _reading() -> Drawing:
    """What the model reads and what comes next, without the mask."""
    columns = {
        f"{name} {row}": words
        for row in (1, 2)
        for name, ids in (("reads", BATCH.input_ids), ("next", BATCH.labels))
        for words in _words(ids[row - 1 : row])
    }
    rows = {
        str(position): {name: words[position - 1] for name, words in columns.items()}
        for position in range(1, BATCH.labels.shape[1] + 1)
    }
    return value_table(rows, "what row 1 and row 2 read, and what comes next", "entry")


def _shown(mask: Tensor, width: int) -> Drawing:
    return shift_view(TokenBatch(BATCH.input_ids, BATCH.labels, mask), VOCABULARY, width)


# Masks that people make instead, each (B, S).

# What is read is one token earlier than what is predicted: the first one is the start token.
_FROM_INPUTS = torch.cat([torch.zeros(2, 1, dtype=torch.bool), BATCH.response_mask[:, :-1]], 1)
_WITHOUT_END = BATCH.response_mask & (BATCH.labels != END)

# The mask

THE_MASK = Question(
    name="the mask",
    text=(
        "The first conversation is the prompt “<start> 2 +2=” and the response “4 <end>”; then "
        "comes padding. Above each bit stands the token that the model reads there, and it has to "
        "predict the next one. At which positions does that count?"
    ),
    asks=(
        Bits(
            "response_mask",
            _words(BATCH.input_ids[:1]),
            lambda: BATCH.response_mask[:1],
            (
                (
                    lambda: _FROM_INPUTS[:1],
                    "This is where response tokens are read. But a token counts where it is "
                    "predicted, and that is one position earlier.",
                ),
                (
                    lambda: _FROM_INPUTS[:1] | BATCH.response_mask[:1],
                    "This is where response tokens are predicted or read. Where <end> is read, "
                    "padding is predicted, and that should not be learned.",
                ),
                (
                    lambda: _WITHOUT_END[:1],
                    "<end> belongs to the response: a model that does not learn to predict it "
                    "never learns to stop.",
                ),
                (
                    lambda: BATCH.labels[:1] != 0,
                    "This counts all that is not padding. The prompt is given to the model, and "
                    "it should not learn to write it.",
                ),
            ),
        ),
    ),
    why=(
        "The mask belongs to the labels, not to what is read. At “+2=”, the last token of the "
        "prompt, the label is the first token of the response, so this bit is 1."
    ),
    after=lambda width: shift_view(BATCH, VOCABULARY, width),
)

# The mask of the inputs


def _set(mask: Tensor) -> set[str]:
    """The labels under a mask, in the second row."""
    return {VOCABULARY[label] for label in BATCH.labels[1][mask[1]].tolist()}


MASK_OF_THE_INPUTS = Question(
    name="the mask of the inputs",
    text=(
        "Somebody sets the mask to 1 where the token that the model reads belongs to a response. "
        "In the second row the model reads “<start> 2 2 <end> Why? 4”, and the labels are “2 2 "
        "<end> Why? 4 <end>”. Which labels are never learned, and which are learned by mistake?"
    ),
    asks=(
        Choice(
            "never learned",
            (
                Option(
                    "none: only the positions are moved",
                    "A mask that is moved by one loses something at one end of each response, and "
                    "gains something at the other. Write both masks below the labels.",
                ),
                Option(
                    "“<end>”, the last of each response",
                    "At the position where the last word of a response is read, “<end>” is "
                    "predicted, and there this mask is 1. It is lost at the other end.",
                ),
                Option(
                    "“2” and “4”, the first of each response",
                    "They are predicted where a prompt token is read, and there this mask is 0.",
                ),
            ),
            lambda: [set(), {"<end>"}, {"2", "4"}].index(_set(BATCH.response_mask & ~_FROM_INPUTS)),
        ),
        Choice(
            "learned by mistake",
            (
                Option(
                    "“Why?”, the first token of the user's next turn",
                    "It is predicted where “<end>” is read, and “<end>” belongs to a response.",
                ),
                Option(
                    "“<start>”",
                    "“<start>” is the first token of the row, so it is never predicted at all.",
                ),
                Option(
                    "none",
                    "After a response another turn can follow: ask what is predicted where the "
                    "“<end>” in the middle is read.",
                ),
            ),
            lambda: [{"Why?"}, {"<start>"}, set()].index(_set(_FROM_INPUTS & ~BATCH.response_mask)),
        ),
    ),
    why=(
        "There is no error and the number of tokens hardly changes: the model only never learns "
        "to begin an answer, and learns to speak for the user."
    ),
    after=lambda width: _shown(_FROM_INPUTS, width),
    minutes=2.0,
)

# Padding with <end>

_PADDED = build_token_batch(CONVERSATIONS, pad_id=END)
_NOT_PADDING = _PADDED.response_mask & (_PADDED.labels != END)


def _lost_by_padding() -> int:
    """0: nothing is lost; 1: the first tokens of the responses; 2: the end tokens."""
    lost = set(_PADDED.labels[_PADDED.response_mask & ~_NOT_PADDING].tolist())
    return 2 if lost == {END} else 1 if lost else 0


PADDED_WITH_END = Question(
    name="padding with the end token",
    text=(
        "Some tokenizers have no token for padding, so people pad with “<end>”. And to be safe "
        "they set the mask to 0 wherever the label is the padding token. "
        "Which response tokens does the model then never learn?"
    ),
    asks=(
        Choice(
            "never learned",
            (
                Option(
                    "None: the padding is not in the response.",
                    "The padding is not, but the same token is: each response ends with one. To a "
                    "comparison with the padding's number they are the same.",
                ),
                Option(
                    "The first of each response.",
                    "That is the mistake of a mask that is moved. Here nothing is moved; compare "
                    "each label with “<end>”.",
                ),
                Option(
                    "“<end>”, the last of each response.",
                    "The end of a response has the same number as the padding, so it is masked "
                    "with it.",
                ),
            ),
            _lost_by_padding,
        ),
    ),
    why=(
        "A model that never learns “<end>” does not stop writing. Make the mask from the turns, "
        "as build_token_batch does, and not from the values of the tokens."
    ),
    after=lambda width: shift_view(
        TokenBatch(_PADDED.input_ids, _PADDED.labels, _NOT_PADDING), VOCABULARY, width
    ),
)

# A model that knows nothing


def _uniform(V: int) -> float:
    """The log-prob of a label, if each of V tokens has the same logit."""
    return label_log_probs(torch.zeros(1, 1, V), torch.zeros(1, 1, dtype=torch.int64)).item()


KNOWS_NOTHING = Question(
    name="knows nothing",
    text=(
        "A model knows nothing: it gives each of the 7 tokens the same probability. "
        "What is the log-prob of a label then?"
    ),
    asks=(
        Number(
            "the log-prob of a label",
            lambda: _uniform(7),
            (
                Belief(
                    lambda: -_uniform(7),
                    "A log-prob is the logarithm of a number between 0 and 1, so it is never "
                    "above 0. With the other sign this is the loss of one token.",
                ),
                Belief(
                    lambda: _uniform(7) / math.log(2),
                    "This is in bits, from the logarithm to the base 2. torch takes the natural "
                    "logarithm, whose unit is the nat.",
                ),
                Belief(
                    lambda: _uniform(7) / math.log(10),
                    "This is the logarithm to the base 10. torch takes the natural logarithm.",
                ),
                Belief(
                    lambda: 1 / 7,
                    "This is the probability. The step takes its logarithm.",
                ),
                Belief(
                    lambda: -1 / 7,
                    "This is the probability with another sign. A log-prob is its logarithm.",
                ),
                Belief(
                    lambda: 0.0,
                    "A log-prob of 0 is a probability of 1: the model would be certain of it.",
                ),
            ),
        ),
    ),
    why=(
        "It is −ln V, with V = 7 tokens: such a model has a loss of ln V a token. A pretrained "
        "model is far below that from its first step; if yours is not, its weights were not "
        "loaded, or the labels do not belong to the logits."
    ),
    after=lambda width: value_table(
        {f"V = {V}": {"log-prob": _uniform(V)} for V in (2, 7, 1000, 151_936)},
        "the same probability for each of V tokens",
        "response",
    ),
)

# No shift


@cache
def _learned() -> Tensor:
    """The log-probs of all tokens at each position, from a model that has learned the batch."""
    model = BigramModel(vocab_size=7)
    for _ in range(100):
        log_probs = get_response_log_probs(model, BATCH.input_ids, BATCH.labels)["log_probs"]
        sft_microbatch_train_step(log_probs, BATCH.response_mask, 1)
        with torch.no_grad():
            model.table -= 2.0 * model.table.grad
        model.zero_grad()
    return model(BATCH.input_ids).log_softmax(-1).detach()  # (B, S, V)


def _token_loss(labels: Tensor, mask: Tensor) -> float:
    # Not by get_response_log_probs: it warns if the labels are not shifted.
    return -_learned().gather(2, labels.unsqueeze(2)).squeeze(2)[mask].mean().item()


def _unshifted() -> int:
    """0: below the right loss; 1: between that and ln V; 2: above ln V."""
    loss = _token_loss(BATCH.input_ids, _FROM_INPUTS)
    if loss < _token_loss(BATCH.labels, BATCH.response_mask):
        return 0
    return 1 if loss < -_uniform(7) else 2


NO_SHIFT = Question(
    name="no shift",
    text=(
        "A model has learned these conversations well. Then somebody forgets the shift: the "
        "response tokens are scored where they are read, so each label is the token that the "
        "model has just been given. What is the loss per token now?"
    ),
    asks=(
        Choice(
            "the loss per token",
            (
                Option(
                    "Almost 0: to repeat what one reads is easy.",
                    "It would be easy for a model that is trained to repeat. This one is trained "
                    "to say what comes next, and that is seldom the same token again.",
                ),
                Option(
                    "A little larger than before: they are the same tokens.",
                    "They are the same tokens at other positions, and each position has its own "
                    "prediction.",
                ),
                Option(
                    "Larger than that of a model that knows nothing.",
                    "The model is sure of the next token, so it gives the one that it has just "
                    "read a very small probability.",
                ),
            ),
            _unshifted,
        ),
    ),
    why=(
        "What a model has learned well is sure, and scored at the wrong position it is surely "
        "wrong. A first loss above ln V is a sign that labels and logits do not belong together."
    ),
    after=lambda width: value_table(
        {
            "with the shift": {"nats a token": _token_loss(BATCH.labels, BATCH.response_mask)},
            "knows nothing": {"nats a token": -_uniform(7)},
            "without": {"nats a token": _token_loss(BATCH.input_ids, _FROM_INPUTS)},
        },
        "the loss of a response token",
        "loss",
    ),
)

# Rows of the table


def _row_sizes() -> Tensor:
    """The size of the gradient of each row of the table: (V,)."""
    model = BigramModel(vocab_size=7)
    log_probs = get_response_log_probs(model, BATCH.input_ids, BATCH.labels)["log_probs"]
    sft_microbatch_train_step(log_probs, BATCH.response_mask, 2)
    assert model.table.grad is not None
    return model.table.grad.abs().sum(1)


def _among(ids: Tensor) -> Tensor:
    """Which entries of the vocabulary are among some tokens: (1, V)."""
    return torch.isin(torch.arange(len(VOCABULARY)), ids)[None]


ROWS_OF_THE_TABLE = Question(
    name="rows of the table",
    text=(
        "The model is a table with one row of logits for each token that can be read. The step "
        "runs on both conversations. Which rows of the table have a gradient other than 0?"
    ),
    asks=(
        Bits(
            "rows with a gradient",
            (VOCABULARY,),
            lambda: (_row_sizes() != 0)[None],
            (
                (
                    lambda: _among(BATCH.labels[BATCH.response_mask]),
                    "These are the tokens that are predicted. The logits come from the row of the "
                    "token that is read, and that is the one before.",
                ),
                (
                    lambda: _among(BATCH.input_ids),
                    "These are all tokens that are read. Where the label is masked, nothing of "
                    "the row gets into the loss.",
                ),
            ),
        ),
    ),
    why=(
        "The rows of the tokens that stand just before a response token: “2”, “+2=”, “4” and "
        "“Why?”. At “<start>” a prompt token follows, and at “<pad>” and “<end>” every label is "
        "masked."
    ),
    after=lambda width: value_table(
        {
            word: {"Σ |grad|": size}
            for word, size in zip(VOCABULARY, _row_sizes().tolist(), strict=True)
        },
        "each row of the table",
    ),
    before=lambda width: _reading(),
)

# What is refused


def _message(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "no error"


_TRIED: dict[str, Callable[[], object]] = {
    "The token 9, in a vocabulary of 7 tokens.": lambda: build_token_batch(
        [[("prompt", [1, 3]), ("response", [9])]], pad_id=0, vocab_size=7
    ),
    "A row of 5 tokens, for a model that has 2 positions.": lambda: build_token_batch(
        CONVERSATIONS[:1], pad_id=0, context_length=2
    ),
    "What the user wrote is marked as “response”, and the answer as “prompt”.": lambda: (
        build_token_batch([[("prompt", [1]), ("response", [3, 4]), ("prompt", [5, 2])]], pad_id=0)
    ),
    "A response without a token.": lambda: build_token_batch(
        [[("prompt", [1, 3]), ("response", [])]], pad_id=0
    ),
}
_BEFORE_THE_DATA = "build_token_batch can see that, and says in which row and at which position."

WITHOUT_AN_ERROR = Question(
    name="without an error",
    text="One of these mistakes raises no error in build_token_batch. Which one?",
    asks=(
        Choice(
            "no error",
            tuple(
                Option(
                    text,
                    "Both are lists of valid tokens, and nothing says which of them you meant."
                    if "marked" in text
                    else _BEFORE_THE_DATA,
                )
                for text in _TRIED
            ),
            lambda: [_message(call) for call in _TRIED.values()].index("no error"),
        ),
    ),
    why=(
        "A function can check what is impossible, but not what you meant. That is why one looks "
        "at the mask of a batch before training on it."
    ),
    after=lambda width: outcome_list(
        {text: _message(call) for text, call in _TRIED.items()},
        "what build_token_batch says",
        width,
    ),
)

MASK_QUESTIONS = (
    THE_MASK,
    MASK_OF_THE_INPUTS,
    PADDED_WITH_END,
    KNOWS_NOTHING,
    NO_SHIFT,
    ROWS_OF_THE_TABLE,
    WITHOUT_AN_ERROR,
)
