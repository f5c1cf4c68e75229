# Two commands on a fresh machine: `make demo` and `make test`. Needs Python 3.11+ and a package index.
# `.venv` and `.envs` are made once; a stamp keyed by the requirement hashes makes every later run offline.

PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile
PLUGINS := $(if $(filter true,$(CI)),-p tests.ci_plugin)
VENV := .venv
BIN := $(VENV)/bin
BASE := requirements/base.txt pyproject.toml
TEST := requirements/test.txt $(BASE)
WHEEL_FILES := tests/e2e/requirements-sklearn15.txt tests/e2e/requirements-sklearn16.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench screenshots envs peers lock base-venv test-venv

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: base-venv ## the main job on real data: two models, one alias, a swap under load
	@$(BIN)/turnout demo

test: test-venv envs ## the whole test suite
	@$(BIN)/python -m pytest $(PLUGINS) $(PYTEST_ARGS)

check: lint test ## everything that CI runs but the wheel

lint: test-venv ## format, lint, types, layering
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: test-venv envs peers ## all the benches, on an idle machine
	$(BIN)/python bench/swap.py
	$(BIN)/python bench/swap.py --http-workers 3
	$(BIN)/python bench/swap.py --env-manager uv
	$(BIN)/python bench/predict.py
	$(BIN)/python bench/start.py
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/many.py
	$(BIN)/python bench/registry.py
	$(BIN)/python bench/soak.py
	$(BIN)/python bench/batch.py
	$(BIN)/python bench/overload.py
	$(BIN)/python bench/pages.py
	$(BIN)/python bench/live.py

screenshots: test-venv envs ## every page in light, dark and on a phone, into screenshots/ (needs chromium)
	@$(BIN)/python -m tests.ui.screenshots screenshots

base-venv:
	@PYTHON="$(PYTHON)" requirements/install.sh $(VENV) base $(BASE)

test-venv:
	@PYTHON="$(PYTHON)" requirements/install.sh $(VENV) test $(TEST)

envs: test-venv ## .envs: the real mlflow 3 and 2 for tests and benches, the clients of v2, an S3 server, wheels
	@PYTHON="$(PYTHON)" requirements/install.sh .envs/mlflow3 compat tests/compat/requirements-mlflow3.txt
	@PYTHON="$(PYTHON)" requirements/install.sh .envs/mlflow2 compat tests/compat/requirements-mlflow2.txt
	@PYTHON="$(PYTHON)" requirements/install.sh .envs/v2 compat tests/compat/requirements-v2.txt
	@PYTHON="$(PYTHON)" requirements/install.sh .envs/s3 compat tests/s3/requirements.txt
	@requirements/download.sh .envs/wheels $(WHEEL_FILES)

peers: test-venv ## .envs/peers: MLServer and LitServe, for bench/predict.py
	@PYTHON="$(PYTHON)" requirements/install.sh .envs/peers compat bench/requirements-peers.txt

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url

lock: test-venv ## resolve the requirement files again, without index addresses
	$(COMPILE) pyproject.toml --output-file requirements/base.txt
	$(COMPILE) pyproject.toml requirements/test.in --all-extras --output-file requirements/test.txt
	$(COMPILE) requirements/build.in --output-file requirements/build.txt
	$(COMPILE) tests/compat/requirements-mlflow3.in --output-file tests/compat/requirements-mlflow3.txt
	$(COMPILE) tests/compat/requirements-mlflow2.in --output-file tests/compat/requirements-mlflow2.txt
	$(COMPILE) tests/compat/requirements-v2.in --output-file tests/compat/requirements-v2.txt
	$(COMPILE) tests/s3/requirements.in --output-file tests/s3/requirements.txt
	$(COMPILE) bench/requirements-peers.in --output-file bench/requirements-peers.txt
	$(COMPILE) tests/e2e/requirements-sklearn15.in --output-file tests/e2e/requirements-sklearn15.txt
	$(COMPILE) tests/e2e/requirements-sklearn16.in --output-file tests/e2e/requirements-sklearn16.txt
