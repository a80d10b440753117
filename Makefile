# Everything a checkout needs; each target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: serve setup test test-ray check format bench bench-one guard-record clean

serve: $(STAMP)  ## install, then serve the embedded models on 127.0.0.1:8000
	$(BIN)/calotype serve

setup: $(DEV_STAMP)  ## everything to work on Calotype: .venv/bin/calotype and the tools

test: $(DEV_STAMP)  ## install what the tests need and run them all
	$(BIN)/python tests/compat/prepare.py
	$(BIN)/python -m pytest $(ARGS)

# Of the wire tests, those that need few servers: a start of Ray takes ten seconds.
RAY_WIRE := answer body fidelity lookup mask negotiation
test-ray: $(DEV_STAMP)  ## the tests of real clients and of the wire, unchanged, against serve --ray
	$(BIN)/python tests/compat/prepare.py
	$(BIN)/python -m pytest tests/compat --serve-with=--ray
	$(BIN)/python -m pytest $(RAY_WIRE:%=tests/api/test_%.py) --live=--ray

check: $(DEV_STAMP)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check src tests benchmarks training
	$(BIN)/ruff check src tests benchmarks training
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)
	$(BIN)/ruff format src tests benchmarks training
	$(BIN)/ruff check --fix src tests benchmarks training

bench: $(DEV_STAMP)  ## measure against the peers, side by side, for a quarter of an hour
	$(BIN)/python benchmarks/run.py

bench-one: $(DEV_STAMP)  ## one benchmark: make bench-one NAME=page
	$(BIN)/python benchmarks/run.py $(if $(NAME),$(NAME),$(error which one? make bench-one NAME=page))

guard-record: $(DEV_STAMP)  ## count the instructions that tests/guard guards, and write them down
	PYTHONPATH=tests $(BIN)/python -m guard.record $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(DEV_STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(STAMP) $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
