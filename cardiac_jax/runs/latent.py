"""The size of ACSNet's latent space: priors of several code lengths, each trained alone (Abramson et al. 2020, Fig. 5).

<workdir>/code<d>/      a run of the prior's stage only
<workdir>/latent.csv    a row for every code length; latent.json, latent.md: the same
<workdir>/latent.png    likelihood and adjusted AIC by components, a column for every code length
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from cardiac_jax import anatomical
from cardiac_jax.data import source
from cardiac_jax.data.files import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import cohort_charts, figures, records
from cardiac_jax.metrics.table import Cell, Table, to_markdown, to_rich
from cardiac_jax.ops.mixture_size import Curves
from cardiac_jax.runs import run
from cardiac_jax.systems.prior import AUTOENCODER
from cardiac_jax.types import Config

BANK = 1000  # codes are drawn for the share of valid ones only


class Size(NamedTuple):
    """What was found for one length of the code.

    Attributes:
      held_out: `[M]`, Dice of shapes of the validation part and their restored selves.
      components: of the mixture, by cross-validation.
      accept_rate: of the codes drawn, the share that decodes to valid shapes.
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


def sweep(config: Config, workdir: Path, codes: Sequence[int], console: Console) -> int:
    """Trains and compares priors of every length of `codes`; goes on where it was stopped.

    Returns:
      0, or the number of the signal that stopped it.

    Raises:
      InputError: a system without prior, a length below 1, or data that cannot be used.
    """
    if config.system != "acsnet":
        raise InputError("--config", f"{config.system} learns no anatomical prior")
    if not codes or min(codes) < 1:
        raise InputError("--codes", "wants lengths of 1 or more")
    found = []
    for code in sorted(set(codes)):
        own, folder = _alone(config, code), workdir / f"code{code}"
        console.rule(f"code of {code}")
        if stopped := run.train(own, folder, console):
            return stopped
        found.append(_size(own, folder, code, console))
    _write(found, workdir, console)
    return 0


def chosen(found: Sequence[Size]) -> Size:
    """The shortest code that restores held-out shapes within one standard error of the best: "high enough" (Fig. 5)."""
    best = max(found, key=lambda size: size.held_out.mean())
    least = best.held_out.mean() - best.error
    return min((size for size in found if size.held_out.mean() >= least), key=lambda size: size.code)


def _alone(config: Config, code: int) -> Config:
    """The same experiment, whose only stage of any length is the prior's."""
    own = config.copy_and_resolve_references()
    with own.unlocked():
        own.prior.update({"code": code, "bank": min(BANK, config.prior.bank)})
        own.localiser.steps = own.train.steps = 0
    return own.lock()


def _size(config: Config, folder: Path, code: int, console: Console) -> Size:
    trained = run.restore(folder, "latest")
    prior, data = trained.prior, trained.description
    assert prior is not None
    cases = source.load(config.data, config.seed, console).cases["val"]
    labels = [case.label for case in cases if case.label is not None]
    values = prior.structures.values(data.classes)
    shapes = anatomical.shapes_of(labels, values, prior.size, prior.structures)["shape"]
    held_out = anatomical.dice_of_maps(shapes, anatomical.batched(prior.restore, shapes))
    about = prior.about
    curves = Curves(tuple(about["sizes"]), np.asarray(about["nll"]), np.asarray(about["aic"]))
    counts = sum(leaf.size for leaf in jax.tree.leaves(trained.variables[AUTOENCODER]["params"]))
    return Size(code, counts, held_out, about["chosen"], about["accept_rate"], curves)


def _write(found: Sequence[Size], workdir: Path, console: Console) -> None:
    best = chosen(found)
    rows = [
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
        f"Chosen: a code of {best.code}, the shortest within one standard error of the best; {best.components} "
        "components, the fewest at which both curves are down.",
    )
    header = ("code", "parameters", "Dice restored", "components", "draws valid")
    table = Table("Size of the latent space", header, tuple(lines), notes)
    figure = cohort_charts.curves_figure({f"code of {size.code}": (size.curves, size.components) for size in found})
    records.write_csv(workdir / "latent.csv", rows)
    records.write_json(workdir / "latent.json", rows, {"code": best.code, "components": best.components})
    atomic_write(workdir / "latent.md", lambda to: to.write_text(to_markdown(table), encoding="utf-8"))
    figures.save(figure, workdir / "latent.png")
    console.print(to_rich(table))
    console.print(f"written to {workdir}: latent.csv, latent.json, latent.md, latent.png")
