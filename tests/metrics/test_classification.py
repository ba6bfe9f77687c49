"""Classification by codes: who is in which fold, what the components are fitted to, and answers that are known."""

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from cardiac_jax.errors import InputError
from cardiac_jax.metrics import classification
from cardiac_jax.metrics.classification import Features, Outcome
from cardiac_jax.metrics.intervals import proportion_interval
from cardiac_jax.metrics.normality import normality
from cardiac_jax.metrics.paired_tests import mcnemar


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(classification, "TREES", 15)


def people(count: int, *groups: str) -> dict[str, str]:
    return {f"p{i:02d}": groups[i % len(groups)] for i in range(count)}


def test_separable_groups_are_told_without_a_mistake():
    groups = people(12, "NOR", "DCM", "HCM")
    rng = np.random.default_rng(0)
    level = {"NOR": 0.0, "DCM": 10.0, "HCM": 20.0}
    codes = np.array([level[group] for group in groups.values()])[:, None] + rng.normal(0, 0.1, (12, 3))
    found = classification.classify(Features((codes, codes)), groups, folds=4, repeats=2)
    assert found.groups == ("DCM", "HCM", "NOR") and found.dimension == 6
    assert found.accuracy.value == 1.0 and found.spread == (1.0, 1.0)
    assert found.confusion.tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    low = stats.binomtest(12, 12).proportion_ci(0.95, "wilson").low
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((low, 1.0))


def test_codes_without_information_are_near_chance():
    groups = people(60, "NOR", "DCM")
    codes = np.random.default_rng(1).normal(size=(60, 8))
    found = classification.classify(Features((codes,)), groups, folds=6, repeats=2)
    assert found.accuracy.low < 0.5 < found.accuracy.high
    assert found.accuracy.low > 0.2 and found.accuracy.high < 0.8  # an interval that says something


def test_no_patient_is_in_training_and_test_and_each_is_asked_once_a_repetition(monkeypatch):
    groups = people(11, "NOR", "DCM", "HCM")
    seen: list[tuple[set[float], set[float]]] = []

    class Spy:
        def __init__(self, **_):
            pass

        def fit(self, rows, truth):
            assert set(truth) == {0, 1, 2}
            self.learnt = set(rows.ravel())
            return self

        def predict_proba(self, rows):
            seen.append((self.learnt, set(rows.ravel())))
            return np.full((len(rows), 3), 1 / 3)

    monkeypatch.setattr(classification, "forest", lambda: Spy)
    identity = np.arange(11.0)[:, None]
    ticks: list[int] = []
    classification.classify(Features((identity,)), groups, folds=5, repeats=2, on_fold=lambda: ticks.append(1))
    assert len(seen) == len(ticks) == 10
    everyone = set(range(11))
    for learnt, asked in seen:
        assert asked and not learnt & asked and learnt | asked == everyone
    for repeat in (seen[:5], seen[5:]):
        assert sorted(x for _, asked in repeat for x in asked) == sorted(everyone)
    assert [asked for _, asked in seen[:5]] != [asked for _, asked in seen[5:]]


def test_folds_are_of_one_size_and_one_composition():
    groups = people(40, "NOR", "DCM", "HCM", "MINF", "RV")  # eight of each in ten folds, as in ACDC's forty
    dealt = classification.fold_of(groups, 10, 3)
    assert dealt == classification.fold_of(groups, 10, 3) != classification.fold_of(groups, 10, 4)
    for members in ([*groups], *([p for p in groups if groups[p] == g] for g in set(groups.values()))):
        sizes = np.bincount([dealt[p] for p in members], minlength=10)
        assert sizes.max() - sizes.min() <= 1


def test_principal_scores_are_those_of_scikit_learn():
    maps = np.random.default_rng(2).normal(size=(9, 50)) @ np.diag(np.linspace(3, 0.1, 50))
    fitted = np.array([True] * 6 + [False] * 3)
    ours = classification.principal_scores(maps @ maps.T, fitted, 4)
    theirs = PCA(4, svd_solver="full").fit(maps[fitted]).transform(maps)
    np.testing.assert_allclose(ours * np.sign(ours[0] * theirs[0]), theirs, atol=1e-9)
    every = classification.principal_scores(maps @ maps.T, fitted, 64)
    assert every.shape == (9, 5)  # six maps span five directions about their mean


def test_components_never_see_a_test_patient():
    """Poisoned maps of the patients asked change their own features and nobody else's, in both phases."""
    rng = np.random.default_rng(3)
    clean = [rng.normal(size=(8, 30)) for _ in range(2)]
    train = np.array([True] * 6 + [False] * 2)
    poisoned = [np.where(train[:, None], maps, 1e3 * rng.normal(size=maps.shape)) for maps in clean]

    def rows(maps, mask):
        held = Features(tuple(maps), 5)
        return classification._rows(held, classification._gram(held.phases), mask)

    before, after = rows(clean, train), rows(poisoned, train)
    assert before.shape == (8, 10)
    np.testing.assert_allclose(before[train], after[train], rtol=0, atol=1e-9)
    assert np.abs(before[~train] - after[~train]).min(1).max() > 1
    leaking = np.ones(8, bool)  # the test would see components that are fitted to everyone
    assert np.abs(rows(clean, leaking)[train] - rows(poisoned, leaking)[train]).max() > 1


