# EasyQ: `make` lists what there is. Everything works from a fresh clone; what a target needs it sets up itself.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# pytest's processes in `make test` (auto: one a core).
JOBS   ?= auto

export PYTHON VENV JOBS
# The tests and the linters find the programs of the virtual environment by name.
export PATH := $(abspath $(BIN)):$(PATH)

PYTEST  := $(BIN)/pytest
SOURCES := clients services tests bench scripts examples
PRESENT  = $(shell find $(SOURCES) -name '*.py' 2>/dev/null | cut -d/ -f1 | sort -u)

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  make up ARGS='--rest-port 0 --data ./data'   make test-unit ARGS='-k cron -x'   PYTHON=python3.13 make setup"

.PHONY: setup
setup: ## .venv with the project in it, editable (quick where nothing changed)
	@scripts/setup.sh

.PHONY: up
up: setup ## the whole system on this machine (ARGS= for `easyq up`)
	@exec $(BIN)/easyq up $(ARGS)

.PHONY: lock
lock: setup ## write requirements.lock anew from the pyproject files (ARGS=--upgrade for newer versions)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra docs --no-emit-package easyq-client \
	    --no-header --no-annotate $(ARGS) --output-file requirements.lock pyproject.toml clients/python/pyproject.toml
	@sed -i -e '/^#/d' -e '/^$$/d' requirements.lock
	@scripts/setup.sh

# ------------------------------------------------------------------------------------------------------------ protos
.PHONY: proto
proto: setup ## generate the stubs from protos/
	@$(BIN)/python scripts/gen_protos.py

.PHONY: proto-check
proto-check: setup ## fail where the committed stubs are not what protos/ gives
	@$(BIN)/python scripts/gen_protos.py --check

# ------------------------------------------------------------------------------------------------------------ checks
.PHONY: lint
lint: lint-python lint-imports lint-protos lint-docs docs ## ruff, mypy, import-linter, buf, stale stubs and tables, docs

.PHONY: lint-python
lint-python: setup
	$(BIN)/ruff check $(PRESENT)
	$(BIN)/ruff format --check $(PRESENT)
	$(BIN)/mypy $(PRESENT)

.PHONY: lint-imports
lint-imports: setup
	PYTHONPATH=scripts $(BIN)/lint-imports

.PHONY: lint-protos
lint-protos: setup
	@$(BIN)/python scripts/gen_protos.py --check
	@$(BIN)/python scripts/buf_checks.py

.PHONY: lint-docs
lint-docs: setup
	@$(BIN)/python scripts/gen_settings_docs.py --check
	@$(BIN)/python scripts/gen_api_docs.py --check
	@$(BIN)/python scripts/gen_cli_docs.py --check

.PHONY: docs-settings
docs-settings: setup ## write the table of settings from the services' config.py
	@$(BIN)/python scripts/gen_settings_docs.py

.PHONY: docs-reference
docs-reference: setup ## write docs/reference from the protos and from the command line
	@$(BIN)/python scripts/gen_api_docs.py
	@$(BIN)/python scripts/gen_cli_docs.py

# The theme tells at each start that mkdocs 2 will be another program; the lock holds mkdocs 1.
.PHONY: docs
docs: setup ## the documentation as a site in build/docs; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

.PHONY: docs-serve
docs-serve: setup ## the same at http://127.0.0.1:8000, anew at each change (ARGS=--dev-addr=HOST:PORT)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --livereload $(ARGS)

.PHONY: format
format: setup ## let ruff put the code in order
	$(BIN)/ruff check --fix $(PRESENT)
	$(BIN)/ruff format $(PRESENT)

# ------------------------------------------------------------------------------------------------------------- tests
.PHONY: servers
servers: setup ## the real servers that the tests start (as root on Debian, or INSTALL=1: installs them)
	@scripts/servers.sh

.PHONY: test
test: servers ## everything: checks, then unit (with coverage), contract, integration and e2e tests
	@scripts/test.sh $(ARGS)

.PHONY: test-unit
test-unit: setup ## pure code and fakes
	$(PYTEST) tests/unit $(ARGS)

.PHONY: test-contract
test-contract: setup ## each service and adapter against the suite of its port, over real sockets
	$(PYTEST) tests/contract $(ARGS)

.PHONY: test-integration
test-integration: setup ## real servers of other people: Docker Engine, Redis, FerretDB, a registry
	$(PYTEST) tests/integration $(ARGS)

.PHONY: test-e2e
test-e2e: setup ## the system as users run it
	$(PYTEST) tests/e2e $(ARGS)

.PHONY: test-chaos
test-chaos: setup ## the same while things are killed, every fault once (FULL=1: many times, about half an hour)
	$(PYTEST) tests/chaos $(ARGS)

.PHONY: chaos
chaos: setup ## a mixed load while a seeded nemesis breaks things, judged at the end (MINUTES=5 SEED=n STORE=mongo)
	$(BIN)/python -m tests.chaos.nemesis --minutes $(or $(MINUTES),5) --seed $(or $(SEED),0) \
	    --store $(or $(STORE),sqlite) $(ARGS)

.PHONY: fuzz
fuzz: setup ## 20,000 requests made up from the API's document (CASES=n SEED=n PATHS=regex)
	FUZZ_PATHS='$(PATHS)' FUZZ_CASES=$(or $(CASES),20000) FUZZ_SEED=$(or $(SEED),20261126) $(PYTEST) tests/fuzz -s $(ARGS)

.PHONY: bench
bench: setup ## speed, as JSON and as a table
	$(BIN)/python -m bench $(ARGS)

.PHONY: coverage
coverage: setup ## show what the unit tests of the last `make test` covered
	@scripts/coverage.sh

.PHONY: clean
clean: ## remove what the other targets made, .venv too
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov \
	    build dist clients/python/dist examples/go/gen examples/go/run examples/node/node_modules
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
