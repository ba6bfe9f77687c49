"""The environment of every test: eight CPU devices, no silent rank promotion, warnings are errors.

The settings are environment variables, set before JAX is imported, so commands that a test starts as processes of
their own inherit them.
"""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

PLAIN = "CARDIAC_JAX_PLAIN_OPS"  # see cardiac_jax/ops/cpu/switch.py


def _known(flags: str) -> bool:
    """Whether the installed XLA knows the flags; others end the process. Asked once a version, in a process."""
    folder = Path(os.environ.get("CARDIAC_JAX_TEST_CACHE", Path.home() / ".cache" / "cardiac_jax_tests"))
    answer = folder / f"flags_{version('jaxlib')}_{hashlib.sha256(flags.encode()).hexdigest()[:8]}"
    if not answer.exists():
        env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=env, capture_output=True)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = answer.with_name(f".{answer.name}.{os.getpid()}")
        temporary.write_text("no" if done.returncode else "yes", encoding="utf-8")
        temporary.replace(answer)
    return answer.read_text(encoding="utf-8") == "yes"


# CARDIAC_JAX_TEST_PLATFORM=cuda,cpu runs what needs no eight devices on a GPU (see CONTRIBUTING.md).
os.environ["JAX_PLATFORMS"] = os.environ.get("CARDIAC_JAX_TEST_PLATFORM", "cpu")
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Eight devices on two cores: a slow one must not abort the process.
_FLAGS = "--xla_cpu_collective_call_terminate_timeout_seconds=600"
# Programs run for milliseconds and compile for seconds: LLVM at -O0, kernels by the emitter that compiles sooner.
_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
_OPTIMISED = bool(os.environ.get("CARDIAC_JAX_TEST_OPTIMISED")) or not _known(_QUICK)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), _FLAGS, "" if _OPTIMISED else _QUICK]).strip()
# Plain forms are traced and compiled in half the time; the fixture `cpu_forms` and tests/launch use the forms of a CPU.
os.environ[PLAIN] = "0" if os.environ.get("CARDIAC_JAX_TEST_OPTIMISED") else "1"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "Agg"

# Compiled programs are kept outside the clone, in a folder per versions, flags and processor; a fresh clone finds them.
_VERSIONS = [f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "optax")]
_SET = [f"{name}={os.environ.get(name, '')}" for name in ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES")]
_INFO = Path("/proc/cpuinfo")
_CPU = [
    platform.machine(),
    *[s for s in (_INFO.read_text().splitlines() if _INFO.exists() else []) if "flags" in s][:1],
]
_KEY = hashlib.sha256("\n".join([platform.python_version(), *_VERSIONS, *_SET, *_CPU]).encode()).hexdigest()[:16]
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


_LONGEST = ("examples", "launch", "train", "runs", "anatomy", "systems", "report", "nets", "phantom")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the folders whose files take longest to the front: no worker is left alone with one of them at the end."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return _LONGEST.index(folder) if folder in _LONGEST else len(_LONGEST)

    items.sort(key=rank)


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
    before, os.environ[PLAIN] = os.environ[PLAIN], "0"
    yield
    os.environ[PLAIN] = before
    jax.clear_caches()
