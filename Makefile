# make run    the main job: embedded MLflow, collector, proxy, page, and one agent's trace through them
# make test   all tests          make lint   ruff, mypy, the page's JavaScript
# make bench  the benchmarks    make test-foreign   senders in Java, Go and Rust
# make test-mcp   the conformance suite of the Model Context Protocol (needs npm)
# make test-scale   replicas on three real Kafka brokers and ClickHouse's engine     make bench-scale   their rates
# make test-mlflow-3.17   what depends on MLflow, against the oldest version that is supported
# make lock   pin the newest versions that pyproject.toml allows
# make captures NAME=...   record again what frameworks send (all of them without NAME)
# Everything is set up on first use; needs python3 (3.11 to 3.14) and nothing else.

# each of the many processes would compile our modules again
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# tests run in so many processes; each has an MLflow of its own. One more than a small machine has processors:
# tests of restarts, outages and bounds mostly wait
WORKERS ?= 3
# a second environment for the tests: an agent's process with pydantic-ai 1.x and nothing of the service
AGENT_1 := $(VENV)/pydantic-ai-1
AGENT_1_LOCK := tests/instrumentation/pydantic_ai_1.lock
PACKAGES := import sysconfig; print(sysconfig.get_path("purelib"))
# a third one: the oldest supported MLflow, and all else from the first
MLFLOW_3_17 := $(VENV)/mlflow-3.17
MLFLOW_3_17_LOCK := tests/system/mlflow_3_17.lock
ASK_MLFLOW := tests/system/test_main_path.py tests/system/test_harmonise.py tests/system/test_poison.py \
  tests/system/test_scores.py tests/system/test_fast_mlflow.py tests/system/test_retention_file.py \
  tests/proxy/test_catalog_contract.py tests/proxy/test_same_route.py tests/proxy/test_same_answers.py \
  tests/proxy/test_reads_write_nothing.py tests/proxy/test_rights_on_mlflow.py
# Kafka's brokers run on Java and come by Maven
NEED_JAVA := command -v java >/dev/null && command -v mvn >/dev/null || \
  { echo "needs java and mvn for Kafka's brokers; on Debian: apt-get install default-jdk-headless maven" >&2; exit 2; }
PAGE_CHECKS := tests/page
MCP_CHECKS := tests/mcp_conformance
PAGE_SCRIPTS := $(wildcard collector/api/page/*.js)

.PHONY: run test test-foreign test-mcp test-scale test-mlflow-3.17 lint lint-page format bench bench-scale captures lock clean
.DEFAULT_GOAL := run

run: $(STAMP)
	@$(BIN)/python examples/run.py

test: $(STAMP) $(AGENT_1)/.installed
	@$(BIN)/python -m pytest -m "not foreign and not scale" --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-foreign: $(STAMP)
	@$(BIN)/python -m pytest -m foreign --numprocesses 2 --dist loadgroup

# what the official suite of the Model Context Protocol requires of a server
test-mcp: $(STAMP) $(MCP_CHECKS)/node_modules/.installed
	@$(BIN)/python -m tests.mcp_conformance

$(MCP_CHECKS)/node_modules/.installed: $(MCP_CHECKS)/package.json $(MCP_CHECKS)/package-lock.json
	@echo "Installing the conformance suite of the Model Context Protocol into $(MCP_CHECKS) ..."
	@cd $(MCP_CHECKS) && npm ci --silent --no-audit --no-fund
	@touch $@

# one process: brokers, ClickHouse and MLflow are enough for a small machine
# what brokers write is too much for memory, where other tests have their files
test-scale: $(STAMP)
	@$(NEED_JAVA)
	@PYTEST_DEBUG_TEMPROOT=$${TMPDIR:-/tmp} $(BIN)/python -m pytest -m scale

test-mlflow-3.17: $(STAMP) $(MLFLOW_3_17)/.installed
	@SIDESPAN_TEST_MLFLOW_PYTHON=$(MLFLOW_3_17)/bin/python $(BIN)/python -m pytest $(ASK_MLFLOW)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-page; \
	  else echo "npm is not here: the page's JavaScript was not checked"; fi

# types, eslint's rules and the form of the page's JavaScript
lint-page: $(PAGE_CHECKS)/node_modules/.installed
	@cd $(PAGE_CHECKS) && npx --no-install tsc
	@$(PAGE_CHECKS)/node_modules/.bin/eslint --config $(PAGE_CHECKS)/eslint.config.js collector/api/page
	@$(PAGE_CHECKS)/node_modules/.bin/prettier --config $(PAGE_CHECKS)/.prettierrc.json --log-level warn \
	  --check $(PAGE_SCRIPTS)

$(PAGE_CHECKS)/node_modules/.installed: $(PAGE_CHECKS)/package.json $(PAGE_CHECKS)/package-lock.json
	@echo "Installing TypeScript, eslint and prettier into $(PAGE_CHECKS) ..."
	@cd $(PAGE_CHECKS) && npm ci --silent --no-audit --no-fund
	@touch $@

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@if [ -x $(PAGE_CHECKS)/node_modules/.bin/prettier ]; then $(PAGE_CHECKS)/node_modules/.bin/prettier \
	  --config $(PAGE_CHECKS)/.prettierrc.json --log-level warn --write $(PAGE_SCRIPTS); fi

bench: $(STAMP)
	@$(BIN)/python -m tests.benchmarks

bench-scale: $(STAMP)
	@$(NEED_JAVA)
	@$(BIN)/python -m tests.benchmarks replicas clickhouse

# each framework is installed into an environment of its own under .captures/
captures: $(STAMP)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	@$(BIN)/python -m tests.data.capture $(NAME)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 14))' || \
	  { echo "needs Python 3.11 to 3.14, $(PYTHON) is `$(PYTHON) --version 2>&1`; try make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python's venv module is missing; on Debian: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 2; }
	@echo "Installing Sidespan, MLflow and the test tools into $(VENV) (about a minute, once) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(AGENT_1)/.installed: $(AGENT_1_LOCK) | $(STAMP)
	@echo "Installing pydantic-ai 1.x into $(AGENT_1) ..."
	@$(BIN)/python -m venv $(AGENT_1)
	@$(AGENT_1)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r $(AGENT_1_LOCK)
	@touch $@

$(MLFLOW_3_17)/.installed: $(MLFLOW_3_17_LOCK) | $(STAMP)
	@echo "Installing MLflow 3.17 into $(MLFLOW_3_17) ..."
	@$(BIN)/python -m venv $(MLFLOW_3_17)
	@$(MLFLOW_3_17)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r $(MLFLOW_3_17_LOCK)
	@$(BIN)/python -c '$(PACKAGES)' > `$(MLFLOW_3_17)/bin/python -c '$(PACKAGES)'`/service.pth
	@touch $@

lock: $(STAMP)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --no-strip-extras --all-extras --override .ci/lock_overrides.txt \
	  --upgrade pyproject.toml .ci/mlflow_parts.in -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --no-strip-extras --upgrade tests/instrumentation/pydantic_ai_1.in -o $(AGENT_1_LOCK)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-deps \
	  --no-header --no-annotate --no-strip-extras --upgrade tests/system/mlflow_3_17.in -o $(MLFLOW_3_17_LOCK)

clean:
	rm -rf $(VENV) .sidespan .captures
