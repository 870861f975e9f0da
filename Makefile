# What people and CI call. `make` alone lists the targets; each of them works on a fresh clone.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDIO_VENV := .studio/venv
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
# `make CONSTRAINTS= serve` takes the newest versions instead, for a Python that these are not built for.
CONSTRAINTS := --constraint constraints.txt

.PHONY: help serve test lint unit studio bench bench-full clean debian-parts

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

serve: $(VENV)/installed  ## Set up .venv and serve on port 9090 (settings: environment variables, see README)
	@$(BIN)/sam3-backend serve

test: $(VENV)/installed-dev $(STUDIO_VENV)/installed debian-parts lint  ## Set up everything and run what CI runs
	@$(BIN)/pytest

unit: $(VENV)/installed-dev  ## Run the fast tests alone: no model, no network
	@$(BIN)/pytest tests/unit

lint: $(VENV)/installed-dev  ## Check style, types and the direction of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

studio: $(VENV)/installed $(STUDIO_VENV)/installed  ## Start a real Label Studio with a sample project, connected
	@$(BIN)/python -m examples.studio

bench: $(VENV)/installed-dev  ## Measure, and write benchmarks/results/
	@$(BIN)/python -m benchmarks

bench-full: $(VENV)/installed-dev  ## Measure the full-size network, random weights (7 GB of scratch, 15 minutes on a CPU)
	@$(BIN)/python -m benchmarks full_size full_size_clicks

clean:  ## Remove what the other targets made, work done in the sample studio too
	rm -rf $(VENV) .studio build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# --- What the targets stand on -------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./scripts/debian_parts python3-venv
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): 5 GB (PyTorch), about two minutes the first time"
	@$(BIN)/pip install $(PIP_FLAGS) $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt $(VENV)/installed
	@echo "Installing what the tests and checks need"
	@$(BIN)/pip install $(PIP_FLAGS) $(CONSTRAINTS) --editable '.[dev]'
	@touch $@

# Label Studio's dependencies contradict ours, so it gets an environment of its own.
$(STUDIO_VENV)/installed: scripts/label-studio.txt
	@echo "Installing Label Studio into $(STUDIO_VENV)"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || ./scripts/debian_parts python3-venv
	@$(PYTHON) -m venv $(STUDIO_VENV)
	@$(STUDIO_VENV)/bin/pip install $(PIP_FLAGS) --requirement scripts/label-studio.txt
	@touch $@

debian-parts:
	@./scripts/debian_parts redis-server chromium openssl
