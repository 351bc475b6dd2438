# What a person runs: `make demo` (the main job), `make test` (all core checks), `make test-all` (extras too).
# Everything is installed into .venv from pyproject.toml, at the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo readme test test-all lint types imports pytest format bench constraints clean help

help:
	@echo "make demo      set up and measure profiles/quickstart.yaml (about two minutes)"
	@echo "make test      set up and run every core check"
	@echo "make test-all  the same, with the extras installed (about 1.2 GB: Triton, published packages) and their tests"

demo: $(VENV)/.ready
	$(BIN)/castbench profile profiles/quickstart.yaml

test: lint types imports pytest

test-all: test $(VENV)/.ready-extras
	$(BIN)/python -m pytest -q -m extra

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

imports: $(VENV)/.ready-dev
	$(BIN)/lint-imports

pytest: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -q -n 2 -m "not extra"

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: demo
	$(BIN)/python benchmarks/readme_sample.py

constraints: $(VENV)/.ready-extras
	{ head -2 constraints.txt; $(PIP) freeze --exclude-editable | sed 's/+cpu//' | sort -f; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "castbench needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.ready-extras: $(VENV)/.ready-dev
	$(PIP) install --quiet -c constraints.txt -e '.[dev,kernels,parquet,oracles,reports]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
