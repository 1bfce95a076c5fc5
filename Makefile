# Hooke. `make demo` sets everything up and traces a prompt; `make test` runs the tests that a change needs; `make help` lists the rest.
#   PYTHON=python3.12   another Python (3.11 or newer)
#   TORCH=any           without an NVIDIA GPU: take the standard build of torch if the CPU build cannot be had

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
ANY_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,"$(PYTHON)")
PROMPT := When Mary and John went to the store, John gave a drink to
export TORCH

.DEFAULT_GOAL := help
.NOTPARALLEL:
STORIES = capital names copy years

.PHONY: help demo install test test-all test-slow test-newest lint types format web pictures bench clean check-python

help:
	@echo "make demo    set up .venv, fetch the small model, trace a sample prompt (says first what it downloads)"
	@echo "make test    the tests that a change needs    make test-all  all of them: also trained models, every example"
	@echo "make test-newest  with the newest versions of what Hooke needs"
	@echo "make lint    ruff: style and format        make types   mypy"
	@echo "make format  let ruff rewrite the files    make bench   the measured comparisons"
	@echo "make web     build the page from web/ (needs Node 20 or newer)"
	@echo "make pictures take the screenshots of the README again (needs Chromium)"
	@echo "make install only set up .venv             make clean   remove .venv and caches"

demo: check-python
	@$(ANY_PYTHON) scripts/install_torch.py --plan
	@$(MAKE) --no-print-directory .venv/.installed
	@echo; echo '$$ hooke trace "$(PROMPT)" --out traces/demo.json --html traces/demo.html'; echo
	@$(BIN)/hooke trace "$(PROMPT)" --out traces/demo.json --html traces/demo.html
	@echo
	@echo "Where to go next:"
	@echo "  your own prompt    $(BIN)/hooke trace \"The capital of France is\""
	@echo "  why A and not B    $(BIN)/hooke trace \"The capital of France is\" --contrast \" Rome\""
	@echo "  layer by layer     $(BIN)/hooke lens \"The capital of France is\""
	@echo "  the page, to mail  traces/demo.html"
	@echo "  all in the browser $(BIN)/hooke app"
	@echo "  from Python        docs/python.md; every verb has a page in docs/"
	@echo "  what to believe    README.md, \"What it can and cannot tell you\""
	@echo
	@echo "Open the page, change the nodes, see what the model then says:"
	@echo "  $(BIN)/hooke open traces/demo.json"

install: .venv/.installed

# One process a core with one thread each: two threads in one process save an eighth of the time, two processes half.
# Slow tests (tests/conftest.py says which) train models, or do much with the default one: they run with test-all.
test: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m slow

# In an environment of its own, without constraints.txt. TESTS: only these.
test-newest: check-python
	@$(ANY_PYTHON) scripts/test_newest.py $(TESTS)

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-dev
	$(BIN)/mypy

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The page: types from the schema, checks, tests, the bundle. What it writes is committed, so that nobody else needs Node.
web: .venv/.installed-dev
	$(BIN)/python scripts/page_schema.py > web/schema.json
	cd web && npm ci && npm run types && npm run check && npm test && npm run build
	$(BIN)/python scripts/page_build.py

pictures: .venv/.installed-dev
	$(BIN)/python -m pytest tests/viewer/test_page.py -k "pictures_of"
	mkdir -p docs/images && cp $(addprefix build/screenshots/,graph-light.png plain-dark.png $(STORIES:%=story-%.png)) docs/images/

bench: .venv/.installed
	@set -e; for file in $(sort $(wildcard bench/[a-z]*.py)); do \
		echo "== $$file"; $(BIN)/python $$file; done

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Only asked while there is no environment: an existing one keeps its Python.
check-python:
	@if [ ! -x $(BIN)/python ]; then \
		command -v "$(PYTHON)" >/dev/null 2>&1 || { \
			echo "There is no $(PYTHON). Hooke needs Python 3.11 or newer: install it, or say which one to use," >&2; \
			echo "for example: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; exit 1; }; \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1), and Hooke needs Python 3.11 or newer. Say which one to use," >&2; \
			echo "for example: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; exit 1; }; \
	fi

$(BIN)/python: | check-python
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# The two stamps: built once, and again when the requirements change.
.venv/.installed: pyproject.toml constraints.txt scripts/install_torch.py | $(BIN)/python
	@$(PIP) "pip>=24"
	@$(BIN)/python scripts/install_torch.py
	@echo "Installing the other packages …"
	@$(PIP) -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "Installing what the tests need …"
	@$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@
