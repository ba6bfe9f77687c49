"""Classification of patients into pathology groups by shape codes (Oktay et al. 2018, section III-F).

An ensemble of trees (scikit-learn's ExtraTrees) is trained on the codes of the other folds. A patient has one row of
features and lies in one fold, so none is in the training and the test part at once. The compared features are principal
components of label maps in a common frame (`common_frame.py`), fitted to the training patients of each fold.

Cross-validation is repeated with other folds and other trees. The accuracy is the mean over repetitions; its interval
is Wilson's with the number of patients as n, since repetitions add no patients. Confusion matrix and McNemar's test
take one answer for each patient: the group with the largest probability, averaged over the repetitions.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.data.splits import dealing_order
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.agreement import Estimate
from cardiac_jax.metrics.intervals import proportion_interval

PUBLISHED = (("NOR", "DCM", "HCM"), ("normal", "dilated", "hypertrophic"))
"""The three groups of the paper, under the names of ACDC and of the phantom."""
COMPONENTS = 64
TREES = 100
FEWEST = 2  # least number of patients of a group: one to learn from, one to ask
SMALLEST = 1e-9  # components of a smaller share of the largest variance are rounding errors


class Features(NamedTuple):
    """One way to describe P patients.

    Attributes:
      phases: one array `[P, V]` for each phase in use (ED, or ED and ES).
      components: 0: the values themselves are the features. Else the number of principal components, fitted in every
        fold to the maps of the training patients in all phases in use, to which each phase is then projected; fewer
        where these maps span fewer.
    """

    phases: tuple[np.ndarray, ...]
    components: int = 0


class Outcome(NamedTuple):
    """Answers of a repeated cross-validation.

    Attributes:
      groups: the G names.
      truth: `[P]`, index into `groups`.
      answers: `[R, P]`, those of each repetition.
      pooled: `[P]`, those of the probabilities averaged over repetitions.
      dimension: number of features; the smallest of all folds.
    """

    groups: tuple[str, ...]
    truth: np.ndarray
    answers: np.ndarray
    pooled: np.ndarray
    dimension: int

    @property
    def accuracy(self) -> Estimate:
        """Mean accuracy over the repetitions, with Wilson's interval for P patients."""
        share = float((self.answers == self.truth).mean())
        return Estimate(share, *proportion_interval(share, len(self.truth)))

    @property
    def spread(self) -> tuple[float, float]:
        """Least and largest accuracy of a repetition."""
        each = (self.answers == self.truth).mean(1)
        return float(each.min()), float(each.max())

    @property
    def confusion(self) -> np.ndarray:
        """`[G, G]` numbers of patients: rows are true groups, columns the pooled answers."""
        table = np.zeros((len(self.groups),) * 2, int)
        np.add.at(table, (self.truth, self.pooled), 1)
        return table


