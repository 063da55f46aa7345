# Each target does its own set-up: `make train` and `make test` work on a fresh machine.
#   PYTHON=python3.12    the interpreter to build .venv with (else a suitable one is looked for)
#   JOBS=1               test processes; two use both cores of a small machine
#   PYTEST_ARGS="-k x"   more options for pytest

VENV := .venv
JOBS ?= 2
PYTEST_ARGS ?=
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow check bench docs clean

help:
	@echo "make train | test | test-slow | check | bench | docs | setup | clean"

# .ready is written last, so an interrupted set-up starts again.
$(READY): requirements.txt pyproject.toml scripts/setup.sh
	PYTHON="$(PYTHON)" ./scripts/setup.sh $(VENV)
	@touch $@

setup: $(READY)

train: $(READY)
	$(VENV)/bin/yxanul run --config_dir configs/embedded --data embedded --out runs/first

test: $(READY)
	$(VENV)/bin/python -m pytest -q -n $(JOBS) $(PYTEST_ARGS)

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -q -m slow $(PYTEST_ARGS)

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(READY)
	$(VENV)/bin/yxanul bench step
	$(VENV)/bin/yxanul bench optimizer
	$(VENV)/bin/yxanul bench tokenizer

# Written beside and moved: a failing generator leaves the page as it was.
docs: $(READY)
	$(VENV)/bin/python -m yxanul.config.reference > docs/config.md.new
	mv docs/config.md.new docs/config.md

# Leaves runs/ alone: trained models are not build products.
clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
