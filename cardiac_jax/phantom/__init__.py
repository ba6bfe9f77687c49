"""The phantom: simulated short-axis cardiac MR with what makes the real thing difficult, and a truth that is known.

A parametric biventricular heart beats inside a torso (`heart`, `infarct`, `anatomy`, `torso`); signal equations give
each tissue its brightness (`tissue`); a scanner samples it in thick, oblique, misaligned slices (`acquire`,
`plan`, `simulate`). Arrays come out; the files of a data set are written by `data/sets/phantom`.
"""

from cardiac_jax.phantom.patient import ACDC_GROUP, GROUPS
from cardiac_jax.phantom.plan import twin_grid
from cardiac_jax.phantom.simulate import Exam, Stack, cine, raw_labels, simulate

__all__ = ["ACDC_GROUP", "GROUPS", "Exam", "Stack", "cine", "raw_labels", "simulate", "twin_grid"]
