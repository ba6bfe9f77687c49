"""The layout: a folder imports only what stands below it, and importing a network stays light."""

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests import tiny

FLOORS = (
    "commands",
    "runs",
    "report",
    "results",
    "systems",
    "inference",
    "anatomy",
    "transforms",
    "metrics",
    "train",
    "data",
    "data.sets",
    "data.io",
    "nets",
    "losses",
    "core",
    "ops",
    "phantom",
)
"""Top floor first. `errors` and `progress` lie in the package itself: anything may import them."""
CELLAR = ("data.case", "data.labels", "data.orientation", "data.stack")
"""Of the folder `data`, the types of its inner folders: data sets and files import these."""


def floor_of(module: str) -> str | None:
    """The floor of a dotted name under `cardiac_jax`; None of what lies in the package itself."""
    inside = module.split(".")[1:]
    if ".".join(inside[:2]) in CELLAR:
        return "data.io"
    return next((name for n in (2, 1) if (name := ".".join(inside[:n])) in FLOORS), None)


def imports(file: Path) -> set[str]:
    """Every module and name that a file imports from the package, wherever the statement stands."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    named = {f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    named |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    return {name for name in named if name.split(".")[0] == "cardiac_jax"}


def files() -> list[Path]:
    return sorted((tiny.ROOT / "cardiac_jax").rglob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(tiny.ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_folder_has_a_floor():
    folders = {path.parent.relative_to(tiny.ROOT / "cardiac_jax").as_posix().replace("/", ".") for path in files()}
    known = {*FLOORS, "."} | {f"{a}.{b}" for a in FLOORS for b in ("cpu", "phantom", "detection")}
    assert {name for name in folders if name not in known and name.rpartition(".")[0] not in FLOORS} == set()


def test_no_folder_imports_what_stands_above_it():
    upward = []
    for file in files():
        own = floor_of(module_of(file))
        for name in imports(file) if own else ():
            other = floor_of(name)
            if other and FLOORS.index(other) < FLOORS.index(own or ""):
                upward.append(f"{module_of(file)} imports {name}")
    assert upward == []


def test_the_package_imports_neither_commands_nor_experiments():
    named = {
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for file in files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {name for name in named if name.split(".")[0] in ("launch", "experiments")}


def test_a_floor_that_is_broken_would_be_seen():
    assert all(floor_of(f"cardiac_jax.{name}.x") == name for name in FLOORS)
    assert floor_of("cardiac_jax.errors.InputError") is None
    assert [FLOORS.index(a) < FLOORS.index(b) for a, b in pairwise(FLOORS)] == [True] * (len(FLOORS) - 1)


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("nets.autoencoder", ("metrics", "report", "results", "data", "train", "anatomy")),
        ("losses.overlap", ("metrics", "report", "data", "train", "nets")),
    ],
)
def test_importing_a_part_stays_light(module, without):
    def loaded(statement: str) -> set[str]:
        command = [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"]
        return set(subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT, check=True).stdout.split())

    added = loaded(f"import cardiac_jax.{module}") - loaded(
        "import flax.linen, optax, chex"
    )  # flax imports rich itself
    assert not added & {"matplotlib", "rich", "nibabel", "skimage", "orbax"}
    assert not [name for name in added if name.startswith(tuple(f"cardiac_jax.{folder}" for folder in without))]
