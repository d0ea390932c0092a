"""What is looked for in a batch: the list of all checks."""

from collections.abc import Callable

from sftviz.inspection.checks import counting, documents, labels, numbers, scale
from sftviz.inspection.checks.finding import CHECKLIST, Finding, Place, Severity
from sftviz.inspection.checks.subject import Subject

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
