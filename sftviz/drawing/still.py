"""A still picture in a page: one image, in the light or dark of that page.

An SVG in an `<img>` can't use the page's variables. But its `prefers-color-scheme` is the
`color-scheme` of that `<img>`, which JupyterLab and Notebook set to that of their theme: so a
picture changes with the theme, without being drawn again. The image is the one form that is shown,
with its alternative text, in an untrusted notebook that was not run, and in an exported page
without a network.
"""

import base64
import re
from html import escape

from sftviz.drawing.theme import TONES, paint

# A page made by nbconvert has no `color-scheme`, but it has JupyterLab's variables. `color-scheme`
# ignores words that it does not know: if the variable is `white`, the value is valid. If it is
# `#111`, or if there is no such variable, the value is invalid, and that of the page is inherited.
_IF_LIGHT = "color-scheme:light var(--jp-layout-color0)"
_IF_DARK = "color-scheme:dark var(--jp-inverse-layout-color0)"
_NO_FILTER = "filter:none"  # the theme of the web site dims images in the dark
_SMALLEST = 0.7  # of the full size: letters of 13 px become 9 px; below that the reader scrolls

# What was black by default is meant as ink. A badge is ink and card with their colours exchanged.
_DARK = {"#000000": paint("ink", "dark").ink} | {
    colour: getattr(tone.dark, part)
    for name, tone in TONES.items()
    for part, colour in vars(tone.light).items()
    if colour != "none" and name not in ("badge", "lit")
}


def image(alt: str, svg: str, width: float, kind: str = "drawing") -> str:
    """An SVG document of some width in px as HTML, with a sentence that describes it."""
    data = base64.b64encode(svg.encode()).decode()
    style = f"min-width:{_SMALLEST * width:.0f}px;{_IF_DARK};{_NO_FILTER}"
    return (
        f'<div class="sftviz-{kind}" style="overflow-x:auto;{_IF_LIGHT}">'
        f'<img alt="{escape(alt)}" style="{style}" src="data:image/svg+xml;base64,{data}"></div>'
    )


def with_dark(svg: str) -> str:
    """An SVG in colours of the light theme, and rules that replace them in a dark page."""
    found = sorted(set(re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", svg)))
    rules = f":root{{fill:{_DARK['#000000']}}}"  # of letters without a colour
    for declaration in found:
        name, light = declaration.split(": ")
        if light in _DARK:
            rules += f'[style*="{declaration}"]{{{name}:{_DARK[light]}!important}}'
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    return svg.replace("</svg>", f"{style}</svg>")
