"""Tables by the rules of challenges, against what their scripts do, written out here."""

import math

import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.errors import InputError
from cardiac_jax.metrics import challenges
from cardiac_jax.metrics.challenges import Evaluated, Line
from cardiac_jax.metrics.evaluate import evaluate_case
from cardiac_jax.metrics.measures import measure_case

SPACING_MM = (8.0, 1.5, 1.25)  # Z, H, W
ACDC = ("background", "RV", "Myo", "LV")
EMIDEC = ("background", "LV", "Myo", "scar", "mvo")
MYOPS = ("background", "RV", "Myo", "LV", "oedema", "scar")


def _maps(seed: int, values: int, drop: tuple[int, ...] = ()) -> np.ndarray:
    """Blobs of labels `[Z, H, W]`, without those in `drop`."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(6, 24, 20)), (0.5, 2, 2))
    limits = np.quantile(field, np.linspace(0.4 + 0.03 * (seed % 7), 1, values + 1)[:-1])
    labels = np.digitize(field, limits).astype(np.uint8)
    return np.where(np.isin(labels, drop), 0, labels).astype(np.uint8)


def _evaluated(pairs: dict[str, tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]) -> Evaluated:
    cases, clinical, script = [], [], {}
    for case, (pred, truth) in pairs.items():
        patient, _, phase = case.partition("_")
        head = {"case": case, "patient": patient, "phase": phase}
        cases += [{**head, **row} for row in evaluate_case(pred, truth, SPACING_MM, classes, slice_axis=0)]
        if phase:
            clinical += [{**head, **row} for row in measure_case(pred, truth, SPACING_MM, classes).clinical]
        masks = (np.isin(labels, (2, 3, 4)).T for labels in (pred, truth))  # the file's axes: X is W, Y is H
        script[case] = challenges.hd_of_emidec(*masks, SPACING_MM[::-1])
    return Evaluated(cases, clinical, classes, script)


def _line(lines: list[Line], structure: str, measure: str) -> Line:
    (found,) = (line for line in lines if (line.structure, line.measure) == (structure, measure))
    return found


def _dice(pred: np.ndarray, truth: np.ndarray, absent: float) -> float:
    """As MedPy's `dc`, with what its version gives for two empty masks."""
    return 2 * (pred & truth).sum() / (pred.sum() + truth.sum()) if pred.any() or truth.any() else absent


def _surface(pred: np.ndarray, truth: np.ndarray, sampling: tuple[float, ...]) -> float:
    """As MedPy's `hd`: erosion with zeros beyond the image, distance transform of the other's border."""
    edges = [mask ^ ndimage.binary_erosion(mask) for mask in (pred, truth)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=sampling) for edge in edges]
    return max(maps[1][edges[0]].max(), maps[0][edges[1]].max())


