"""Which format a batch has: recognised by names and numbers, and brought to one form."""

from sftviz.inspection.batch import Hints, Reading

NO_HINTS = Hints()


def read_batch(batch: object, hints: Hints = NO_HINTS) -> Reading:
    """Recognise a batch and bring it to the form of `NormalBatch`.

    Raises:
        TypeError, ValueError: nothing in it can be read as a batch.
    """
    raise NotImplementedError
