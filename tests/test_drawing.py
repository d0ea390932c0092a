"""What a drawing is in a notebook, in a terminal and in a file."""

import base64
from html.parser import HTMLParser

import pytest
from IPython.core.interactiveshell import InteractiveShell

from sftviz import step_flow
from sftviz.drawing import svg
from sftviz.drawing.drawing import Drawing
from sftviz.drawing.scene import Text

DRAWING = Drawing(Text("a <b> ✓"), alt='A "quoted" & <tagged> sentence −2.8.')


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.found.append(("text", data))


def test_in_a_notebook_it_is_text_and_one_image_with_a_sentence():
    bundle = DRAWING._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"] == "a <b> ✓"
    (around, _), (tag, attributes) = Elements(bundle["text/html"]).found
    assert (around, tag) == ("div", "img") and set(attributes) == {"alt", "src", "style"}
    assert attributes["alt"] == 'A "quoted" & <tagged> sentence −2.8.'
    kind, _, data = attributes["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    shown = base64.b64decode(data, validate=True).decode()
    assert shown == svg.draw(DRAWING.scene, "page") != DRAWING.svg


def test_ipython_shows_the_same_as_front_ends_that_know_only_html():
    formatter = InteractiveShell().display_formatter
    bundle, metadata = formatter.format(DRAWING)
    assert bundle == DRAWING._repr_mimebundle_() and metadata == {}
    assert DRAWING._repr_html_() == bundle["text/html"]


def test_in_a_terminal_it_is_its_text_without_an_address(worked):
    drawing = step_flow(worked)
    assert repr(drawing) == str(drawing) == drawing.text
    assert "0x" not in repr(drawing)


def test_it_is_a_value(worked):
    assert step_flow(worked) == step_flow(worked) and hash(DRAWING) == hash(DRAWING)
    with pytest.raises(AttributeError):
        DRAWING.alt = "other"


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.svg", b"<svg "),
        ("a.txt", "a <b> ✓\n".encode()),
        ("a.png", b"\x89PNG"),
        ("a.pdf", b"%PDF"),
    ],
)
def test_it_is_saved_as_its_ending_says(name, start, tmp_path):
    for path in (tmp_path / name, str(tmp_path / name.upper())):
        saved = DRAWING.save(path)
        assert str(saved) == str(path) and saved.read_bytes().startswith(start)


def test_a_text_file_is_the_text_and_a_line_end(tmp_path):
    assert DRAWING.save(tmp_path / "a.txt").read_bytes().decode() == DRAWING.text + "\n"


@pytest.mark.parametrize(
    ("name", "said"), [("a.jpg", "'.jpg'"), ("a", "a file without ending"), ("a.svg.gz", "'.gz'")]
)
def test_another_ending_is_refused(name, said, tmp_path):
    with pytest.raises(ValueError) as refusal:
        DRAWING.save(tmp_path / name)
    assert str(refusal.value) == (
        f"a drawing can't be saved as {said}: give a path that ends in .svg, .png, .pdf or .txt."
    )
    assert not (tmp_path / name).exists()
