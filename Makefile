# make setup   an environment in .venv, made once and again when pyproject.toml changes
# make demo    trains and evaluates on the phantom (Python 3.11 and this folder are all it needs)
# make test    lint, types and the whole test suite
# make pytest  the tests only
# make lint    ruff and pyrefly only
# make clean   removes what make and the tests made

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: setup demo test pytest lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: $(STAMP)
	$(BIN)/python -m launch.demo

# Lint and types beside the tests.
test: $(STAMP)
	$(MAKE) --no-print-directory -j 2 lint pytest

# In a locale that knows ASCII only, so that a file opened without its encoding fails here first.
pytest: $(STAMP)
	LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --summary=none

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info demo_run
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
