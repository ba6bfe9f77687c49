"""Renders the report as one self-contained HTML file, for screen and print."""

import base64
import io
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import jinja2
import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cardiac_jax.report.table import Table

DPI = 110
"""Resolution of PNG figures: the page width at twice the resolution of a standard screen."""


class Picture(NamedTuple):
    """A figure and its caption, embedded as PNG if `pixels`, else as SVG; a `wide` figure fills a row."""

    figure: Figure
    caption: str
    pixels: bool = False
    wide: bool = True


class Section(NamedTuple):
    """A section of the page: heading, paragraphs, tables, pictures; `id` is its HTML anchor."""

    id: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page as HTML without external files or scripts; empty sections are omitted."""
    source = resources.files("cardiac_jax.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["embedded"] = embedded
    shown = [section for section in sections if section.tables or section.pictures or section.text]
    return environment.from_string(source).render(title=title, subtitle=subtitle, sections=shown)


def embedded(picture: Picture) -> str:
    """`data:` URL of the figure; equal figures give equal bytes."""
    buffer, figure = io.BytesIO(), picture.figure
    figure.set_dpi(DPI)
    # `Figure.savefig` would draw everything once more before, to lay it out; `print_*` lay out and draw once.
    with matplotlib.rc_context({"svg.hashsalt": "cardiac_jax", "svg.fonttype": "path"}):
        if picture.pixels:
            FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
        else:
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    mime = "image/png" if picture.pixels else "image/svg+xml"
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"
