# Twinhull's commands. `make help` lists them; README.md needs two: `make up` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
BASE_PORT ?= 8080
# How pip and pytest are called; set on the command line to change them, as in `make test PYTEST_ARGS="-x -k tags"`.
PIP_ARGS ?= --quiet --disable-pip-version-check
PYTEST_ARGS ?=
# What `make up` and `make install` bring is all a node needs; the second stamp adds what tests and checks need.
RUNTIME := $(VENV)/.runtime
TEST := $(VENV)/.test

.PHONY: help
help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

.PHONY: install
install: $(RUNTIME) ## Make .venv with .venv/bin/twinhull in it
	@echo 'ready: $(BIN)/twinhull --help'

.PHONY: up
up: $(RUNTIME) ## Start two masters and the gateway, ready to use; Ctrl-C stops them. BASE_PORT=8080, DATA_DIR=…
	@exec $(BIN)/twinhull up --base-port $(BASE_PORT) $(if $(DATA_DIR),--data-dir '$(DATA_DIR)')

.PHONY: test
test: $(TEST) ## Install all that tests need, real clients included, and run every check and every test
	@# Neither waits for the other: most of their time is one type checker's, and the network's.
	@$(MAKE) -j2 static clients
	$(BIN)/pytest $(PYTEST_ARGS)

.PHONY: check
check: static ## Run what must hold before a commit: format, lint, types, floors, tidy, unit and contract tests
	$(BIN)/pytest $(wildcard tests/unit tests/contract) $(PYTEST_ARGS)

# Apart, so that `make -k check` reports on all of them.
.PHONY: static format lint types floors tidy
static: format lint types floors tidy
format: $(TEST)
	$(BIN)/ruff format --check
lint: $(TEST)
	$(BIN)/ruff check
types: $(TEST)
	$(BIN)/mypy
floors: $(TEST)
	$(BIN)/lint-imports --no-logo
tidy: $(TEST)
	$(BIN)/python -m tools.tidy

.PHONY: fix
fix: $(TEST) ## Format, mend what the linter can mend, and lower the size ratchet where code has shrunk
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python -m tools.tidy --tighten

.PHONY: clients
clients: $(TEST) ## Install the real clients and servers that tests drive (as root, from Debian's packages and Go's)
	$(BIN)/python tools/install_clients.py

.PHONY: bench
bench: $(TEST) clients ## Measure throughput, latency and CPU side by side with Debian's docker-registry
	$(BIN)/python -m tools.bench

.PHONY: newcomer
newcomer: $(TEST) ## Let an empty node join one with ARTIFACTS=100000: prints how long it takes, and memory
	$(BIN)/python -m tools.newcomer --artifacts $(or $(ARTIFACTS),100000)

.PHONY: faults
faults: $(TEST) clients ## Play all fault scenarios on real nodes (as root): ONLY=names SEED=word MINUTES=10
	$(BIN)/python -m tests.fault.scenarios $(if $(ONLY),--only '$(ONLY)') $(if $(SEED),--seed '$(SEED)') $(if $(MINUTES),--minutes '$(MINUTES)')

.PHONY: simulate
simulate: $(TEST) ## Simulate clusters in trouble: SEEDS=2000 of them, or one of them again, told at length: SEED=123
	@$(BIN)/python -m tools.simulate $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200)) $(if $(MUTANT),--mutant $(MUTANT))

.PHONY: simulate-mutants
simulate-mutants: $(TEST) ## See that the simulation finds what is wrong in each of a dozen broken versions of the program
	@$(BIN)/python -m tools.simulate --mutants

.PHONY: mutants
mutants: $(TEST) ## Take one rule of merging out at a time, and hold that the tests notice: ONLY="words of a name"
	$(BIN)/python -m tools.mutants $(ONLY)

# A pinned version stays as it is unless UV_ARGS=--upgrade (or --upgrade-package NAME) asks for newer ones.
.PHONY: requirements
requirements: ## Pin requirements/*.in with hashes (needs uv)
	@for name in build runtime test clients; do \
	  uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal \
	    --python-version 3.11 $(UV_ARGS) --output-file requirements/$$name.txt requirements/$$name.in; \
	done

.PHONY: clean
clean: ## Remove the environment and every cache; data directories stay
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build

$(BIN)/python:
	@for python in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; exec "$$python" -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo 'error: no Python >= 3.11 that can make a virtual environment; install python3 and python3-venv, or name one: make install PYTHON=…' >&2; \
	exit 1

# --no-deps: every dependency is in the hashed file, so nothing else may come along.
$(RUNTIME): requirements/build.txt requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo 'installing what a node needs'
	@$(BIN)/python -m pip install $(PIP_ARGS) --require-hashes --no-deps -r requirements/build.txt -r requirements/runtime.txt
	@$(BIN)/python -m pip install $(PIP_ARGS) --no-deps --no-build-isolation --editable .
	@touch $@

$(TEST): $(RUNTIME) requirements/test.txt
	@echo 'installing what tests and checks need'
	@$(BIN)/python -m pip install $(PIP_ARGS) --require-hashes --no-deps -r requirements/test.txt
	@touch $@
