# Two targets do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
# PYTHON picks an interpreter; PIP_ARGS is handed to pip, for instance to choose an index.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.evenly-setup
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PIP_ARGS ?=

.PHONY: help setup demo test lint types tests prove bench reproduce docs web clean

help:
	@echo "make setup   create $(VENV) with evenly and everything for development"
	@echo "make demo    set up, build the example networks, check them, measure what they make"
	@echo "make test    set up, then lint, types and tests"
	@echo "make prove   run every proof in full (resumable) and write docs/proof.md"
	@echo "make bench   measure and write the benchmark tables (an hour and a half)"
	@echo "make reproduce  run the article's experiments again (resumable, hours) and write docs/reproduction.md"
	@echo "make docs    write the generated pages"
	@echo "make web     build the explorer (needs node 20 and npm)"
	@echo "make clean   remove what was built, except $(VENV)"

setup: $(STAMP)

# The stamp is newer than what decides about the installation, so a second call does nothing.
$(STAMP): pyproject.toml constraints.txt .ci/group.py
	@if [ -z "$(PYTHON)" ]; then echo "error: no Python 3.11 or newer found; install one or give PYTHON=..." >&2; exit 2; fi
	@if [ ! -x $(BIN)/python ]; then echo "creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); fi
	$(BIN)/python .ci/group.py dev > $(VENV)/dev-requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
		-c constraints.txt -r $(VENV)/dev-requirements.txt -e '.[all]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python examples/demo.py

test: lint types tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# One thread in each of the two processes: more of them wait for each other three times as long as they work.
tests: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

prove: $(STAMP)
	$(BIN)/python .ci/prove.py

bench: $(STAMP)
	$(BIN)/python bench/check.py
	$(BIN)/python bench/nn.py
	$(BIN)/python bench/measure.py
	$(BIN)/python bench/audio.py
	$(BIN)/python bench/explore.py
	$(BIN)/python bench/fix.py

reproduce: $(STAMP)
	$(BIN)/evenly reproduce all --scale small --resume --markdown docs/reproduction.md

docs: $(STAMP)
	$(BIN)/python -m evenly.check.rules > docs/rules.md.new
	mv docs/rules.md.new docs/rules.md

web: $(STAMP)
	npm --prefix web ci
	$(BIN)/python web/make_vectors.py
	npm --prefix web run build
	npm --prefix web test

clean:
	rm -rf .prove .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build examples/out examples/*.onnx examples/*.onnx.data
