# Everything runs from .venv, which the first command builds: Python >= 3.10 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt
COMPILE_OLDEST := $(BIN)/uv pip compile --upgrade --python-version 3.10 --no-emit-index-url --no-header --no-annotate \
  --all-extras pyproject.toml
SDKS := .venv-sdks/.ready
SDKS_2025 := .venv-sdks-2025/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-sdks test-live docs-site e2e lint format bench torture soak docs constraints package test-oldest clean

help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## Run sample documents through all four (simulated) services in a real Prefect flow
	@$(BIN)/prefect-docjobs demo

test: $(DEV)  ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-sdks: $(DEV) $(SDKS) $(SDKS_2025)  ## Run the services' official SDKs against the simulator
	$(BIN)/python -m pytest -m sdk tests/sdks $(ARGS)

e2e: $(DEV)  ## Suspend 50 flow runs at once on a real Prefect server, and resume them (10 minutes)
	$(BIN)/python -m pytest -m e2e -s tests/prefect $(ARGS)

package: $(DEV)  ## Build what would be published, install it into an empty environment, try it there
	$(BIN)/python -m pytest -m packaging tests/packaging $(ARGS)

test-oldest: .venv-oldest/.ready  ## Run the tests with the oldest versions that pyproject.toml allows
	.venv-oldest/bin/python -m pytest -n 2 --dist loadgroup --ignore tests/docs $(ARGS)

lint: $(DEV)  ## Check style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV) $(SDKS)  ## Measure; prints a table and writes JSON
	$(BIN)/python -m bench $(ARGS)

torture: $(DEV)  ## Kill and stop workers, damage TLS, disks and databases; shows that nothing is bought twice
	$(BIN)/python -m torture $(ARGS)

soak: $(DEV)  ## Run 2,000 batches of each kind in one process; shows that its memory stays flat (40 minutes)
	DOCJOBS_SOAK_BATCHES=2000 $(BIN)/python -m pytest -s tests/torture/test_soak.py $(ARGS)

test-live: $(DEV)  ## Send one page to each real service whose key is given (DOCJOBS_LIVE_…)
	$(BIN)/python -m pytest -m live tests/live $(ARGS)

docs-site: $(DEV)  ## Build the documentation as a site, into site/; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

docs: $(DEV)  ## Run every code block of the docs
	$(BIN)/python -m pytest tests/docs tests/prefect/test_code_of_docs.py $(ARGS)

constraints: $(DEV)  ## Refresh the pinned versions, deliberately
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.10 --no-emit-index-url --no-header \
	  --no-annotate --group dev --all-extras pyproject.toml -o constraints.txt
	$(COMPILE_OLDEST) --resolution lowest-direct --prerelease disallow -o constraints-oldest.txt
	$(COMPILE_OLDEST) --group dev --prerelease allow -c constraints-oldest.txt -o constraints-oldest.txt

clean:  ## Remove everything that make has built
	rm -rf .venv .venv-oldest .venv-sdks .venv-sdks-2025 build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis

# uv installs in 3 s what takes pip a minute; pip brings it into the environment itself.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(INSTALL) -e '.[simulator]'
	@touch $@

# What only developers need is ten times as much.
$(DEV): $(READY)
	@$(INSTALL) -e '.[etl,s3,delta,simulator]' --group dev
	@touch $@

# The oldest versions, on whatever Python there is; 3.10 is the oldest of these.
.venv-oldest/.ready: pyproject.toml constraints-oldest.txt | $(DEV)
	@$(BIN)/uv venv --quiet --allow-existing --python $(PYTHON) .venv-oldest
	@$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python -c constraints-oldest.txt -e '.[etl,s3,delta,simulator]' --group dev
	@touch $@

.venv-sdks/.ready: tests/sdks/requirements.txt | $(DEV)
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-sdks
	@$(BIN)/uv pip sync --quiet --python .venv-sdks/bin/python $<
	@touch $@

.venv-sdks-2025/.ready: tests/sdks/requirements-2025.txt | $(DEV)
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-sdks-2025
	@$(BIN)/uv pip sync --quiet --python .venv-sdks-2025/bin/python $<
	@touch $@
