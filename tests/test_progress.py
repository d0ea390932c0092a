"""A bar that shows how far a run is."""

from sftviz.explorers.progress import Progress


def test_a_bar_can_be_read_before_anything_has_run():
    bundle = Progress(150, "windows")._repr_mimebundle_()
    assert bundle["text/plain"] == "0 of 150 windows"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_the_bar_and_its_line_move_together():
    progress = Progress(3, "steps")
    progress.show(2, "<b>loss</b> 0.5")
    bar, text = progress.children
    assert (bar.value, bar.max) == (2, 3)
    assert text.value == "2 of 3 steps: &lt;b&gt;loss&lt;/b&gt; 0.5"
    assert repr(progress) == "2 of 3 steps: <b>loss</b> 0.5"
