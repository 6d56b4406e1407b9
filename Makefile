# The commands of the README. Everything they make lies inside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait for processes, jobs and walltimes: more of them at once than there are processors.
PROCESSES ?= 3
SCRATCH := $(CURDIR)/$(VENV)/scratch

# Programs used below keep settings, caches and temporary files in the home directory or in /tmp: not here.
export DASK_CONFIG := $(SCRATCH)/dask
export MPLCONFIGDIR := $(SCRATCH)/matplotlib
export SCIKIT_LEARN_DATA := $(SCRATCH)/scikit_learn_data
export PIP_CACHE_DIR := $(SCRATCH)/pip
export XDG_CACHE_HOME := $(SCRATCH)/cache
export XDG_CONFIG_HOME := $(SCRATCH)/config
export TMPDIR := $(SCRATCH)/tmp
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLBACKEND := Agg

.PHONY: demo test docs
.DEFAULT_GOAL := demo

demo: $(VENV)/demo.stamp
	$(BIN)/python examples/mo_hyperband_mnist.py --log-dir runs/mnist

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html -d $(SCRATCH)/doctrees docs build/docs
	@echo "The site begins at build/docs/index.html"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dhpo needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml | $(VENV)/bin/python
	@mkdir -p $(TMPDIR)
	$(BIN)/python -m pip install --quiet --editable '.[plots]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml | $(VENV)/bin/python
	@mkdir -p $(TMPDIR)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/docs.stamp: pyproject.toml | $(VENV)/bin/python
	@mkdir -p $(TMPDIR)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@
