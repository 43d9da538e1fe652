# Everything here goes through `make setup`, which needs Python 3.11 to 3.14 and a package registry, nothing else.
#   make console   talk to the agent        make test    run the tests
#   make check     linters and types        make lock    resolve the dependencies anew
SHELL := /bin/sh
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS  ?=

.PHONY: setup console test check fix docs lock wheel test-wheel test-atlas atlas-address clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

# The first Python that fits; `python3` first, because it is the one the machine's owner chose.
FIND_PYTHON = for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && { echo "$$p"; break; }; done

$(STAMP): requirements.lock pyproject.toml
	@set -e; \
	python="$$($(FIND_PYTHON))"; \
	[ -n "$$python" ] || { echo "error: there is no Python 3.11 to 3.14 here" >&2; echo "  try: install one, or make setup PYTHON=/path/to/python" >&2; exit 2; }; \
	echo "Setting up $(VENV) with $$("$$python" --version) from requirements.lock: once, a few minutes" >&2; \
	uv="$$(command -v uv || true)"; \
	if [ ! -x $(BIN)/python ]; then \
		if [ -n "$$uv" ]; then "$$uv" venv --quiet --python "$$python" $(VENV); else "$$python" -m venv $(VENV); fi; \
	fi; \
	if [ -z "$$uv" ]; then \
		[ -x $(BIN)/uv ] || { echo "Getting uv into $(VENV)" >&2; $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }; \
		uv=$(BIN)/uv; \
	fi; \
	"$$uv" pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock; \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	touch $(STAMP); \
	echo "Ready: $(BIN)/lkmongo" >&2

console: $(STAMP)
	@$(BIN)/lkmongo agent console $(ARGS)

test: $(STAMP)
	@echo "Running the tests against a mongod of their own" >&2
	@$(BIN)/python -m pytest -q -n auto --dist worksteal $(ARGS)

check: $(STAMP)
	@echo "Checking style and types" >&2
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

fix: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The help texts and tables in README.md and .env.example are made from the program.
docs: $(STAMP)
	@$(BIN)/python -m docs.generate

lock: $(STAMP)
	@uv="$$(command -v uv || echo $(BIN)/uv)"; "$$uv" pip compile pyproject.toml --universal --generate-hashes \
		--all-extras --python-version 3.11 --no-header --no-emit-index-url --upgrade --quiet --output-file requirements.lock

# The built wheel, installed where there is no checkout, does the same as the checkout.
test-wheel: $(STAMP)
	@sh tests/wheel.sh

# The search suite against Atlas or Atlas Local: README, "Against Atlas itself". One process, for a small cluster holds
# three search indexes, and each process makes three.
test-atlas: atlas-address $(STAMP)
	@$(BIN)/python -m pytest -q --timeout 900 tests/contract/test_search_suite.py -k atlas-real $(ARGS)

atlas-address:
	@[ -n "$$LKMONGO_TEST_ATLAS_URI" ] || { \
		echo "error: LKMONGO_TEST_ATLAS_URI is not set: there is no Atlas to test against" >&2; \
		echo "  try: start Atlas Local (see README), then export LKMONGO_TEST_ATLAS_URI='mongodb://localhost:27017/?directConnection=true'" >&2; \
		exit 2; }

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
