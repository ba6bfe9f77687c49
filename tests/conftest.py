"""A hostile environment for every test: eight CPU devices, no silent rank promotion, warnings are errors.

The settings are environment variables, put in place before JAX is imported, so commands that a test starts
as processes of their own inherit them.
"""

import os
from pathlib import Path

import pytest

# One compilation cache per worker: JAX writes its entries in place, and a half-written one must not be read.
_CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax" / os.environ.get("PYTEST_XDIST_WORKER", "main")

# CARDIAC_JAX_TEST_PLATFORM=cuda,cpu runs what needs no eight devices on a GPU (see CONTRIBUTING.md).
os.environ["JAX_PLATFORMS"] = os.environ.get("CARDIAC_JAX_TEST_PLATFORM", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Eight devices on two cores: a slow one must not abort the process.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_cpu_collective_call_terminate_timeout_seconds=600"
).strip()
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["MPLBACKEND"] = "Agg"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, one subfolder per data set (`mscmr`, `acdc`, ...)."""
    root = os.environ.get("CARDIAC_JAX_DATA")
    if not root:
        pytest.skip("CARDIAC_JAX_DATA is not set: it names the folder of real scans (mscmr/, acdc/, ...)")
    if not Path(root).is_dir():
        pytest.fail(f"CARDIAC_JAX_DATA={root} is not a folder")
    return Path(root)
