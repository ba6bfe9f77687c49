"""The page itself: one HTML file that needs nothing else, on screen and on paper."""

import base64
import io
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import jinja2
import matplotlib
from matplotlib.figure import Figure

from cardiac_jax.report.table import Table

DPI = 110
"""Of pictures made of pixels: as wide as the page at twice the resolution of a plain screen, no more."""


class Picture(NamedTuple):
    """A figure with what it shows: as PNG where it holds `pixels`, else as drawing (SVG); `wide`: a row of its own."""

    figure: Figure
    caption: str
    pixels: bool = False
    wide: bool = True


class Section(NamedTuple):
    """A part of the page under its own heading: paragraphs, then tables, then pictures."""

    id: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page as HTML: no network, no scripts."""
    source = resources.files("cardiac_jax.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["embedded"] = embedded
    shown = [section for section in sections if section.tables or section.pictures or section.text]
    return environment.from_string(source).render(title=title, subtitle=subtitle, sections=shown)


def embedded(picture: Picture) -> str:
    """A `data:` address of the figure, the same bytes for the same figure."""
    kind = "png" if picture.pixels else "svg"
    held = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cardiac_jax", "svg.fonttype": "path"}):
        metadata = {"Software": None} if picture.pixels else {"Date": None, "Creator": None}
        picture.figure.savefig(held, format=kind, dpi=DPI, metadata=metadata)
    mime = "image/png" if picture.pixels else "image/svg+xml"
    return f"data:{mime};base64,{base64.b64encode(held.getvalue()).decode()}"
