"""The specification of the data: what the configuration means, which key is at fault, and JSON and back."""

import dataclasses
import json

import pytest

from cardiac_jax.data.preprocess import Grid
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.spec import DataSpec, from_json, spec_of
from cardiac_jax.errors import InputError
from experiments import common

MYOPS = dataset("myops", ("Myo", "LV", "scar"))


def spec(**keys) -> DataSpec:
    return spec_of(common.data(**keys), MYOPS)


def test_spacing_in_plane_and_along_all_axes():
    flat, solid = spec(spacing_mm=(1.5,)), spec(spacing_mm=(5, 1.5, 2.0), size=(8, 64, 64))
    assert flat.spacing_mm == (0.0, 1.5, 1.5) and flat.pixel_mm == 1.5 and not flat.is_volumetric
    assert solid.spacing_mm == (5.0, 1.5, 2.0) and solid.pixel_mm == 0.0 and solid.is_volumetric
    assert spec(spacing_mm=(0.0,)).pixel_mm == 0.0


def test_classes_values_and_channels():
    held = spec(sequences=("LGE", "T2"), append_clahe=True)
    assert held.classes == ("background", "Myo", "LV", "scar") and held.classes_count == 4
    assert held.raw_values == {0: 0, 200: 1, 500: 2, 2221: 3}, "of several raw values the first is written"
    assert held.channels == 4 and spec(sequences=("LGE,T2",)).channels == 2


def test_finer_targets_are_part_of_the_grid():
    held = spec(size=(12, 64, 64), spacing_mm=(10.0, 1.25, 1.25), target_scale=(5, 1, 1))
    assert held.target_scale == held.grid().target_scale == held.grid(whole=True).target_scale == (5, 1, 1)
    assert spec().target_scale == (1, 1, 1)
    older = common.data()
    del older.target_scale
    stored = json.loads(json.dumps(dataclasses.asdict(held)))
    del stored["target_scale"]
    assert spec_of(older, MYOPS).target_scale == from_json(stored, "run").target_scale == (1, 1, 1)


def test_the_grid_crops_unless_the_whole_image_is_asked_for():
    held = spec(intensity=("clahe", "z_score"))
    expected = Grid(held.spacing_mm, held.size, ("clahe", "z_score"), append_clahe=False, no_crop=True)
    assert held.grid(whole=True) == expected and held.grid() == expected._replace(no_crop=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", (64,)),
        ("size", (64, 0)),
        ("size", (64, 64.5)),
        ("spacing_mm", (1.0, 1.0)),
        ("spacing_mm", (-1.0,)),
        ("spacing_mm", (0.0, 1000.0, 1.0)),
        ("spacing_mm", ("1",)),
        ("spacing_mm", (True,)),
        ("target_scale", (5, 1, 1)),  # of slices
        ("target_scale", (1, 0, 1)),
        ("target_scale", (1.5, 1, 1)),
        ("target_scale", (5, 1)),
        ("tile_overlap", 1.0),
        ("tile_overlap", -0.1),
        ("sequences", ("LGE", "T1")),
        ("sequences", ()),
        ("intensity", ("z_score", "log")),
    ],
)
def test_a_key_at_fault_is_named(key, value):
    with pytest.raises(InputError) as caught:
        spec(**{key: value})
    assert caught.value.where == f"data.{key}"


def test_json_and_back():
    held = dataclasses.replace(spec(tile_overlap=0.25, append_clahe=True), frequency=(9, 1, 2, 3))
    stored = json.loads(json.dumps(dataclasses.asdict(held)))
    assert from_json(stored, "run") == held
    for wrong in ({**stored, "odd": 1}, {k: v for k, v in stored.items() if k != "size"}):
        with pytest.raises(InputError, match="run: its data specification does not fit"):
            from_json(wrong, "run")