def test_acdc():
    pairs = {f"p{i}_{phase}": (_maps(2 * i, 3), _maps(2 * i + 1, 3)) for i in range(4) for phase in ("ED", "ES")}
    for i in range(4):  # a smaller heart at ES
        pairs[f"p{i}_ES"] = tuple(np.where(np.arange(6)[:, None, None] < 3 + i % 3, m, 0) for m in pairs[f"p{i}_ES"])
    pairs["p3_ES"] = tuple(np.where(m == 1, 0, m) for m in pairs["p3_ES"])  # no right ventricle in either map
    lines = challenges.acdc(_evaluated(pairs, ACDC))
    ml = math.prod(SPACING_MM) / 1000
    for k, structure in ((3, "LV"), (1, "RV"), (2, "Myo")):
        held = {case: (pred == k, truth == k) for case, (pred, truth) in pairs.items()}
        for phase in ("ED", "ES"):
            own = [both for case, both in held.items() if case.endswith(phase)]
            dice = [_dice(*both, absent=0.0) for both in own]
            assert _line(lines, structure, f"Dice {phase}")[3:6] == pytest.approx(
                (np.mean(dice), np.std(dice, ddof=1), 4)
            )
            hd = [_surface(*both, SPACING_MM) for both in own if both[0].any()]
            assert _line(lines, structure, f"HD {phase}")[3] == pytest.approx(np.mean(hd))
        v = np.array([[[m.sum() * ml for m in held[f"p{i}_{phase}"]] for i in range(4)] for phase in ("ED", "ES")])
        if structure == "Myo":
            pairs_of = {"volume ES": v[1], "mass ED": 1.05 * v[0]}
        else:
            pairs_of = {"volume ED": v[0], "volume ES": v[1], "EF": 100 * (v[0] - v[1]) / v[0]}
        for measure, values in pairs_of.items():
            pred, truth = values.T
            assert _line(lines, structure, f"{measure} r").value == pytest.approx(np.corrcoef(pred, truth)[0, 1])
            assert _line(lines, structure, f"{measure} bias").value == pytest.approx((pred - truth).mean())
            assert _line(lines, structure, f"{measure} SD").value == pytest.approx((pred - truth).std(ddof=1))
    assert (_line(lines, "RV", "HD ES").n, _line(lines, "RV", "HD ES").without) == (3, 1)
    with pytest.raises(InputError, match="ED and at ES"):
        challenges.acdc(_evaluated({"one": pairs["p0_ED"]}, ACDC))


def test_emidec():
    pairs = {f"p{i}": (_maps(2 * i, 4), _maps(2 * i + 1, 4)) for i in range(3)}
    pairs["normal"] = (_maps(8, 4, drop=(3, 4)), _maps(9, 4, drop=(3, 4)))  # no infarction, and none found
    lines = challenges.emidec(_evaluated(pairs, EMIDEC))
    mm3 = math.prod(SPACING_MM)
    for name, values in (("myocardium", (2, 3, 4)), ("infarction", (3, 4)), ("no-reflow", (4,))):
        held = [tuple(np.isin(m, values) for m in both) for both in pairs.values()]
        wall = [np.isin(truth, (2, 3, 4)).sum() for _, truth in pairs.values()]
        error = np.array([abs(int(p.sum()) - int(t.sum())) for p, t in held], float)
        assert _line(lines, name, "Dice").value == pytest.approx(100 * np.mean([_dice(*b, absent=1.0) for b in held]))
        assert _line(lines, name, "volume difference").value == pytest.approx(mm3 * error.mean())
        if name == "myocardium":
            wrong = SPACING_MM[::-1]  # the script's: (x, y, z) along the axes (z, y, x)
            want = np.mean([_surface(*both, wrong) for both in held])
            assert _line(lines, name, "HD, script's spacing").value == pytest.approx(want)
            assert want != pytest.approx(np.mean([_surface(*both, SPACING_MM) for both in held]))
        else:
            assert _line(lines, name, "volume difference / myocardium").value == pytest.approx(
                100 * (error / wall).mean()
            )
    with pytest.raises(InputError, match="without scar"):
        challenges.emidec(_evaluated({"one": pairs["p0"]}, EMIDEC)._replace(classes=ACDC))


def test_myops():
    pairs = {f"p{i}": (_maps(2 * i, 5), _maps(2 * i + 1, 5)) for i in range(3)}
    pairs["none"] = (_maps(8, 5, drop=(4, 5)), _maps(9, 5, drop=(4, 5)))
    pairs["missed"] = (_maps(10, 5, drop=(5,)), _maps(11, 5))
    lines = challenges.myops(_evaluated(pairs, MYOPS))
    for name, values in (("scar", (5,)), ("scar + oedema", (4, 5))):
        dice = [_dice(np.isin(p, values), np.isin(t, values), absent=1.0) for p, t in pairs.values()]
        assert _line(lines, name, "Dice")[3:] == pytest.approx((np.mean(dice), np.std(dice, ddof=1), 5, 0))
    assert set(challenges.RULES) == set(challenges.SOURCES) == {"acdc", "emidec", "myops"}
