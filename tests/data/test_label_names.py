"""Names of label values: conventions, flags, `dataset.json`, and structures that overlap."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import label_names
from cardiac_jax.data.label_names import Told, by_name, by_value, parse, unmeasured
from cardiac_jax.data.labels import canonical_names
from cardiac_jax.data.sets import description
from cardiac_jax.data.sets.description import Labels
from cardiac_jax.errors import InputError


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ("RV;MLV;LVC", "RV Myo LV"),
        ("LV;MYO;RV", "LV Myo RV"),
        ("right ventricle;myocardium;left ventricle cavity", "RV Myo LV"),
        ("Right_Ventricular_Cavity;LV-Myocardium;left ventricle", "RV Myo LV"),
        ("cavity;normal myocardium;infarction;no-reflow", "LV Myo scar mvo"),
        (
            "left ventricular (LV) blood pool;RV blood pool;LV normal myocardium;LV myocardial edema;"
            "LV myocardial scars",
            "LV RV Myo oedema scar",
        ),
        ("left atrium", "LA"),
    ],
)
def test_names_of_other_conventions(names, meant):
    own = names.split(";")
    known = canonical_names(own)
    assert [known.get(name, name) for name in own] == meant.split()


def test_a_name_that_could_mean_two_things_is_kept():
    assert canonical_names(["left ventricle"]) == {}  # may be the whole one: nothing is called myocardium
    assert canonical_names(["wall", "pool"]) == {}
    assert canonical_names(["LV", "LVC", "myocardium"]) == {"myocardium": "Myo"}


@given(st.permutations(range(1, 6)), st.booleans())
def test_the_classes_do_not_depend_on_the_values_nor_on_the_side_they_are_written(values, by_number):
    """Any coding of a map with its description gives the classes of any other."""
    names = ["RV", "MLV", "LVC", "edema", "something else"]
    held = {"background": 0} | dict(zip(names, values, strict=True))
    written = {str(value): name for name, value in held.items()} if by_number else held
    path = Path("dataset.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda self, encoding: json.dumps({"labels": written}))
        told = Told(description.labels(path), str(path))
    reference = Told(Labels({"RV": (1,), "Myo": (2,), "LV": (3,), "oedema": (4,), "something else": (5,)}), "other")
    coding = by_name(told, reference)
    drawn = np.arange(6)
    coded = np.array([0, *values])[drawn]
    assert [coding.pred[int(v)] for v in coded] == [coding.truth[int(v)] for v in drawn] == list(range(6))


def _read(tmp_path, labels, **more) -> Labels:
    path = tmp_path / "dataset.json"
    text = labels if isinstance(labels, str) else json.dumps({"labels": labels, **more})
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return description.labels(path)


def test_a_description_is_read_both_ways_with_ignore_and_regions(tmp_path):
    assert _read(tmp_path, {"0": "background", "1": "left atrium"}) == Labels({"left atrium": (1,)})
    held = _read(tmp_path, {"background": 0, "LV": 3, "ignore": 7, "RV": 1})
    assert held == Labels({"RV": (1,), "LV": (3,)}, 7) and list(held.structures) == ["RV", "LV"]
    assert not held.overlap
    assert _read(tmp_path, {"background": 0, "heart": [1, 2, 3], "cavity": [3]}).overlap


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "RV": 1, "LV": 1}, "gives RV and LV the same value"),
        ({"background": 0, "RV": -1}, "gives RV the label -1"),
        ({"background": 0, "RV": 1.5}, "gives RV the label 1.5"),
        ({"background": 0, "RV": True}, "gives RV the label true"),
        ({"background": 0, "RV": []}, r"gives RV the label \[\]"),
        ({"background": 0, "RV": [1, 1]}, "gives RV one value twice"),
        ({"background": 0, "RV": [0, 1]}, "has the background or ignore among the values of RV"),
        ({"background": 0, "RV": [1, 4], "ignore": 4}, "has the background or ignore among the values of RV"),
        ({"background": 0, "RV": 1, "ignore": [4, 5]}, "must give ignore one value"),
        ({"RV": 1}, "has no label 0"),
        ({"0": "1", "1": "0"}, "cannot be told"),
        ({"background": 0, "a\ud800": 1}, "cannot be printed"),
        ('{"labels": {"RV": 1, "RV": 2, "background": 0}}', "the key 'RV' twice"),
        ("[]", "is not a JSON object"),
        ("{", "is not readable JSON"),
    ],
)
def test_a_description_that_says_two_things_is_refused(tmp_path, labels, words):
    with pytest.raises(InputError, match=words) as error:
        _read(tmp_path, labels)
    assert str(error.value).encode()  # can be printed
    assert error.value.where == str(tmp_path / "dataset.json")


def test_ignore_belongs_to_the_gold_standard_alone():
    told = Told(Labels({"RV": (1,), "Myo": (2,), "LV": (3,)}, 4), "dataset.json")
    coding = by_name(told, told)
    assert coding.truth[4] == IGNORE and 4 not in coding.pred and not coding.notes


def test_structures_that_only_one_side_names_are_said():
    ours, theirs = Labels({"LV": (1,), "liver": (2,)}), Labels({"LV": (3,), "Myo": (2,)})
    coding = by_name(Told(ours, "ours"), Told(theirs, "theirs"))
    assert coding.pred == {0: 0, 1: 1, 2: 0} and coding.classes == ("background", "LV", "Myo")
    said = " / ".join(coding.notes)
    assert "not measured: liver" in said and "ours names no Myo" in said
    with pytest.raises(InputError, match="names no structure of theirs: liver against LV, Myo"):
        by_name(Told(Labels({"liver": (2,)}), "ours"), Told(theirs, "theirs"))


def test_regions_are_unions_of_their_values():
    held = Labels({"cavity": (3,), "heart": (1, 2, 3), "left ventricle": (2, 3)})
    coding = by_name(Told(held, "x"), Told(held, "x"))
    assert coding.regions == {"cavity": (3,), "heart": (1, 2, 3), "left ventricle": (2, 3)}
    with pytest.raises(InputError, match="must name the same values"):
        by_name(Told(Labels({"heart": (1,)}), "y"), Told(held, "x"))
    apart = Labels({"wall": (2, 4), "LV": (3,)})  # two values of one structure: no overlap, one class
    assert by_name(Told(apart, "x"), Told(apart, "x")).truth == {0: 0, 2: 1, 4: 1, 3: 2}


def test_flags():
    assert parse([]) is None
    assert parse(["RV=1", "Myo=200+1220", "ignore=9"]) == Labels({"RV": (1,), "Myo": (200, 1220)}, 9)
    assert parse(["mnms"]) == Labels({"LV": (1,), "Myo": (2,), "RV": (3,)})
    assert parse(["MSCMR"]) == Labels({"RV": (600,), "Myo": (200,), "LV": (500,)}, 255)
    for words, named in (
        (["RV"], "is not written name=value"),
        (["RV=x"], "is not written name=value"),
        (["RV=1", "RV=2"], "names RV twice"),
        (["RV=1", "LV=1"], "two structures one value"),
        (["RV=0"], "two structures one value"),
        (["ignore=3"], "names no structure"),
    ):
        with pytest.raises(InputError, match=named):
            parse(words)


def _values(*values: set[int]) -> dict[Path, set[int]]:
    return {Path(str(k)): own for k, own in enumerate(values)}


def test_values_without_names():
    assert by_value(_values({1, 2}), _values({1, 3}), Path("p")).classes == (
        "background",
        "label 1",
        "label 2",
        "label 3",
    )
    mixed = by_value(_values({1}, {255}, set()), _values({255}, {1}, {1}), Path("p"))
    assert mixed.classes == ("background", "mask") and mixed.truth == {0: 0, 1: 1, 255: 1}
    with pytest.raises(InputError, match="2 against 3"):
        by_value(_values({2}), _values({3}), Path("p"))  # neither is a mask: who knows what they are
    with pytest.raises(InputError, match="nothing but background"):
        by_value(_values(set()), _values(set()), Path("p"))
    one_per_file = by_value(_values({1}, {2}), _values({1}, {2}), Path("p"))
    assert len(one_per_file.classes) == 3  # two structures in files of their own


def test_what_cannot_be_measured_is_said():
    assert unmeasured(("background", "RV", "Myo", "LV")) == []
    (line,) = unmeasured(("background", "label 1", "LV"))
    assert "no structure is called Myo or RV" in line
    assert "wall thickness" in line and "ejection fraction of the RV" in line
    assert label_names.MASK == 255
