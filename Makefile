# A fresh machine needs Python 3.11 or newer and make; everything else is installed into .venv.

PYTHON ?= python3
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
BOOK := .venv-book

# As an address, so that it also stands in what Jupyter prints where there is no browser to open.
FIRST_PAGE := /lab/tree/notebooks/00_start_here.ipynb

# Jupyter does not start as root without this; in a container one usually is root.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# One torch thread: sums are added up in the same order, to the last digit, on every machine; and on
# a busy one no picture waits until a second core is free.
lab test notebooks exercises bench film: export OMP_NUM_THREADS ?= 1

# Over up to four cores. The cells of a notebook need one kernel, so a file is never divided. In the
# order in which they are found, notebooks and browser first: otherwise these, of few tests and
# minutes each, would come last, and one core would wait for the other.
SPREAD := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Where the server's settings are: tools/jupyter_server_config.py says what they are for.
lab: export JUPYTER_CONFIG_PATH := $(CURDIR)/tools$(if $(JUPYTER_CONFIG_PATH),:$(JUPYTER_CONFIG_PATH))

.DEFAULT_GOAL := help
.PHONY: help lab test notebooks exercises bench film book clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  Another Python:    make test PYTHON=python3.12   (after make clean)'
	@echo '  More arguments:    make test ARGS="-k step"      make lab ARGS=--no-browser'
	@echo '  One process:       make test ARGS="-n 0"'

lab: $(VENV)/.package  ## open the course in JupyterLab
	$(BIN)/jupyter lab $(AS_ROOT) --LabApp.default_url=$(FIRST_PAGE) $(ARGS)

test: $(VENV)/.tests  ## lint, then run every test and every notebook
	$(BIN)/ruff check .
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

notebooks: $(VENV)/.package  ## execute the notebooks again, in place
	$(BIN)/python tools/execute_notebooks.py $(ARGS)

exercises: $(VENV)/.package  ## make the exercise notebooks of their solutions, and execute them
	$(BIN)/python tools/make_exercises.py $(ARGS)

bench: $(VENV)/.tests  ## measure what it costs, and how long a hand waits (needs Chromium)
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/browser.py

film: $(VENV)/.tests  ## film the explorer for the README (needs Chromium)
	$(BIN)/python tools/film.py

book: $(BOOK)/.environment  ## build the course as a web site: _build/html/index.html
	$(BOOK)/bin/jupyter-book build . --config book/_config.yml --toc book/_toc.yml -W --keep-going

clean:  ## remove all that make and the tests have made
	rm -rf $(VENV) $(BOOK) _build dist test-results .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -r {} +

# Three stamps: what the course needs takes a minute, the package a few seconds, and what only tests
# need is left out until it is asked for. A change of pins starts from an empty environment, so that
# nothing outlives its line in a requirements.txt.
$(VENV)/.environment: requirements.txt tests/requirements.txt
$(BOOK)/.environment: book/requirements.txt
$(VENV)/.environment $(BOOK)/.environment:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	    "sftviz needs Python 3.11 or newer, and this is " + sys.version.split()[0] + \
	    ": name another one with PYTHON=...")'
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install -r $<
	@touch $@

$(VENV)/.package: $(VENV)/.environment pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.tests: $(VENV)/.package
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	@touch $@
