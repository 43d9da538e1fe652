# Everything here goes through `make setup`, which needs Python 3.11 to 3.14 and a package registry, nothing else.
#   make console   talk to the agent        make test    run the tests
#   make talk      talk in the browser      make test-browser  the page in Chromium
#   make dev       worker and talk page
#   make check     linters and types        make lock    resolve the dependencies anew
SHELL := /bin/sh
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS  ?=

# Compiled modules are kept: without them each start of the program takes three seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup voice talk console test check fix docs lock wheel faults test-wheel test-atlas atlas-address test-e2e livekit-server test-browser browser-tools pictures dev clean bench bench-quick soak bench-memory bench-voice bench-rooms
.DEFAULT_GOAL := setup

setup: $(STAMP)

# The first Python that fits; `python3` first, because it is the one the machine's owner chose.
FIND_PYTHON = for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && { echo "$$p"; break; }; done

# Importing all that the program uses compiles it, so that no later start has to.
IMPORT_ALL = import importlib, pkgutil, lkmongo, bm25s, livekit.agents.testing, markdown_it, numpy, rich.table, wordllama; \
	[importlib.import_module(m.name) for m in pkgutil.walk_packages(lkmongo.__path__, 'lkmongo.') if m.name != 'lkmongo.__main__']

# What hears and speaks on this machine has wheels for some systems only and no source, so it is installed by a lock of its
# own, and set-up goes on without it.
WHY_NO_VOICE = from lkmongo.speech.local import why_not_on_this_platform as why; print(why() or '')
IMPORT_VOICE = import hibari, moonshine_voice
VOICE = --quiet --python $(BIN)/python --require-hashes --no-deps --requirement requirements-voice.lock

$(STAMP): requirements.lock requirements-voice.lock pyproject.toml
	@set -e; \
	python="$$($(FIND_PYTHON))"; \
	[ -n "$$python" ] || { echo "error: there is no Python 3.11 to 3.14 here" >&2; echo "  try: install one, or make setup PYTHON=/path/to/python" >&2; exit 2; }; \
	echo "Setting up $(VENV) with $$("$$python" --version) from requirements.lock: once, a few minutes" >&2; \
	uv="$$(command -v uv || true)"; \
	if [ ! -x $(BIN)/python ]; then \
		if [ -n "$$uv" ]; then "$$uv" venv --quiet --python "$$python" $(VENV); else "$$python" -m venv $(VENV); fi; \
	fi; \
	if [ -z "$$uv" ]; then \
		[ -x $(BIN)/uv ] || { echo "Getting uv into $(VENV)" >&2; \
			$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
			$(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }; \
		uv=$(BIN)/uv; \
	fi; \
	"$$uv" pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock; \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	why="$$($(BIN)/python -c "$(WHY_NO_VOICE)")"; \
	if [ -z "$$why" ] && ! { "$$uv" pip install $(VOICE) && $(BIN)/python -c "$(IMPORT_VOICE)"; } 2>/dev/null; then \
		"$$uv" pip uninstall --quiet --python $(BIN)/python hibari-tts moonshine-voice 2>/dev/null || true; \
		why="its packages could not be installed"; \
	fi; \
	[ -z "$$why" ] || echo "The agent will not hear and speak by this machine alone: $$why (make voice shows the whole error)" >&2; \
	$(BIN)/python -c "$(IMPORT_ALL)"; \
	touch $(STAMP); \
	echo "Ready: $(BIN)/lkmongo" >&2

# The same once more, with the whole error.
voice: $(STAMP)
	@uv="$$(command -v uv || echo $(BIN)/uv)"; "$$uv" pip install $(VOICE)
	@$(BIN)/python -c "$(IMPORT_VOICE)"

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

# Help texts, settings and conversations in README.md, docs/ and .env.example come from the program itself.
docs: $(STAMP)
	@$(BIN)/python -m docs.generate

lock: $(STAMP)
	@uv="$$(command -v uv || echo $(BIN)/uv)"; compile() { "$$uv" pip compile --universal --generate-hashes --python-version 3.11 \
		--no-header --no-emit-index-url --quiet "$$@"; }; \
	compile pyproject.toml --upgrade --output-file requirements.lock $$($(BIN)/python -c "import tomllib; \
		print(*('--extra ' + name for name in tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'] if name != 'voice'))"); \
	compile pyproject.toml --upgrade --extra voice --constraints requirements.lock --no-annotate --output-file requirements-voice.lock \
		$$(sed -n 's/^\([A-Za-z0-9._-]*\).*==.*/--no-emit-package \1/p' requirements.lock); \
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], 'uv', sep='\n')" \
		| "$$uv" pip compile - --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --upgrade --quiet --output-file requirements-build.lock

# What a release consists of, into dist/.
wheel: $(STAMP)
	@uv="$$(command -v uv || echo $(BIN)/uv)"; "$$uv" build --quiet --build-constraints requirements-build.lock --require-hashes --out-dir dist

# The built wheel, installed where there is no checkout, does the same as the checkout.
test-wheel: $(STAMP)
	@sh tests/wheel.sh

# The search suite against Atlas or Atlas Local: docs/atlas.md, "Test against Atlas". One process, for a small cluster holds
# three search indexes, and each process makes three.
test-atlas: atlas-address $(STAMP)
	@$(BIN)/python -m pytest -q --timeout 900 tests/search/test_search_suite.py -k atlas-real $(ARGS)

