"""What an inspection found, as a value. Pictures and reports are made from it."""

from dataclasses import asdict, dataclass
from functools import cached_property

from torch import Tensor

from sftviz.inspection.batch import NormalBatch
from sftviz.inspection.checks.find import Finding
from sftviz.rules import Scaling
from sftviz.shares import GradientShares, gradient_shares
from sftviz.views.focus import starts


@dataclass(frozen=True, eq=False, repr=False)
class Judgement:
    """A batch, what it was taken for, and what is wrong with it.

    In column c of a row, a model reads `tokens[row, c]` and has to predict `labels[row, c]`, and
    `response_mask[row, c]` says whether that counts. If the labels of the batch are not shifted,
    this is one column less than its tensors have.
    """

    format: str  # what the batch was taken for
    evidence: tuple[str, ...]  # why
    batch: NormalBatch
    findings: tuple[Finding, ...]  # the errors first
    log_probs: Tensor | None = None  # (B, S)
    gradient_accumulation_steps: int | None = None
    normalize_constant: float = 1.0
    window: tuple[Tensor, ...] = ()  # the weights of each microbatch, (B, S)
    tokenizer: object = None
    not_checked: str = ""  # a sentence

    @property
    def ok(self) -> bool:
        """Whether there is no error. There may be warnings."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def tokens(self) -> Tensor | None:
        """(B, S) int64, the token ids that are read; None if the batch has none."""
        return self.batch.tokens

    @property
    def labels(self) -> Tensor | None:
        """(B, S) int64, the token ids that are predicted; −100 where there is no label."""
        return self.batch.labels

    @property
    def response_mask(self) -> Tensor:
        """(B, S) bool, whether the label counts, with whatever weight."""
        return self.batch.response_mask

    @property
    def num_tokens(self) -> int:
        """The number of tokens that count."""
        return self.batch.num_tokens

    @cached_property
    def begin(self) -> tuple[int, int]:
        """The row and the column that are shown first: at the first finding that has a place, or
        where the first token counts."""
        places = [place for finding in self.findings for place in finding.places]
        return next(iter([*places, *starts(self.response_mask)]), (0, 0))

    def shares(self, scaling: Scaling | str = "G²") -> GradientShares:
        """The share of each token of the window in the gradient, under a rule."""
        return gradient_shares(self.window or (self.batch.weights,), scaling)

    def as_dict(self) -> dict[str, object]:
        """What was found as plain data, for JSON."""
        return {
            "format": self.format,
            "evidence": list(self.evidence),
            "shape": list(self.batch.weights.shape),
            "num_tokens": self.num_tokens,
            "ok": self.ok,
            "not_checked": self.not_checked,
            "findings": [asdict(finding) for finding in self.findings],
        }
