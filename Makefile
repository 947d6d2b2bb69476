# Two commands for a newcomer: `make run` and `make test`. Everything lives in .venv and .holdfast.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
PARAMS ?=
# Your own modules in this folder are yours to lint.
OURS := holdfast tasks flows tests benchmarks
SLOW ?= tests

.PHONY: run test test-slow check clean

run: $(STAMP)
	$(BIN)/holdfast run $(if $(PARAMS),--params $(PARAMS))

test: $(STAMP) check
	$(BIN)/python -m pytest

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow $(SLOW)

check: $(STAMP)
	$(BIN)/ruff check $(OURS)
	$(BIN)/ruff format --check $(OURS)
	$(BIN)/mypy
	$(BIN)/lint-imports

# torchattacks asks for a requests of 2021, to load models that nobody asks for here: it comes without what it asks for.
# pip compiles bytecode, whatever PYTHONDONTWRITEBYTECODE says for later: without it every import takes seconds.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[dev,postgres]"
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --no-deps torchattacks
	touch $(STAMP)

clean:
	rm -rf .venv .holdfast