atlas-address:
	@[ -n "$$LKMONGO_TEST_ATLAS_URI" ] || { \
		echo "error: LKMONGO_TEST_ATLAS_URI is not set: there is no Atlas to test against" >&2; \
		echo "  try: start Atlas Local (see docs/atlas.md), then export LKMONGO_TEST_ATLAS_URI='mongodb://localhost:27017/?directConnection=true'" >&2; \
		exit 2; }

# The long form of tests/faults: hundreds of calls with a fault of MongoDB each, and consoles that are killed.
faults: $(STAMP)
	@$(BIN)/python -m tests.faults.run $(ARGS)

# Two hours of calls through a real LiveKit server on this machine, a fault every minute: whether anything grows or is lost.
soak: livekit-server $(STAMP)
	@$(BIN)/python -m benchmarks.soak $(ARGS)

# How fast, beside others: forty minutes on two cores; writes benchmarks/results.json and docs/performance.md.
bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

# Round trips and bytes of each piece of work, compared with benchmarks/budget.json: ten seconds, more on a busy machine.
bench-quick: $(STAMP)
	@echo "Counting round trips and bytes, to compare with benchmarks/budget.json" >&2
	@$(BIN)/python -m benchmarks.quick $(ARGS)

# What is found again of what people told, beside mem0 and recall-livekit in environments of their own: five minutes on two
# cores; writes benchmarks/memory_results.json and docs/memory.md.
bench-memory: $(STAMP)
	@$(BIN)/python -m benchmarks.memory $(ARGS)

# How quick turns feel, aloud with local speech, and who is cut off: eight minutes on two cores, alone on the machine; writes
# benchmarks/voice_results.json and docs/performance.md.
bench-voice: $(STAMP)
	@$(BIN)/python -m benchmarks.voice $(ARGS)

# How many calls this machine carries through a real LiveKit server, beside a worker of the SDK alone: half an hour, alone on
# the machine; writes benchmarks/rooms_results.json and docs/scale.md.
bench-rooms: livekit-server $(STAMP)
	@$(BIN)/python -m benchmarks.rooms $(ARGS)

# Whole calls through a real LiveKit server on this machine, which listens on 127.0.0.1 alone.
test-e2e: livekit-server $(STAMP)
	@$(BIN)/python -m pytest -q --timeout 300 tests/e2e $(ARGS)

livekit-server:
	@command -v livekit-server >/dev/null || { \
		echo "error: livekit-server is not on PATH: there is no LiveKit server to test through" >&2; \
		echo "  try: install it (https://docs.livekit.io/transport/self-hosting/local/), then make $(MAKECMDGOALS) again" >&2; \
		exit 2; }

# The talk page in a real Chromium, with whole calls where livekit-server is on PATH. What drives the browser goes into
# a folder of its own, not into the virtual environment.
BROWSER_TOOLS ?= .browser

test-browser: browser-tools $(STAMP)
	@command -v livekit-server >/dev/null || echo "livekit-server is not on PATH: the page is tested without calls" >&2
	@BROWSER_TOOLS="$$(cd $(BROWSER_TOOLS) && pwd)"; export BROWSER_TOOLS; PYTHONPATH="$$BROWSER_TOOLS/python" \
		$(BIN)/python -m pytest -q --timeout 300 tests/browser $(ARGS)

# The page in its states, for the documents; whoever changes the page looks at them.
pictures: browser-tools $(STAMP)
	@BROWSER_TOOLS="$$(cd $(BROWSER_TOOLS) && pwd)"; export BROWSER_TOOLS; PYTHONPATH="$$BROWSER_TOOLS/python" \
		$(BIN)/python -m pytest -q tests/browser/pictures.py $(ARGS)

browser-tools: $(STAMP)
	@for name in chromium chromium-browser google-chrome chrome; do command -v $$name >/dev/null && exit 0; done; \
		echo "error: there is no Chromium to test in" >&2; \
		echo "  try: install it (Debian: apt-get install chromium), then make test-browser again" >&2; exit 2
	@command -v npm >/dev/null || { \
		echo "error: npm is not here: it brings LiveKit's browser client and the accessibility checker" >&2; \
		echo "  try: install Node.js, then make test-browser again" >&2; exit 2; }
	@mkdir -p $(BROWSER_TOOLS)
	@[ -e $(BROWSER_TOOLS)/node_modules/axe-core ] || { cp tests/browser/package.json $(BROWSER_TOOLS)/ && \
		npm install --prefix $(BROWSER_TOOLS) --no-package-lock --ignore-scripts --silent; }
	@[ -e $(BROWSER_TOOLS)/python/PIL ] || { \
		uv="$$(command -v uv || echo $(BIN)/uv)"; set -- --quiet --target $(BROWSER_TOOLS)/python -r tests/browser/requirements.txt; \
		if [ -x "$$uv" ]; then "$$uv" pip install --python $(BIN)/python "$$@"; \
		else python3 -m pip install --disable-pip-version-check "$$@"; fi; }

# A worker and the talk page side by side, against the LiveKit server that .env.local or the environment names.
dev: $(STAMP)
	@$(BIN)/lkmongo agent run --dev --demo & worker=$$!; trap 'kill $$worker 2>/dev/null; wait $$worker' EXIT; trap 'exit 130' INT; \
		trap 'exit 143' TERM; $(BIN)/lkmongo web --dev $(ARGS)

# Aloud, with nothing but this machine: a LiveKit server where none is named, the worker and the talk page, until Ctrl-C.
talk: $(STAMP)
	@$(BIN)/python -m lkmongo.cli.talk $(ARGS)

clean:
	rm -rf .browser $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
