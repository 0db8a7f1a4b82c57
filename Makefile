# Everything runs from .venv, which the first command builds: Python >= 3.10 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SDKS := .venv-sdks/.ready
SDKS_2025 := .venv-sdks-2025/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-sdks e2e lint format bench torture docs constraints clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## Run sample documents through all four (simulated) services in a real Prefect flow
	@$(BIN)/prefect-docjobs demo

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-sdks: $(READY) $(SDKS) $(SDKS_2025)  ## Run the services' official SDKs against the simulator
	$(BIN)/python -m pytest -m sdk tests/sdks $(ARGS)

e2e: $(READY)  ## Suspend 50 flow runs at once on a real Prefect server, and resume them (10 minutes)
	$(BIN)/python -m pytest -m e2e -s tests/prefect $(ARGS)

lint: $(READY)  ## Check style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) $(SDKS)  ## Measure; prints a table and writes JSON
	$(BIN)/python -m bench $(ARGS)

torture: $(READY)  ## Kill workers at every step and at 100 random instants; shows that nothing is bought twice
	$(BIN)/python -m torture $(ARGS)

docs: $(READY)  ## Run every code block of the docs
	$(BIN)/python -m pytest tests/docs tests/prefect/test_code_of_docs.py $(ARGS)

constraints: $(READY)  ## Refresh the pinned versions, deliberately
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.10 --no-emit-index-url --no-header \
	  --no-annotate --group dev --all-extras pyproject.toml -o constraints.txt

clean:  ## Remove everything that make has built
	rm -rf .venv .venv-sdks .venv-sdks-2025 build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# uv installs in 3 s what takes pip a minute; pip brings it into the environment itself.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[duckdb]' --group dev
	@touch $@

.venv-sdks/.ready: tests/sdks/requirements.txt | $(READY)
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-sdks
	@$(BIN)/uv pip sync --quiet --python .venv-sdks/bin/python $<
	@touch $@

.venv-sdks-2025/.ready: tests/sdks/requirements-2025.txt | $(READY)
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-sdks-2025
	@$(BIN)/uv pip sync --quiet --python .venv-sdks-2025/bin/python $<
	@touch $@
