# The commands: demo, test, test-plugins, sim, mutants, faults, chaos, soak, fuzz, check, bench. Each does its own set-up on a machine with Python 3.11+, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EMULATORS := .venv-emulators
BENCH ?= full
TESTS ?= tests
PLUGINS ?= plugins
CHAOS ?= --store sqlite
SIM ?= short
SOAK ?=
FUZZ ?= --seconds 60
MUTANTS ?=
# More than there are cores in CI: many tests wait for processes.
JOBS ?= 3
TEST_ARGS ?=
# Hundreds of processes start here: each would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=
DEMO_ARGS ?=

.PHONY: demo test test-plugins conformance sim mutants faults chaos soak fuzz check bench format lock clean

demo: $(VENV)/ready
	$(BIN)/streamflow demo $(DEMO_ARGS)

test: $(VENV)/ready $(EMULATORS)/ready
	$(BIN)/pytest -n $(JOBS) --dist loadgroup --ignore=tests/tidy $(TEST_ARGS) $(TESTS)

test-plugins: $(VENV)/ready $(EMULATORS)/ready
	$(BIN)/pytest -n $(JOBS) --dist loadgroup $(TEST_ARGS) $(PLUGINS)

# What each sink has proved, and the table of it in the documentation.
conformance: $(VENV)/ready $(EMULATORS)/ready
	$(BIN)/pytest -q -n 2 --dist loadgroup --sink-conformance docs/conformance.json \
	  tests/contract/test_sinks_core.py plugins/*/tests/test_*_contract.py
	$(BIN)/python -m streamflow.testing.sink_contract.table docs/conformance.json docs/sinks.md

# Whole workers in virtual time, a minute of them; SIM=full is five, two more that have to reach every interesting state, and
# the whole model of the protocol.
SIM_ARGS = $(if $(filter full,$(SIM)),--world standard --seconds 300,--seconds 60) --processes 2
sim: $(VENV)/ready
	$(BIN)/python -m streamflow.testing.simulation $(SIM_ARGS)
	$(if $(filter full,$(SIM)),$(BIN)/python -m streamflow.testing.simulation --world small --first-seed 1000 --seconds 120 --processes 2 --reach-all)
	$(if $(filter full,$(SIM)),PYTHONPATH=tests $(BIN)/python -m model full)

# What goes wrong, and what was seen then: every test with the mark of a fault, and the page made of them.
faults: $(VENV)/ready $(EMULATORS)/ready
	$(BIN)/pytest -q -n $(JOBS) --dist loadgroup --timeout 300 -m fault --fault-results docs/fault-matrix.json tests plugins/*/tests
	PYTHONPATH=tests $(BIN)/python -m fault_matrix docs/fault-matrix.json docs/fault-matrix.md

# Mistakes in the protocol, and whether the simulation notices; MUTANTS="--write" keeps it in docs/reliability.md.
mutants: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -m mutants $(MUTANTS)

# Long runs under load, about a quarter of an hour; SOAK="--write" keeps what they found in docs/reliability.md.
soak: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -m soak $(SOAK)

# New examples for every property, for a minute.
fuzz: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

# Workers killed, paused and restarted for two minutes each, and an account of every record.
chaos: $(VENV)/ready $(EMULATORS)/ready
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	set -e; for plugin in plugins/*/; do MYPYPATH=$${plugin}:$${plugin}tests $(BIN)/mypy $$plugin; done
	$(BIN)/pyright
	$(BIN)/pytest -q -n 0 tests/tidy

bench: $(VENV)/ready $(EMULATORS)/ready
	$(BIN)/python -m benchmarks $(BENCH)

format: $(VENV)/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links --group dev -o requirements/dev.txt pyproject.toml
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links -o requirements/emulators.txt requirements/emulators.in

clean:
	rm -rf $(VENV) $(EMULATORS) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/uv:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "streamflow needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check 'uv>=0.5,<1'
	touch $@

$(VENV)/ready: $(VENV)/uv requirements/dev.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --no-deps -e . $(addprefix -e ,$(wildcard plugins/*/))
	touch $@

$(EMULATORS)/ready: $(VENV)/uv requirements/emulators.txt
	$(BIN)/uv venv -q --allow-existing --python $(BIN)/python $(EMULATORS)
	$(BIN)/uv pip install -q --compile-bytecode --python $(EMULATORS)/bin/python --require-hashes -r requirements/emulators.txt
	touch $@
