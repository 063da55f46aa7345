# Each target does its own set-up: `make train` and `make test` work on a fresh machine.
#   PYTHON=python3.12    the interpreter to build .venv with (else a suitable one is looked for)
#   JOBS=1               test processes; two use both cores of a small machine
#   PYTEST_ARGS="-k x"   more options for pytest
#   FUZZ_SECONDS=600     how long `make fuzz` tries each reader of outside bytes

VENV := .venv
JOBS ?= 2
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 600
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow faults fuzz check bench docs clean

help:
	@echo "make train | test | test-slow | faults | fuzz | check | bench | docs | setup | clean"

$(READY): requirements.txt pyproject.toml scripts/setup.sh
	PYTHON="$(PYTHON)" ./scripts/setup.sh $(VENV)

setup: $(READY)

train: $(READY)
	$(VENV)/bin/yxanul run --config_dir configs/embedded --data embedded --out runs/first

test: $(READY)
	$(VENV)/bin/python -m pytest -q -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -q -n $(JOBS) --dist worksteal -m slow $(PYTEST_ARGS)

# Every row of docs/reliability.md, the slow ones too; about ten minutes on two cores.
faults: $(READY)
	$(VENV)/bin/python -m pytest -q -n $(JOBS) -m fault $(PYTEST_ARGS)

# Not in requirements.txt: nothing else needs atheris. What it finds lies in .fuzz/crashes.
fuzz: $(READY)
	$(VENV)/bin/python -c "import atheris" 2>/dev/null || $(VENV)/bin/pip install -q atheris==3.0.0
	$(VENV)/bin/python -m tests.fuzz.campaign --seconds $(FUZZ_SECONDS)

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
	rm -rf $(VENV) $(VENV).lock build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
