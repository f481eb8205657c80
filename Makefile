# Everything goes through here, on a desk and in CI. A second run of any target starts in seconds.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DOCS := $(VENV)/.ready-docs

.PHONY: demo examples test test-full test-pythons coverage lint package bench bench-peers docs clean

demo: $(READY)
	$(BIN)/python examples/01_pipeline.py

# The demo is the first of them. Each says what it shows, and fails when that is not so.
examples: demo
	@set -e; for example in $(filter-out examples/01_%,$(sort $(wildcard examples/[0-9][0-9]_*.py))); do \
	    printf '\n== %s\n' $$example; $(BIN)/python $$example; \
	done

# More workers than cores: most tests wait for processes and servers of their own.
test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-full: $(READY)
	KACHERY_TEST_FULL=1 $(BIN)/python -m pytest

# What may differ between Pythons, on the others that are supported and on this machine.
test-pythons: $(READY)
	$(BIN)/python tests/pythons.py

# All tests once more, slower: which lines and branches ran, also in child processes. build/coverage/html has it in full.
coverage: $(READY)
	rm -rf build/coverage
	$(BIN)/python -m coverage run -m pytest -n 3 --dist worksteal
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage html -q
	$(BIN)/python -m coverage report

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

# dist/ gets the wheel and the archive of the sources; both are installed in new environments and tried out.
package: $(READY)
	$(BIN)/python tests/packaging/check_install.py

bench: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/calls.py
	$(BIN)/python benchmarks/arguments.py
	$(BIN)/python benchmarks/store.py

# The libraries go into environments of their own; it takes the better part of an hour.
bench-peers: $(READY)
	$(BIN)/python benchmarks/peers.py --into docs/performance.md --figure benchmarks/peers.svg

# Warnings are errors, and so is a tutorial that does not run. The site is build/docs/index.html.
docs: $(READY_DOCS)
	$(BIN)/python -m sphinx -q -W -E -b html -d build/doctrees docs build/docs

$(READY_DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $(READY_DOCS)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[lint,test]'
	touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info examples/output
