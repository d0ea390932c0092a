"""What is looked for in a batch: one function per mistake, and the list of them.

`finding.py` is what a check returns, `subject.py` what it knows. The checks are in `labels.py` (is
it the next token?), `counting.py` (which tokens count?), `documents.py` (what is in a row?),
`numbers.py` (the log-probs) and `scale.py` (what is divided by what?). A new one is a function
there.
"""

from collections.abc import Callable

from sftviz.inspection import counting, documents, labels, numbers, scale
from sftviz.inspection.finding import CHECKLIST, Finding, Place, Severity
from sftviz.inspection.subject import Subject

__all__ = ["CHECKLIST", "CHECKS", "Finding", "Place", "Severity", "Subject", "find"]

CHECKS: tuple[Callable[[Subject], Finding | None], ...] = (
    *labels.CHECKS,
    *counting.CHECKS,
    *documents.CHECKS,
    *numbers.CHECKS,
    *scale.CHECKS,
)


def find(subject: Subject) -> tuple[Finding, ...]:
    """All findings about a batch, the errors first."""
    found = [finding for check in CHECKS if (finding := check(subject)) is not None]
    return tuple(sorted(found, key=lambda each: ("error", "warning", "note").index(each.severity)))
