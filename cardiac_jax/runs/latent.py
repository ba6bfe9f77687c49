"""Size of ACSNet's latent space: compares priors with several code lengths (Abramson et al. 2020, Fig. 5).

<workdir>/code<d>/      a run of the prior's stage only
<workdir>/latent.csv    a row for every code length; latent.json, latent.md: the same
<workdir>/latent.png    likelihood and adjusted AIC by number of components, a column for every code length
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from cardiac_jax.anatomy import anatomical_prior
from cardiac_jax.anatomy.mixture_size import Curves
from cardiac_jax.anatomy.training import AUTOENCODER
from cardiac_jax.core.types import Config
from cardiac_jax.data import cohort
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.rows import Row
from cardiac_jax.report import cohort_charts, figures
from cardiac_jax.report.table import Cell, Table, to_markdown, to_rich
from cardiac_jax.results import records
from cardiac_jax.runs.restore import restore
from cardiac_jax.train import devices

BANK = 1000  # size of the bank; it only serves to measure the share of valid codes
FEWEST = 2  # least number of shapes, for a standard error


class Size(NamedTuple):
    """Results for one code length.

    Attributes:
      code: length of the code.
      parameters: trainable scalars of the autoencoder.
      held_out: `[M]`, Dice between shapes of the validation set and their reconstructions.
      components: number of mixture components, chosen by cross-validation and used.
      accept_rate: share of the codes sampled from the mixture that decode to valid shapes.
      curves: cross-validated likelihood and adjusted AIC by number of components.
    """

    code: int
    parameters: int
    held_out: np.ndarray
    components: int
    accept_rate: float
    curves: Curves

    @property
    def error(self) -> float:
        """Standard error of the mean of `held_out`, as if slices were independent."""
        return float(self.held_out.std(ddof=1) / math.sqrt(len(self.held_out)))


def alone(config: Config, code: int) -> dict[str, Any]:
    """Returns the configuration keys with which an experiment trains only its prior, with code length `code`.

    Raises:
      InputError: the system has no prior, or `code` is below 1.
    """
    if config.system != "acsnet":
        raise InputError("--config", f"{config.system} learns no anatomical prior")
    if code < 1:
        raise InputError("--codes", f"{code} is less than 1")
    prior = {"prior.code": code, "prior.bank": min(BANK, config.prior.bank), "prior.components": 0}
    return {**prior, "localiser.steps": 0, "train.steps": 0}


def held_out_labels(config: Config, console: Console) -> list[np.ndarray]:
    """Returns the label maps `[Z, H, W]` of the validation set."""
    cohort.make_phantom(config.data, config.seed, console)
    cases = cohort.load(config.data, config.seed, console, ("val",)).cases["val"]
    return [case.label for case in cases if case.label is not None]


@devices.on_host()
def measure(folder: Path, labels: Sequence[np.ndarray]) -> Size:
    """Returns the results of the prior of the run in `folder`, measured on `labels` `[Z, H, W]`.

    Raises:
      InputError: `labels` have fewer than two shapes in fully annotated slices.
    """
    trained = restore(folder, "latest")
    data, fit = trained.spec, trained.fits[anatomical_prior.STAGE]
    prior = anatomical_prior.prior_of(trained.system, trained.variables, trained.fits, data.pixel_mm)
    assert prior is not None
    values = prior.spec.label_values(data.classes)
    shapes = anatomical_prior.shapes_of(labels, values, prior.size, prior.spec)["shape"]
    if len(shapes) < FEWEST:
        raise InputError("validation part", f"{len(shapes)} shapes in slices annotated in full: nothing to measure on")
    held_out = anatomical_prior.dice_of_maps(shapes, anatomical_prior.batched(prior.restore, shapes))
    curves = Curves(tuple(fit["sizes"]), np.asarray(fit["nll"]), np.asarray(fit["aic"]))
    counts = sum(leaf.size for leaf in jax.tree.leaves(trained.variables[AUTOENCODER]["params"]))
    return Size(trained.config.prior.code, counts, held_out, fit["components"], fit["accept_rate"], curves)


def chosen(found: Sequence[Size]) -> Size:
    """Returns the shortest code with held-out Dice within one standard error of the best ("high enough", Fig. 5)."""
    best = max(found, key=lambda size: size.held_out.mean())
    least = best.held_out.mean() - best.error
    return min((size for size in found if size.held_out.mean() >= least), key=lambda size: size.code)


def write(found: Sequence[Size], workdir: Path, console: Console) -> None:
    """Writes table, figure and rows of the results so far, and prints the table."""
    best = chosen(found)
    rows: list[Row] = [
        {
            "code": size.code,
            "parameters": size.parameters,
            "shapes": len(size.held_out),
            "dice_restored": float(size.held_out.mean()),
            "standard_error": size.error,
            "components": size.components,
            "accept_rate": size.accept_rate,
        }
        for size in found
    ]
    lines = [
        (
            Cell(str(size.code), size is best),
            Cell(f"{size.parameters:,}"),
            Cell(f"{size.held_out.mean():.3f} ± {size.error:.3f}", size is best),
            Cell(str(size.components)),
            Cell(f"{100 * size.accept_rate:.1f}%"),
        )
        for size in found
    ]
    notes = (
        f"Dice of {len(best.held_out)} shapes of the validation part and their restored selves, mean ± standard error.",
        f"Chosen: a code of {best.code}, the shortest within one standard error of the best.",
        f"Components by {best.curves.nll.shape[1]}-fold cross-validation: the fewest at which both curves are down, "
        "or, where no number serves both, those of the best likelihood. Draws are of that mixture.",
    )
    header = ("code", "parameters", "Dice restored", "components", "draws valid")
    table = Table("Size of the latent space", header, tuple(lines), notes)
    figure = cohort_charts.curves_figure({f"code of {size.code}": (size.curves, size.components) for size in found})
    records.write_csv(workdir / "latent.csv", rows)
    records.write_json(workdir / "latent.json", rows, {"code": best.code, "components": best.components})
    atomic_write(workdir / "latent.md", lambda to: to.write_text(to_markdown(table), encoding="utf-8"))
    figures.save(figure, workdir / "latent.png")
    console.print(to_rich(table))
