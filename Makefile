# `make demo` shows everything; `make test` and `make check` are what the project itself runs.
# Each makes .venv when it is missing; a second call does not install again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PLUGINS := $(wildcard plugins/*/)

.PHONY: demo test test-extras walk old check faults fuzz format clean

demo: $(STAMP)
	$(BIN)/muse demo

# Tests run side by side, a process a core, each on one thread; the tests of one file stay together, and
# files with slow tests come first (tests/conftest.py). Without the slow ones: make test MARKED='not slow'.
JOBS ?= 2

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m '$(MARKED)'

EXTRAS := -m pytest -o addopts='-ra --strict-markers --import-mode=importlib'

# What takes longer or needs an environment of its own: steps of size 1b, the plugins of release 0.1.0, every tracker, and
# the walk. Packages are installed by the tests that need them.
test-extras: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python $(EXTRAS) tests/extras

# From an empty folder, with only what `pip install .` brings: every command, and all they say comes next, with their seconds.
walk: $(STAMP)
	$(BIN)/python $(EXTRAS) -s tests/extras/test_walk.py

# The sources of release 0.1.0 beside these: the same losses, resumed runs and scores.
old: $(STAMP)
	$(BIN)/python -m tests.old

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Both write what they saw into docs/faults.md; for less, see `python -m tests.faults -h` and `python -m tests.fuzz -h`.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --write

CASES ?= 2000
SEED ?= 0

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --cases $(CASES) --seed $(SEED) --write

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

$(STAMP): pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "muse needs Python 3.11 or later; try: make PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' $(patsubst %,-e ./%,$(PLUGINS))
	touch $@
