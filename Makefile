# `make demo` and `make test` need nothing but Python 3.11 or newer: they make .venv on first use.
PYTHON ?= python3.11
VENV ?= .venv
# Per cent of the branches and lines of aigid/.
COVERAGE_FLOOR := 95
BIN := $(VENV)/bin
DEMO_NOTICE := the demo model was trained on simulated images: it shows that every step works, and is not for real decisions
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo demo-model test soak coverage references docs lint clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[report]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.demo

# A real scan of a real manifest: simulated pairs of the test split, which the demo model never saw.
# The report is a page to open; its last line has the rows that are right, by the labels.
demo: $(VENV)/.demo
	$(BIN)/aigid simulate demo/manifest --rows 600 --split test --seed 7
	$(BIN)/aigid scan demo/manifest --out demo/results --keep Label_A --keep Label_B
	$(BIN)/aigid report demo/results --label-column Label_A

# How the demo model was made, from nothing; its model card, build/demo/README.md, has the figures.
demo-model: $(VENV)/.dev
	$(BIN)/aigid simulate runs/data/train --rows 9600 --split train --seed 1
	$(BIN)/aigid simulate runs/data/simulated-validation --rows 3600 --split validation --seed 1
	$(BIN)/aigid simulate runs/data/test --rows 3600 --split test --seed 1
	$(BIN)/aigid train runs/data/train --validation runs/data/simulated-validation --out runs/demo --name aigid-demo \
	  --text-encoder build/demo/text_encoder.json --image-encoder build/demo/image_encoder.json \
	  --tokenizer model_repository/tokenizer.json --fusion-hidden 128 --recipe recommended \
	  --epochs 12 --batch-size 64 --learning-rate 1e-3 --seed 1 --notice "$(DEMO_NOTICE)"
	$(BIN)/python build/checkpoint_to_half.py runs/demo/best build/demo/checkpoint
	ln -sf ../../../model_repository/tokenizer.json build/demo/checkpoint/tokenizer.json
	$(BIN)/aigid build build/demo/checkpoint model_repository --calibration runs/data/train \
	  --validation runs/data/simulated-validation --precision int8 --precision fp16
	$(BIN)/python build/prune_versions.py model_repository --keep 1
	$(BIN)/aigid evaluate runs/data/test --model model_repository --out build/demo/evaluation

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos

# One test process for each core. A file stays in one process, for its tests share servers and
# clusters; the slow files of tests/integration come first.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev
	$(PYTEST)

# The long forms of tests: an hour and more.
soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak

coverage: $(VENV)/.dev
	$(PYTEST) --cov --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR)


# What tests compare with, made anew: look at the difference before you commit it.
references: $(VENV)/.dev
	$(BIN)/python tests/references/make.py
	$(BIN)/python tests/references/simulated_rows.py

docs: $(VENV)/.dev
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_python.py

# build/ is source: it is never cleaned away.
clean:
	rm -rf $(VENV) demo dist .mypy_cache .ruff_cache .pytest_cache
