# `make demo` and `make test` need nothing but Python 3.11 or newer: they make .venv on first use.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test lint clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.base

# A real scan of a real manifest: simulated pairs of the test split, which the demo model never saw.
demo: $(VENV)/.base
	$(BIN)/aigid simulate demo/manifest --rows 600 --split test --seed 7
	$(BIN)/aigid scan demo/manifest --out demo/results --keep Label_A --keep Label_B

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# build/ is source: it is never cleaned away.
clean:
	rm -rf $(VENV) demo dist .mypy_cache .ruff_cache .pytest_cache
