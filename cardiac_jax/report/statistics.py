"""Report section that says how means, intervals and tests are computed, with the numbers of patients and cases."""

from collections.abc import Sequence

from cardiac_jax.metrics.summary import counted
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Section

UNIT = (
    "The unit is the patient. Values of one patient's cases (ED and ES, several visits) are correlated, so they are "
    "averaged within the patient before means, standard deviations, intervals and tests; n counts patients."
)
MISSES = (
    "A distance that is infinite in one case, because only one of the two maps has the structure, makes the patient's "
    "value infinite: the patient is counted as missed, and the mean is over the others. A structure absent from both "
    "maps of a case has no value there."
)
PAIRED = (
    "Paired comparisons: mean over patients of the difference on the same cases; Wilcoxon's signed-rank test over "
    "patients, two-sided, Holm's correction over all comparisons of the table. The 95% interval of the mean difference "
    "is Student's t, which in simulation covers better than a bootstrap, for few patients and for many."
)
AGREEMENT = (
    "Agreement: bias, limits of agreement and mean errors take patients as units. With several cases of a patient the "
    "limits are those of one case's difference, whose true value varies (Bland and Altman 2007, section 3), and their "
    "intervals are those of Zou (2013). Pearson's r (Fisher's interval) and Lin's concordance (Lin 1989, corrected in "
    "2000) are of the patients' means. Relative errors leave out cases whose gold standard is not above 0."
)
SLICES = (
    "Tables per slice: means over slices, as in the papers; the intervals take patients as units (jackknife over "
    "patients, t with patients - 1 degrees of freedom). Thirds by heart size divide patients, by the mean of their "
    "cases."
)


def statistics(entries: Sequence[Entry], options: Options) -> Section:
    """Section of text: the numbers of patients and cases of each method, and the rules of every table."""
    of = {entry.results.name: counted(entry.results.rows) for entry in entries}
    same = len(set(of.values())) == 1
    numbers = next(iter(of.values())) if same else "; ".join(f"{name} {count}" for name, count in of.items())
    return Section("statistics", "Statistics", (f"Measured: {numbers}.", f"{UNIT} {MISSES}", PAIRED, AGREEMENT, SLICES))
