# The commands of this project; `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Only `make demo SECONDS=20` sets a length: a shell may export its own SECONDS.
LENGTH := $(if $(filter command,$(firstword $(origin SECONDS))),--seconds $(SECONDS))

.PHONY: help setup demo check test kernels bench clean
.DEFAULT_GOAL := help

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.dev  ## build .venv with everything for work on onhand

demo: .venv/.offline  ## play a real shop live on this machine; SECONDS=20 ends by itself
	$(BIN)/onhand demo $(LENGTH)

check: setup  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: setup  ## check, then every test
	@$(MAKE) --no-print-directory --jobs 2 --output-sync check kernels
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

kernels: setup
	@echo "Compiling kernels (a minute or two, once a version) ..."
	@$(BIN)/python -c 'from onhand.wiring import warm_pages; warm_pages()' & pages=$$!; \
	$(BIN)/python -c 'from onhand.wiring import warm_records; warm_records()' && wait $$pages

bench: setup  ## every benchmark, each against something outside in the same run
	@set -e; for script in $(filter-out bench/make_%,$(wildcard bench/*.py)); do echo "== $$script"; $(BIN)/python $$script; done

clean:  ## remove .venv and caches; a data folder stays
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache bench/out dist
	find src tests bench -name __pycache__ -prune -exec rm -rf {} +

.venv/.dev: pyproject.toml
	@echo "Installing onhand and its tools into .venv (a minute or two) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable '.[dev]'
	@touch .venv/.offline $@

.venv/.offline: pyproject.toml
	@echo "Installing onhand into .venv (about a minute) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable '.[offline]'
	@touch $@
