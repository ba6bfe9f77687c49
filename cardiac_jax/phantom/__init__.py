"""The phantom: simulated cardiac MR and ultrasound with realistic artefacts and a known gold standard.

A parametric biventricular heart beats inside a torso (`heart`, `infarct`, `anatomy`, `torso`). Signal equations give
the intensity of each tissue (`tissue`). A simulated scanner samples the anatomy in thick, oblique, misaligned
short-axis slices (`acquire`, `plan`, `simulate`) or in an axial 3D scan of the atria (`atrium`, `axial`), and a
simulated ultrasound probe from the apex (`sector`, `echo`, `ultrasound`). The phantom returns arrays;
`data/sets/phantom` writes the files of a data set.
"""

from cardiac_jax.phantom.patient import ACDC_GROUP, GROUPS
from cardiac_jax.phantom.plan import twin_grid
from cardiac_jax.phantom.simulate import Exam, Stack, cine, raw_labels, simulate

__all__ = ["ACDC_GROUP", "GROUPS", "Exam", "Stack", "cine", "raw_labels", "simulate", "twin_grid"]
