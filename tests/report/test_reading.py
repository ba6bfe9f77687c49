"""The page of a blinded reading: what it tells and does not tell, its controls, the way of a score into the table."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cardiac_jax.errors import InputError
from cardiac_jax.report import build, reading
from cardiac_jax.results import evaluation, readings
from tests import browser, restored

QUIET = Console(quiet=True)
METHODS = {"linear": 80.0, "srcnn": 40.0, "acnn": 10.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("reading")
    methods = restored.results(root, METHODS, cases=2)
    reading.build(methods, root / "page", QUIET, seed=3)
    return root


class Page(HTMLParser):
    """Every element with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(made) -> Page:
    return Page((made / "page" / readings.PAGE).read_text(encoding="utf-8"))


def test_the_page_names_no_method_case_or_patient(made):
    held = (made / "page" / readings.PAGE).read_text(encoding="utf-8")
    plain = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", held)
    for word in (*METHODS, "p0", "p1", "predictions", "SSIM"):
        assert not re.search(rf"\b{word}\b", plain), word
    key = readings.read_key(made / "page")
    assert set(key.images.values()) == {readings.Shown(m, f"p{k}", f"p{k}") for m in METHODS for k in range(2)}
    assert all(re.fullmatch("[0-9a-f]{12}", name) for name in key.images)


def test_the_page_needs_nothing_else(page):
    sources = [value for _, a in page.elements for name, value in a.items() if name in ("src", "href", "srcset")]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "default-src 'none'" in page.all("meta")[1]["content"]
    assert not page.all("link") and "src" not in {name for script in page.all("script") for name in script}


def test_every_control_has_a_name(page, made):
    key = readings.read_key(made / "page")
    shown = [a["data-image"] for a in page.all("fieldset")]
    assert sorted(shown) == sorted(key.images)
    radios = [a for a in page.all("input") if a["type"] == "radio"]
    assert [(a["name"], a["value"]) for a in radios] == [(name, str(n)) for name in shown for n in range(1, 6)]
    assert len(page.all("label")) == len(radios) + 2 and len(page.all("legend")) == len(shown)
    assert all(a["alt"] for a in page.all("img")) and len(page.all("img")) == len(shown) + 4
    assert page.all("html")[0]["lang"] == "en" and not [a for _, a in page.elements if int(a.get("tabindex", 0)) > 0]
    assert [a for a in page.all("p") if a.get("aria-live")] and "Case 2 of 2" in page.text
    assert "the shape of the left ventricle" in page.text
    assert [("hidden" in a) for a in page.all("section")] == [False, True]


def test_the_order_is_random_by_seed(monkeypatch: pytest.MonkeyPatch):
    """The same seed gives the same page; other seeds other orders of methods and cases, and other ids."""
    monkeypatch.setattr(reading, "picture", lambda view, data: f"data:{view.case}")
    truth = np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    images, spacing = dict.fromkeys("abc", truth), (1.0, 1.0, 1.0)
    views = [reading.Restored(f"p{k}", truth, truth, images, None, spacing) for k in range(2)]
    assert reading.reading(views, {}, 5) == reading.reading(views, {}, 5)
    first, cases, ids = set(), set(), set()
    for seed in range(12):
        held, key = reading.reading(views, {}, seed)
        order = [key.images[a["data-image"]] for a in Page(held).all("fieldset")]
        first.add(order[0].method)
        cases.add(order[0].case)
        ids |= {key.study, *key.images}
        for part in (order[:3], order[3:]):  # every method of a case, then of the other
            assert {shown.method for shown in part} == set("abc") and len({shown.case for shown in part}) == 1
    assert first == set("abc") and cases == {"p0", "p1"} and len(ids) == 12 * 7


def test_scores_come_back_as_tables(made, tmp_path):
    """As the page saves them, from two readers, to means by method and reader."""
    key = readings.read_key(made / "page")
    readings.write_key(tmp_path, key)
    quality = {"linear": 2, "srcnn": 3, "acnn": 5}
    for reader, shift in (("R1", 0), ("R2", 1)):
        ratings = [
            {"image": name, "score": min(quality[shown.method] + shift * (shown.case == "p1"), 5)}
            for name, shown in key.images.items()
        ]
        held = {"format": readings.FORMAT, "study": key.study, "reader": reader, "saved": "", "ratings": ratings}
        (tmp_path / f"{reader}.json").write_text(json.dumps(held), encoding="utf-8")
    found = readings.read_opinions([tmp_path])
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w", encoding="utf-8"))
    build.write_opinions(found, tmp_path / "out", "acnn", console)
    said = console.export_text()
    for line in ("linear │ 2.00 ± 0.00 │ 2.50 ± 0.71", "acnn   │ 5.00 ± 0.00 │ 5.00 ± 0.00", "R1, R2", "acnn - srcnn"):
        assert line in said, line
    assert (tmp_path / "out" / "tables" / "agreement-of-the-readers.csv").is_file()
    assert len((tmp_path / "out" / "opinions.csv").read_text(encoding="utf-8").splitlines()) == 13
    with pytest.raises(InputError, match="'other' is not one of"):
        build.write_opinions(found, None, "other", console)
    console.file.close()


def test_label_maps_are_not_read(tmp_path):
    held = evaluation.Results("labels", evaluation.Measured(cases=({"case": "p0"},)), {"files": {}}, tmp_path)
    with pytest.raises(InputError, match="holds no restored images"):
        reading.build([held], tmp_path / "page", QUIET)
    assert not (tmp_path / "page").exists()


@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium to open the page in")
def test_in_a_browser(made, tmp_path):
    """Keys and mouse score, scores survive the page, the saved file is read, nothing is loaded from elsewhere."""
    key = readings.read_key(made / "page")
    with browser.Browser(tmp_path) as window:
        window.open(made / "page" / readings.PAGE)
        for word in "352":
            window.key(word)
        assert window.value("by('progress').textContent") == "3 of 6 images scored"
        assert "All images of this case" in window.value("by('said').textContent")
        window.key("1")  # the last one has the focus: its score changes
        window.key("n")
        assert window.value("document.activeElement.textContent") == "Case 2 of 2"
        window.click("section:not([hidden]) fieldset:last-of-type input[value='4']")
        window.click("#save")
        assert window.value("document.activeElement.id") == "reader", "a name is wanted first"
        window.call("Input.insertText", text="R 1")
        window.key("5")  # belongs to the name
        window.open(made / "page" / readings.PAGE)
        assert window.value("by('reader').value") == "R 15"
        assert window.value("document.querySelectorAll('input[type=radio]:checked').length") == 4
        assert window.value("document.querySelector('section:not([hidden])').id") == "case2"
        window.click("#save")
        window.wait(lambda: (window.downloads / "reading_R_15.json").is_file(), "the saved file")
        order = window.value("images.map(image => image.dataset.image)")
        assert {url.partition(":")[0] for url in window.requests} <= {"file", "data"}
        wanted = "document.querySelector('section:not([hidden]) fieldset').contains(document.activeElement)"
        window.value("by('heading2').focus()")
        window.key("Tab", 9)
        assert window.value(wanted), "from the heading to the first image's scores"
    saved = tmp_path / "read"
    readings.write_key(saved, key)
    (window.downloads / "reading_R_15.json").rename(saved / "R15.json")
    rows = [row for held in readings.read_opinions([saved]).values() for row in held]
    assert {row["image"]: row["opinion"] for row in rows} == dict(
        zip(order[:3] + order[-1:], (3, 5, 1, 4), strict=True)
    )
    assert {row["structure"] for row in rows} == {"R 15"}
