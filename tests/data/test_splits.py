"""Splits: by patient, stratified, from (seed, fold) alone, kept in the work directory."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiac_jax.data import splits
from cardiac_jax.data.case import Record
from cardiac_jax.errors import InputError


def records(patients=23, groups=("NOR", "DCM", "HCM"), phases=("ED", "ES"), sides=(None,)) -> list[Record]:
    return [
        Record(f"p{i:02}_{phase}", f"p{i:02}", {"cine": Path(f"p{i:02}_{phase}.nii")}, None, phase, group, split)
        for i in range(patients)
        for phase in phases
        for group, split in [(groups[i % len(groups)], sides[i % len(sides)])]
    ]


@given(st.integers(5, 40), st.integers(0, 1000), st.integers(2, 5))
def test_folds_partition_patients_and_balance_groups(patients, seed, n):
    cases = records(patients)
    everyone = {r.patient for r in cases}
    group = {r.patient: r.group for r in cases}
    parts = [splits.split(cases, seed, k, n) for k in range(n)]
    assert sorted(p for part in parts for p in part.val) == sorted(everyone)
    for part in parts:
        assert set(part.train) | set(part.val) == everyone and not set(part.train) & set(part.val)
    for name in set(group.values()):
        counts = [sum(group[p] == name for p in part.val) for part in parts]
        assert max(counts) - min(counts) <= 1
    sizes = Counter(len(part.val) for part in parts)
    assert max(sizes) - min(sizes) <= 1
    shuffled = cases[:]
    random.Random(seed).shuffle(shuffled)
    assert [splits.split(shuffled, seed, k, n) for k in range(n)] == parts


def test_seeds_differ_and_stay_what_they_are():
    cases = records()
    assert splits.split(cases, 0, 0) != splits.split(cases, 1, 0)
    assert len({splits.split(cases, seed, 0) for seed in range(20)}) == 20
    assert (
        splits.split(records(6, ("a",)), 0, 0, 3).val
        == tuple(  # dealt by the order of sha256("0/<patient>")
            sorted(sorted((f"p0{i}" for i in range(6)), key=lambda p: splits._rank(0, p))[0::3])
        )
    )


@given(
    st.integers(12, 60),
    st.integers(0, 1000),
    st.integers(2, 5),
    st.floats(0.1, 0.6),
    st.lists(st.sampled_from(["NOR", "DCM", "HCM", "MINF", "RV"]), min_size=60, max_size=60),
)
def test_the_test_part_is_the_same_for_every_fold_and_balanced(patients, seed, n, share, drawn):
    cases = [replace(r, group=drawn[int(r.patient[1:])]) for r in records(patients)]
    group = {r.patient: r.group for r in cases}
    parts = [splits.split(cases, seed, k, n, share) for k in range(n)]
    test = set(parts[0].test)
    assert {part.test for part in parts} == {parts[0].test}
    assert len(test) == int(patients * share + 0.5)
    for part in parts:
        sides = [set(side) for side in part]
        assert set.union(*sides) == set(group) and sum(map(len, sides)) == patients  # all of them, none twice
    assert sorted(p for part in parts for p in part.val) == sorted(set(group) - test)
    for name in set(drawn[:patients]):
        members = [p for p in group if group[p] == name]
        assert abs(len(test & set(members)) - share * len(members)) <= 1
        counts = [len(set(part.val) & set(members)) for part in parts]
        assert max(counts) - min(counts) <= 1
    shuffled = cases[:]
    random.Random(seed).shuffle(shuffled)
    assert [splits.split(shuffled, seed, k, n, share) for k in range(n)] == parts
    assert {splits.split(cases, seed, 0, m, share).test for m in (2, 3, 5)} == {parts[0].test}


def test_equal_groups_give_equal_test_parts_and_the_seed_decides_which():
    cases = records(100, ("NOR", "DCM", "HCM", "MINF", "RV"))
    chosen = splits.split(cases, 0, 2, 5, 0.2)
    assert [len(side) for side in chosen] == [64, 16, 20]
    for side, each in (("test", 4), ("val", 3), ("train", 12)):
        counts = Counter(int(p[1:]) % 5 for p in getattr(chosen, side)).values()
        assert len(counts) == 5 and min(counts) >= each and max(counts) - min(counts) <= 1
    assert len({splits.split(cases, seed, 2, 5, 0.2).test for seed in range(20)}) == 20
    assert splits.split(cases, 0, 2, 5, 0.0) == splits.split(cases, 0, 2, 5)


def test_the_publishers_test_set_stands_in_for_the_share():
    cases = records(8, sides=("train", "train", "val", "test"))
    assert splits.split(cases, 0, 1, 3, 0.4) == splits.split(cases, 0, 1, 3)
    assert splits.split(cases, 0, None, test_share=0.4) == splits.split(cases, 0, None)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match=r"^data\.test_share: .* is not a share, at least 0 and below 1$"):
        splits.split(records(), 0, 0, 5, share)


def test_a_share_that_leaves_a_side_empty_is_refused():
    with pytest.raises(InputError, match=r"^data\.test_share: 0.1 leaves no patient in test \(of 4\)$"):
        splits.split(records(4), 0, 0, 2, 0.1)
    with pytest.raises(InputError, match="leaves no patient in"):
        splits.split(records(4), 0, 0, 2, 0.9)


def test_publishers_split(tmp_path):
    cases = records(8, sides=("train", "train", "val", "test"))
    chosen = splits.split(cases, 0, None)
    assert chosen == splits.Split(("p00", "p01", "p04", "p05"), ("p02", "p06"), ("p03", "p07"))
    dealt = splits.split(cases, 0, 1, 3)
    assert dealt.test == ("p03", "p07") and len(dealt.val) == 2 and len(dealt.train) == 4
    with pytest.raises(InputError, match="define no split"):
        splits.split(records(), 0, None)
    with pytest.raises(InputError, match="define no validation patients"):
        splits.split(records(sides=("train", "test")), 0, None)
    with pytest.raises(InputError, match="not one of 0 to 4"):
        splits.split(records(), 0, 5)
    with pytest.raises(InputError, match="leaves no patient in val"):
        splits.split(records(2), 0, 4)


def test_a_patient_on_two_sides_is_refused():
    one, two = records(1, phases=("ED",), sides=("train",)) + records(1, phases=("ES",), sides=("val",))
    with pytest.raises(InputError, match=r"^p00_ES\.nii: patient p00 is in train and in val$"):
        splits.split([one, two], 0, None)
    with pytest.raises(InputError, match="case p00_ED occurs twice"):
        splits.split([one, one], 0, 0)


def test_listed_splits(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["p00_ED", "p00_ES", "p01"], "val": ["p02_ES"]}]), encoding="utf-8")
    assert splits.read(path, records(), 0) == splits.Split(("p00", "p01"), ("p02",))
    for content, words in {
        '[{"train": ["p00_ED"], "val": ["p00_ES"]}]': "patient p00 both in train and in val",
        '[{"train": ["p00"], "val": ["p01"], "test": ["p01"]}]': "both in val and in test",
        '[{"train": ["p00"], "val": ["p99"]}]': "val lists 'p99', which is not in the data set",
        '[{"train": ["p00"], "val": []}]': "val is empty",
        '[{"train": "p00", "val": ["p01"]}]': "train is not a list of ids",
        '{"train": ["p00"]}': "not a list of splits",
        "[]": "lists 0 splits, fold 0 is not among them",
        "[{": "not readable JSON",
    }.items():
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=words) as caught:
            splits.read(path, records(), 0)
        assert caught.value.where == str(path)
    with pytest.raises(InputError, match="no such file"):
        splits.read(tmp_path / "none.json", records(), 0)


def test_the_work_directory_keeps_its_split(tmp_path):
    chosen = splits.split(records(), 3, 1)
    splits.keep(tmp_path / "run", chosen)
    written = (tmp_path / "run" / splits.FILE).read_text(encoding="utf-8")
    assert {side: tuple(ids) for side, ids in json.loads(written).items()} == chosen._asdict()
    splits.keep(tmp_path / "run", chosen)
    assert (tmp_path / "run" / splits.FILE).read_text(encoding="utf-8") == written
    with pytest.raises(InputError, match=r"differs from the split of this run in \d+ patients"):
        splits.keep(tmp_path / "run", splits.split(records(), 3, 2))
    overlapping = json.dumps({"train": ["p00", "p01"], "val": ["p01"], "test": []})
    (tmp_path / "run" / splits.FILE).write_text(overlapping, encoding="utf-8")
    with pytest.raises(InputError, match="patient p01 both in train and in val"):
        splits.keep(tmp_path / "run", chosen)
    (tmp_path / "run" / splits.FILE).write_text("[1", encoding="utf-8")
    with pytest.raises(InputError, match="not readable JSON"):
        splits.keep(tmp_path / "run", chosen)
