"""Page for reading restored images blinded: 1 to 5 for each (mean opinion score, Table III of Oktay et al. 2018).

For each case the low-resolution image and the reference are shown, then the methods' images in random order, without
names. Ids and order are drawn from the seed; the key lies beside the page (`results/readings.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.opinions import SCALE
from cardiac_jax.metrics.summary import patient_by_case
from cardiac_jax.progress import shown
from cardiac_jax.report.page import Picture, embedded
from cardiac_jax.report.restoration import Restored, restored
from cardiac_jax.results.evaluation import Results
from cardiac_jax.results.readings import FORMAT, KEY, PAGE, Key, Shown, write_key

WORDS = ("very poor", "poor", "fair", "good", "excellent")
"""What the scores mean, from 1."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WIDTH_IN = 8.4
TITLE = "Reading of cardiac images"
SUBJECTS = {"LV": "left ventricle", "LA": "left atrium"}
"""Class of the data -> what the readers judge; the first that there is."""


class Image(NamedTuple):
    """One picture to score: its id and its letter among those of the case."""

    id: str
    letter: str
    source: str


class Item(NamedTuple):
    """One case of the page: the two pictures shown for reference, and those to score, in their order."""

    low: str
    reference: str
    images: Sequence[Image]


def build(methods: Sequence[Results], out: Path, console: Console, seed: int = 0) -> Path:
    """Writes the page and its key for all cases that every method has; returns the page.

    Raises:
      InputError: the evaluations hold no restored images, or a file is missing.
    """
    for one in methods:
        if not one.of_images:
            raise InputError(one.folder, "holds no restored images to read")
    held = [set(one.about["files"]) for one in methods]
    cases = [case for case in methods[0].about["files"] if all(case in own for own in held)]
    patients = patient_by_case(methods[0].rows)
    views = (restored(methods, case) for case in shown(cases, "drawing", console))
    classes = methods[0].about["data"]["classes"]
    subject = next((words for name, words in SUBJECTS.items() if name in classes), "heart")
    page, key = reading(views, {case: patients[case] for case in cases}, seed, subject)
    write_key(out, key)
    atomic_write(out / PAGE, lambda to: to.write_text(page, encoding="utf-8"))
    console.print(f"written to {out}: {PAGE} for the readers, {KEY} not for them; {len(key.images)} images")
    return out / PAGE


def reading(
    views: Iterable[Restored], patients: Mapping[str, str], seed: int = 0, subject: str = "heart"
) -> tuple[str, Key]:
    """The page (HTML without external files) and its key.

    Args:
      views: the cases, in any order.
      patients: case -> patient.
      seed: of the order of the cases, that of the methods in each case, and the ids.
      subject: what the readers judge.
    """
    rng = np.random.default_rng(seed)
    study, taken = rng.bytes(8).hex(), {}
    items = []
    for view in views:
        images = []
        names = list(view.images)
        for letter, k in zip(LETTERS, rng.permutation(len(names)), strict=False):
            name = rng.bytes(6).hex()
            taken[name] = Shown(names[k], view.case, patients.get(view.case, view.case))
            images.append(Image(name, letter, picture(view, view.images[names[k]])))
        items.append(Item(picture(view, view.low), picture(view, view.truth), images))
    order = [items[k] for k in rng.permutation(len(items))]
    source = resources.files("cardiac_jax.report").joinpath("reading.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    scale = list(zip(SCALE, WORDS, strict=True))
    facts = {"study": study, "format": FORMAT, "file": "reading", "low": SCALE[0], "high": SCALE[-1]}
    page = environment.from_string(source).render(title=TITLE, subject=subject, items=order, scale=scale, facts=facts)
    return page, Key(study, seed, taken)


def picture(view: Restored, data: np.ndarray) -> str:
    """`data:` URL of three cuts through the middle of the heart, in one grey scale for all images of the case.

    Two long-axis cuts, the base above, and a short-axis slice; where the image has no value, black.
    """
    (z, h, w), (low, high) = view.box, view.window
    dz, dh, dw = view.spacing_mm
    middle = [(s.start + s.stop) // 2 for s in (z, h, w)]
    cuts = (
        (data[z, middle[1], w][::-1], dz, dw),
        (data[z, h, middle[2]][::-1], dz, dh),
        (data[middle[0], h, w], dh, dw),
    )
    sizes = [(cut.shape[0] * tall, cut.shape[1] * wide) for cut, tall, wide in cuts]
    tallest, total = max(tall for tall, _ in sizes), sum(wide for _, wide in sizes)
    figure = Figure(figsize=(WIDTH_IN, WIDTH_IN * tallest / total), facecolor="black")
    left = 0.0
    for (cut, _, _), (tall, wide) in zip(cuts, sizes, strict=True):
        ax = figure.add_axes((left / total, 0.5 - tall / tallest / 2, wide / total * 0.99, tall / tallest))
        ax.imshow(np.nan_to_num(cut, nan=low), "gray", vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        ax.set_axis_off()
        left += wide
    return embedded(Picture(figure, "", pixels=True))