def test_gram_of_blocks_is_the_product_of_all_maps(monkeypatch):
    maps = np.random.default_rng(4).normal(size=(3, 2**16 + 5)).astype(np.float32)
    exact = maps.astype(np.float64)
    np.testing.assert_allclose(classification._gram((maps[:2], maps[2:])), exact @ exact.T, rtol=1e-12)


def test_answers_are_pooled_over_repetitions():
    truth = np.array([0, 0, 1, 1])
    found = Outcome(("a", "b"), truth, np.array([[0, 0, 1, 0], [0, 1, 1, 0]]), np.array([0, 1, 1, 0]), 3)
    assert found.accuracy.value == 5 / 8 and found.spread == (0.5, 0.75)
    assert found.confusion.tolist() == [[1, 1], [1, 1]]
    assert (found.accuracy.low, found.accuracy.high) == proportion_interval(5 / 8, 4)


def test_the_papers_three_groups_and_all():
    assert classification.tasks(["NOR", "DCM", "HCM", "MINF", "RV"]) == {
        "3 groups": ("NOR", "DCM", "HCM"),
        "5 groups": ("NOR", "DCM", "HCM", "MINF", "RV"),
    }
    assert classification.tasks(["DCM", "NOR", "HCM"]) == {"3 groups": ("NOR", "DCM", "HCM")}
    assert classification.tasks(["hypertrophic", "normal", "dilated", "infarct"])["3 groups"][0] == "normal"
    assert classification.tasks(["x", "y", "NOR"]) == {"3 groups": ("NOR", "x", "y")}


@pytest.mark.parametrize(
    ("groups", "folds", "said"),
    [
        ({}, 2, "group: there is no patient with a group: nothing to classify"),
        (people(4, "NOR"), 2, "group: there is only the group NOR: nothing to classify"),
        (people(4, "NOR", "DCM", "HCM"), 2, "group: DCM has 1 patient, at least 2 are needed"),
        (people(4, "NOR", "DCM"), 5, "--folds: 5 is not from 2 to 4, the number of patients"),
        (people(4, "NOR", "DCM"), 1, "--folds: 1 is not from 2 to 4, the number of patients"),
    ],
)
def test_what_cannot_be_classified_is_refused(groups, folds, said):
    with pytest.raises(InputError) as caught:
        classification.classify(Features((np.zeros((len(groups), 1)),)), groups, folds=folds)
    assert str(caught.value) == said


def test_scikit_learn_is_asked_for_in_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.ensemble", None)
    with pytest.raises(InputError, match=r'^classification: needs the extra: pip install "cardiac-jax\[codes\]"'):
        classification.forest()


def test_mcnemar_is_the_binomial_test_of_the_discordant():
    ours = np.array([True] * 9 + [False] * 2 + [True] * 20 + [False] * 4)
    theirs = np.array([False] * 9 + [True] * 2 + [True] * 20 + [False] * 4)
    assert mcnemar(ours, theirs) == pytest.approx(stats.binomtest(9, 11).pvalue) == mcnemar(theirs, ours)
    assert mcnemar(ours, ours) == 1.0
    assert mcnemar(np.array([True, False]), np.array([False, True])) == 1.0
    with pytest.raises(ValueError, match="not pairs"):
        mcnemar(ours, theirs[1:])


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 8), (22, 24), (40, 40)])
def test_interval_of_a_share_is_wilsons(right: int, n: int):
    want = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
    assert proportion_interval(right / n, n) == pytest.approx((want.low, want.high), abs=1e-12)
    assert np.isnan(proportion_interval(0.5, 0)).all()


def test_normality_is_rejected_of_what_is_not_normal(monkeypatch):
    rng = np.random.default_rng(5)
    codes = rng.normal(3, 1e-3, (80, 10))
    codes[:, 7] = rng.exponential(size=80)
    codes[:, 8] = np.repeat([-1.0, 1.0], 40) + rng.normal(0, 0.1, 80)
    codes[:, 9] = 0.25  # a dead dimension
    found = normality(codes)
    assert (found.test, found.n, found.tested, found.rejected) == ("Shapiro-Wilk", 80, 9, 2)
    assert set(np.flatnonzero(found.p_holm < 0.05)) == {7, 8}
    assert found.p[:9] == pytest.approx([stats.shapiro(v).pvalue for v in codes.T[:9]], rel=1e-6)
    assert np.isnan([found.statistic[9], found.p[9], found.p_holm[9]]).all()
    monkeypatch.setattr("cardiac_jax.metrics.normality.MOST", 50)
    other = normality(codes)
    assert other.test == "D'Agostino-Pearson" and other.p[7] == pytest.approx(stats.normaltest(codes[:, 7]).pvalue)
    assert normality(codes[:2]).tested == 0
