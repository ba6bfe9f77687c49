"""Runs that the tests of this folder share: small simulated patients, and a plain U-Net trained on them."""

from pathlib import Path

import pytest

from tests import tiny


def unet_command(data: Path, workdir: Path, *words: str) -> list[str | Path]:
    """The command that trains a plain U-Net for two steps, its parameters averaged; later `words` count."""
    short = ("--config.train.steps=2", "--config.train.eval_every=2", "--config.train.ema=0.5")
    return tiny.train(data, workdir, *short, *words, method="unet")


@pytest.fixture(scope="session")
def env() -> dict[str, str]:
    """For commands on one device, which share compiled programs."""
    return tiny.environment(1, tiny.kept_cache(__name__))


@pytest.fixture(scope="session")
def patients(tmp_path_factory) -> Path:
    """The folder of four simulated patients; not to be changed."""
    return tiny.phantom_at(tmp_path_factory.mktemp("patients"))


@pytest.fixture(scope="session")
def unet(tmp_path_factory, patients, env) -> Path:
    """Two steps of a plain U-Net, its parameters averaged; not to be changed."""
    workdir = tmp_path_factory.mktemp("unet") / "run"
    done = tiny.run(unet_command(patients, workdir), env)
    assert done.returncode == 0, done.stderr
    return workdir