def tasks(groups: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the classifications possible in a data set, name -> groups: the paper's three, and all.

    Args:
      groups: that of every patient.
    """
    found = tuple(sorted(set(groups)))
    published = next((names for names in PUBLISHED if set(names) <= set(found)), ())
    rest = tuple(name for name in found if name not in published)
    chosen = [published, (*published, *rest)] if published and rest else [(*published, *rest)]
    return {f"{len(names)} groups": names for names in chosen}


def check(groups: Mapping[str, str], folds: int) -> None:
    """Checks that patients (-> group) can be classified in a cross-validation.

    A group with fewer patients than folds is missing from some test parts, never from a training part.

    Raises:
      InputError: there are fewer than two groups, a group has fewer than two patients, or folds are fewer than two or
        more than patients.
    """
    counts = Counter(groups.values())
    if len(counts) < 2:
        only = f"only the group {next(iter(counts))}" if counts else "no patient with a group"
        raise InputError("group", f"there is {only}: nothing to classify")
    name, least = min(counts.items(), key=lambda item: (item[1], item[0]))
    if least < FEWEST:
        raise InputError("group", f"{name} has {least} patient, at least {FEWEST} are needed")
    if not 2 <= folds <= len(groups):
        raise InputError("--folds", f"{folds} is not from 2 to {len(groups)}, the number of patients")


def fold_of(groups: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    """Returns patient -> fold; folds differ by one patient at most, and by one of each group."""
    return {patient: i % folds for i, patient in enumerate(dealing_order(groups, seed))}


def classify(
    features: Features,
    groups: Mapping[str, str],
    *,
    folds: int = 10,
    repeats: int = 10,
    seed: int = 0,
    on_fold: Callable[[], object] = lambda: None,
) -> Outcome:
    """Returns the answers of a cross-validation that is repeated with the seeds `seed`, `seed` + 1, ...

    Two calls with the same patients and seeds have the same folds, so that their outcomes are paired.

    Args:
      features: rows in the order of `groups`.
      groups: patient -> group.
      on_fold: called after every fold.

    Raises:
      InputError: as `check`; scikit-learn is not installed; `repeats` is below 1.
    """
    check(groups, folds)
    if repeats < 1:
        raise InputError("--repeats", f"{repeats} is less than 1")
    trees = forest()
    names = tuple(sorted(set(groups.values())))
    truth = np.array([names.index(group) for group in groups.values()])
    gram = _gram(features.phases) if features.components else None
    votes = np.zeros((repeats, len(truth), len(names)))
    dimension = None
    for repeat in range(repeats):
        dealt = fold_of(groups, folds, seed + repeat)
        fold = np.array([dealt[patient] for patient in groups])
        for k in range(folds):
            test = fold == k
            rows = _rows(features, gram, ~test)
            model = trees(n_estimators=TREES, random_state=seed + repeat).fit(rows[~test], truth[~test])
            votes[repeat, test] = model.predict_proba(rows[test])  # every group is in every training part
            dimension = min(dimension or rows.shape[1], rows.shape[1])
            on_fold()
    return Outcome(names, truth, votes.argmax(-1), votes.mean(0).argmax(-1), dimension or 0)


def principal_scores(gram: np.ndarray, fitted: np.ndarray, components: int) -> np.ndarray:
    """Returns principal components `[N, C]` of N maps, of axes fitted to some of them, largest variance first.

    They are computed from products of maps, since voxels are many more than maps: with `A = U S V'` the centred fitted
    maps, `A A' = U S^2 U'`, and a centred map x has the scores `x V = x A' U / S`. A map that is not fitted changes
    its own row only.

    Args:
      gram: `[N, N]`, products of the N maps.
      fitted: `[N]` bool.
      components: C is at most this, and at most the rank of the fitted maps about their mean.
    """
    with_fitted = gram[:, fitted]
    inner = with_fitted[fitted]
    centred = with_fitted - with_fitted.mean(1, keepdims=True) - inner.mean(0) + inner.mean()
    variances, vectors = np.linalg.eigh(centred[fitted])
    order = np.argsort(-variances)[:components]
    order = order[variances[order] > SMALLEST * max(float(variances.max()), 0.0)]
    return centred @ vectors[:, order] / np.sqrt(variances[order])


def _rows(features: Features, gram: np.ndarray | None, train: np.ndarray) -> np.ndarray:
    """Features `[P, D]` of one fold, phases side by side; principal components are fitted to the patients `train`."""
    if gram is None:
        return np.concatenate(features.phases, axis=1)
    count = len(features.phases)
    scores = principal_scores(gram, np.tile(train, count), features.components)
    return np.concatenate(np.split(scores, count), axis=1)


def _gram(phases: Sequence[np.ndarray]) -> np.ndarray:
    """`[N, N]` products of all maps, phase after phase, summed in float64 over blocks of voxels."""
    total, width = 0.0, phases[0].shape[1]
    for start in range(0, width, 2**16):
        block = np.concatenate([maps[:, start : start + 2**16] for maps in phases]).astype(np.float64)
        total = total + block @ block.T
    return np.asarray(total)


def forest() -> Any:
    """Returns scikit-learn's class of classifiers.

    Raises:
      InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import ExtraTreesClassifier
    except ImportError:
        raise InputError("classification", 'needs the extra: pip install "cardiac-jax[codes]"') from None
    return ExtraTreesClassifier
