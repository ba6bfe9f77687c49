"""Readings: the key and the scores that readers saved, read again; what does not belong together is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from cardiac_jax.errors import InputError
from cardiac_jax.results.readings import FORMAT, KEY, Key, Shown, read_key, read_opinions, write_key

IMAGES = {
    "a1": Shown("linear", "p1_ED", "p1"),
    "b2": Shown("acnn", "p1_ED", "p1"),
    "c3": Shown("acnn", "p2_ED", "p2"),
}
KEY_OF = Key("s1", 7, IMAGES)


def save(path: Path, ratings: Any, **changes: Any) -> Path:
    """A file as the page saves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {"format": FORMAT, "study": "s1", "reader": path.stem, "saved": "2026-01-01T00:00:00Z", "ratings": ratings}
    path.write_text(json.dumps(held | changes), encoding="utf-8")
    return path


def scores(**of: int) -> list[dict[str, Any]]:
    return [{"image": image, "score": score} for image, score in of.items()]


def test_the_key_is_read_as_written(tmp_path):
    write_key(tmp_path, KEY_OF)
    assert read_key(tmp_path) == KEY_OF


def test_scores_become_rows_by_method_and_reader(tmp_path):
    write_key(tmp_path, KEY_OF)
    save(tmp_path / "R1.json", scores(b2=5, a1=2), reader=" R1 ")
    save(tmp_path / "R2.json", scores(c3=4))
    found = read_opinions([tmp_path])
    assert list(found) == ["linear", "acnn"]
    assert found["linear"] == [{"case": "p1_ED", "patient": "p1", "structure": "R1", "opinion": 2, "image": "a1"}]
    assert [(row["structure"], row["image"], row["opinion"]) for row in found["acnn"]] == [
        ("R1", "b2", 5),
        ("R2", "c3", 4),
    ]
    assert found == read_opinions([tmp_path / "R1.json", tmp_path / "R2.json"])
    assert list(read_opinions([tmp_path / "R2.json"])) == ["acnn"]


@pytest.mark.parametrize(
    ("ratings", "changes", "problem"),
    [
        (scores(a1=6), {}, "gives the image a1 6, not 1 to 5"),
        (scores(a1=True), {}, "gives the image a1 True, not 1 to 5"),
        ([{"image": "a1", "score": None}], {}, "gives the image a1 None"),
        (scores(zz=3), {}, "scores an image 'zz' that its page does not show"),
        (["a1"], {}, "scores an image None"),
        ([*scores(a1=3), *scores(a1=3)], {}, "scores the image a1 twice"),
        (scores(a1=3), {"study": "s2"}, "was saved from another page"),
        (scores(a1=3), {"reader": " "}, "names no reader"),
        (scores(a1=3), {"format": "else"}, "is not a reading that the page saved"),
        ({"a1": 3}, {}, "is not a reading that the page saved"),
        ([], {}, "hold no score"),
    ],
)
def test_a_reading_that_cannot_be_used_is_named(tmp_path, ratings, changes, problem):
    write_key(tmp_path, KEY_OF)
    with pytest.raises(InputError, match=problem) as error:
        read_opinions([save(tmp_path / "R1.json", ratings, **changes)])
    assert error.value.where.endswith("R1.json") or problem == "hold no score"


def test_folders_and_files_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(InputError, match=rf"{KEY}: no such file: readings lie beside the key"):
        read_opinions([save(tmp_path / "x" / "R1.json", scores(a1=3))])
    write_key(tmp_path, KEY_OF)
    with pytest.raises(InputError, match="holds no reading"):
        read_opinions([tmp_path])
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        read_opinions([tmp_path / "none.json"])
    one, two = save(tmp_path / "R1.json", scores(a1=3)), save(tmp_path / "R1 (1).json", scores(a1=4), reader="R1")
    with pytest.raises(InputError, match=r"R1 \(1\)\.json: is of reader 'R1', as is .*R1\.json"):
        read_opinions([one, two])
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.json: is not JSON"):
        read_opinions([tmp_path / "bad.json"])
    (tmp_path / KEY).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="is not the key of a reading"):
        read_opinions([one])
