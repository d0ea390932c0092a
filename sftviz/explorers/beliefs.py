"""What was believed and what is so, at the end of a notebook."""

from sftviz.drawing import svg
from sftviz.drawing.drawing import Drawing
from sftviz.explorers.widget import LiveWidget
from sftviz.live.widget import LiveDrawing
from sftviz.predictions.picture import draw_beliefs
from sftviz.predictions.record import RECORD
from sftviz.views.parts import WIDTH


class Beliefs(LiveWidget):
    """What was believed and what is so, of every question that was answered in this process. It
    grows with each commitment, also if it is shown before them."""

    def __init__(self) -> None:
        super().__init__(LiveDrawing())
        self.children = (self.live,)
        self._show()
        self.live.observe(lambda _: self._show(), "columns")
        RECORD.observe(self._show)

    @property
    def drawing(self) -> Drawing:
        return draw_beliefs(RECORD.commitments)

    def close(self) -> None:
        RECORD.unobserve(self._show)
        super().close()

    def _show(self) -> None:
        drawing = draw_beliefs(RECORD.commitments, self.fit(WIDTH))
        self.live.show(svg.markup(drawing.page), drawing.alt, {}, 0)
