"""Lines of code to be put in order, live: by drag and drop or by keys, answered by running them."""

from collections.abc import Sequence

from sftviz.exercises.order import DEEPEST, Order
from sftviz.exercises.orders import ORDERS
from sftviz.exercises.verdict import Verdict
from sftviz.live.line_order import LineOrder
from sftviz.validate import brief


class PutInOrder(LineOrder):
    """A problem whose lines are to be put in order.

    Args:
        order: the problem, or its name in `ORDERS`: "loop" or "step".

    Raises:
        TypeError, ValueError: it is neither.

    Example:
        >>> problem = PutInOrder("loop")
        >>> problem.placed = [[problem.lines.index("optimizer.step()"), 0]]
        >>> problem.check().outcome
        'wrong'
    """

    def __init__(self, order: Order | str = "loop") -> None:
        if isinstance(order, str):
            if order not in ORDERS:
                known = ", ".join(map(repr, ORDERS))
                raise ValueError(f"order must be one of {known}, got {brief(order)}.")
            order = ORDERS[order]
        if not isinstance(order, Order):
            raise TypeError(
                f"order must be an Order or its name, got {type(order).__name__} {brief(order)}."
            )
        self.order = order
        super().__init__(text=order.text, lines=list(order.lines), deepest=DEEPEST)
        self.observe(self._on_asked, "asked")

    def check(self) -> Verdict:
        """Run the lines as they are placed."""
        return self._check(self.placed)

    def _check(self, placed: Sequence[Sequence[int]]) -> Verdict:
        return self.order.check(self.order.arrange(placed))

    def _on_asked(self, change: dict) -> None:
        asked = change["new"]
        try:
            verdict = self._check(asked["placed"])
        except Exception as error:  # the front end would write it only to its log
            verdict = Verdict("error", None, str(error))
        self.answer = {"id": asked["id"], **verdict.as_dict()}

    def __repr__(self) -> str:
        return self.order.draw().text

    _ipython_display_ = None  # where ipywidgets 7 has one, it would leave out the lines

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict[str, object], dict[str, object]]:
        # The lines beside the widget: what a notebook shows before it has run.
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | self.order.draw()._repr_mimebundle_(), metadata
