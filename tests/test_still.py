"""A still picture is one image in the page. A browser test looks at it in JupyterLab."""

import base64
import re

from sftviz.drawing.still import image, with_dark
from sftviz.drawing.theme import paint

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg"><path style="fill: #ffffff; stroke: #abcdef"/>'
    "<text>a</text></svg>"
)


def test_an_image_is_described_and_complete():
    html = image('"2" < 3 & −2.8', SVG, 200)
    assert 'alt="&quot;2&quot; &lt; 3 &amp; −2.8"' in html
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([\w+/=]+)"', html)
    assert base64.b64decode(data, validate=True).decode() == SVG


def test_a_wide_image_is_scrolled_before_its_letters_are_too_small():
    html = image("", SVG, 200, "chart")
    assert html.startswith('<div class="sftviz-chart" style="overflow-x:auto;')
    assert 'style="min-width:140px;' in html


def test_dark_colours_replace_those_of_the_theme_and_no_others():
    style = with_dark(SVG).removeprefix(SVG.removesuffix("</svg>")).removesuffix("</svg>")
    card, ink = paint("card", "dark").fill, paint("ink", "dark").ink
    assert style == (
        f"<style>@media (prefers-color-scheme:dark){{:root{{fill:{ink}}}"
        f'[style*="fill: #ffffff"]{{fill:{card}!important}}}}</style>'
    )
