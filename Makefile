# Two commands for everyone: `make demo` and `make test`. Both make .venv first, with any Python from 3.11 on.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { command -v $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
# Each takes up to 1.5 GB. A fifth of the time a test waits, for a disk or a process: three keep two cores busy.
TEST_PROCESSES ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
# Modules are compiled when they are first imported: most of torch never is. Where bytecode may not be written, as in
# many container images, each process would compile torch again, which takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = $(BIN)/python -m pip install --no-compile --editable

.PHONY: help demo test tests check faults install lint style types docs bench clean

help:
	@echo "make demo   install, prepare the embedded dataset, train a spiking network on it, show the report"
	@echo "make test   install what tests need, check format, lint, types and import borders, run all tests"
	@echo "make check  format, lint, types, import borders, and the tests of what changed: the inner loop"
	@echo "make faults inject faults into whole commands; FAULTS='--tries 100 --seed 1' for more; flip the"
	@echo "            bits of caches, BITS='--every 100' for fewer; damage recordings, FUZZ='--share 0.01' for fewer"
	@echo "make bench  install tonic, measure tmkt beside it, spikingjelly, Pillow and a pass in C (half an hour)"
	@echo "make docs   build the documentation into docs/_build/html"
	@echo "make clean  remove .venv and what tools leave behind; caches/ and runs/ stay"

demo: install
	@$(BIN)/tmkt-data prepare digits
	@$(BIN)/tmkt-train recipe scnn_digits
	@echo "the commands are in $(BIN); to type them as they are printed: . $(BIN)/activate"

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing tmkt and what it needs into $(VENV) (torch is large: minutes on a slow line)"
	@$(INSTALL) '.[train]'
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }

# With what training needs, so that pip looks for it once.
$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing tmkt, what it needs and what its tests need into $(VENV) (torch is large: minutes on a slow line)"
	@$(INSTALL) '.[test]'
	@touch $(VENV)/installed $@

$(VENV)/installed-docs: $(VENV)/installed
	@$(INSTALL) '.[docs]'
	@touch $@

lint: style types

style: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/installed-test
	$(BIN)/mypy

# Types are checked beside the first tests, so that no core waits for them.
test: style
	@$(MAKE) --no-print-directory -j 2 types tests

tests: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

check: lint
	@changed="$$($(BIN)/python tests/tools/tests_of_change.py $(SINCE))"; \
	if [ -n "$$changed" ]; then $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist worksteal --durations=0 $$changed; \
	else echo "no tests belong to what changed since the last commit; make check SINCE=main compares with a branch"; fi

faults: $(VENV)/installed-test
	$(BIN)/python -m tests.faults --json faults.json $(FAULTS)
	$(BIN)/python -m tests.faults.small_disk --json faults.json
	$(BIN)/python -m tests.faults.readers --json readers.json
	$(BIN)/python -m tests.faults.metadata_bits --json metadata_bits.json $(BITS)
	$(BIN)/python tests/tools/fuzz_campaign.py --json fuzz.json $(FUZZ)

$(VENV)/installed-bench: $(VENV)/installed
	@$(INSTALL) '.[bench]'
	@touch $@

bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/run.py --json benchmarks.json
	@echo "all figures, with machine and versions: benchmarks.json"

docs: $(VENV)/installed-docs
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
