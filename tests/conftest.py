"""The environment of every test: eight CPU devices, no silent rank promotion, warnings are errors.

The settings are environment variables, set before JAX is imported, so commands that a test starts as processes of
their own inherit them.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

PLAIN = "CARDIAC_JAX_PLAIN_OPS"  # see cardiac_jax/ops/cpu/switch.py

# CARDIAC_JAX_TEST_PLATFORM=cuda,cpu runs what needs no eight devices on a GPU (see CONTRIBUTING.md).
os.environ["JAX_PLATFORMS"] = os.environ.get("CARDIAC_JAX_TEST_PLATFORM", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Eight devices on two cores: a slow one must not abort the process.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_cpu_collective_call_terminate_timeout_seconds=600"
).strip()
# Plain forms are traced and compiled in half the time; the fixture `cpu_forms` and tests/launch use the forms of a CPU.
os.environ[PLAIN] = "1"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "Agg"

# Compiled programs are kept outside the clone, in a folder per versions, flags and processor; a fresh clone finds them.
_VERSIONS = [f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "optax")]
_FLAGS = [f"{name}={os.environ.get(name, '')}" for name in ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES")]
_INFO = Path("/proc/cpuinfo")
_CPU = [
    platform.machine(),
    *[s for s in (_INFO.read_text().splitlines() if _INFO.exists() else []) if "flags" in s][:1],
]
_KEY = hashlib.sha256("\n".join([platform.python_version(), *_VERSIONS, *_FLAGS, *_CPU]).encode()).hexdigest()[:16]
CACHE = Path(os.environ.get("CARDIAC_JAX_TEST_CACHE", Path.home() / ".cache" / "cardiac_jax_tests")) / _KEY
os.environ["CARDIAC_JAX_TEST_COMMANDS"] = str(CACHE / "commands")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE / "tests")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def _write_whole() -> None:
    """Makes JAX write cache entries under a temporary name: the workers share the cache, none reads half an entry."""
    from jax._src import lru_cache

    def put(self: lru_cache.LRUCache, key: str, value: bytes) -> None:
        target = Path(str(self.path)) / f"{key}{lru_cache._CACHE_SUFFIX}"
        if not target.exists():
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            temporary.write_bytes(value)
            temporary.replace(target)

    lru_cache.LRUCache.put = put


_write_whole()

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, one subfolder per data set (`mscmr`, `acdc`, ...)."""
    root = os.environ.get("CARDIAC_JAX_DATA")
    if not root:
        pytest.skip("CARDIAC_JAX_DATA is not set: it names the folder of real scans (mscmr/, acdc/, ...)")
    if not Path(root).is_dir():
        pytest.fail(f"CARDIAC_JAX_DATA={root} is not a folder")
    return Path(root)


@pytest.fixture(scope="module")
def cpu_forms() -> Iterator[None]:
    """Operations in the forms of a CPU, as users run them; programs traced with the plain forms are forgotten."""
    import jax

    jax.clear_caches()
    os.environ.pop(PLAIN)
    yield
    os.environ[PLAIN] = "1"
    jax.clear_caches()
