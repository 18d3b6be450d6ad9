# Two commands matter: `make train` and `make test`. Both need only Python 3.11+, git and make.
# Versions are pinned in constraints.txt; torch goes first, so that what the pin admits is what is installed.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH  := $(shell sed -n '/^torch==/p' constraints.txt)
FLOOR_TORCH ?= $(TORCH)
JOBS   ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: train test lint types test-fast test-slow test-floor wheel-test bench tables format clean

train: $(VENV)/.base ## the main job: a life on a hidden task sequence, a table and a report at its end
	$(BIN)/python train.py $(ARGS)

test: lint types test-fast ## all that must hold before a change lands

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy reads the package as users get it: built and installed
	rm -rf $(VENV)/typed build
	$(PIP) install --no-deps --no-build-isolation --target $(VENV)/typed .
	cd $(VENV)/typed && ../bin/python -m mypy --config-file $(CURDIR)/pyproject.toml -p nl_agents

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

test-slow: $(VENV)/.dev ## learning tests
	$(BIN)/python -m pytest -q -n $(JOBS) -m slow

wheel-test: $(VENV)/.dev ## builds the wheel, installs it elsewhere, imports every module
	$(BIN)/python -m pytest -q tests/test_package.py

# The fast set on the lowest versions pyproject.toml admits. torch stays at the pin unless FLOOR_TORCH says otherwise,
# because an old torch may bring gigabytes of CUDA: make test-floor FLOOR_TORCH=torch==2.8.0
test-floor: .venv-floor/.ready
	.venv-floor/bin/python -m pytest -q -n $(JOBS) --dist loadfile

bench: $(VENV)/.fast ## speed against the opponents of benchmarks/opponents, as ratios
	$(BIN)/python -m benchmarks.speed $(ARGS)

tables: $(VENV)/.base ## regenerates every published table from benchmarks/results
	$(BIN)/python -m benchmarks.tables $(ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# --- environments: a stamp a set, so that a second call starts at once ---

$(VENV)/.base: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "nl_agents needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt "$(TORCH)"
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) install -c constraints.txt -e ".[dev,hosts,mujoco]"
	$(PIP) install -c constraints.txt --no-deps rl_zoo3 sb3-team-hf-integration
	touch $@

$(VENV)/.fast: $(VENV)/.base
	$(PIP) install -c constraints.txt -e ".[fast,sb3]"
	touch $@

.venv-floor/.ready: pyproject.toml
	test -x .venv-floor/bin/python || $(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python -c 'import re, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*[re.sub(r">=([\d.]+).*", r"==\1.*", d) for d in p["dependencies"] + p["optional-dependencies"]["sb3"] \
			if not d.startswith("torch")], sep="\n")' \
		> .venv-floor/floors.txt
	.venv-floor/bin/python -m pip --quiet install "$(FLOOR_TORCH)" -r .venv-floor/floors.txt
	.venv-floor/bin/python -m pip --quiet install -e ".[dev]"
	touch $@
