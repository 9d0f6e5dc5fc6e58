# Two commands set everything up by themselves, in a .venv of their own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint lock clean

help:
	@echo "make demo      see the twin work: simulated plant, real broker, page at http://127.0.0.1:8080"
	@echo "make test      lint, types, import floors and every test"
	@echo "make lint      the quick half of it"
	@echo "make coverage  every test once more, slower, and which lines none of them runs"
	@echo "make lock      write the locks of deploy/ from this environment"

$(VENV)/.installed: pyproject.toml
	@echo "Setting up $(VENV) (once, one to three minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hptwin needs Python 3.11 or newer; set PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable ".[cluster,demo,pdf,peers]" --group dev
	@$(BIN)/python -c 'from twin.service.demo import warm_up; warm_up()'  # compiles once
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/hptwin demo

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2 --dist worksteal

coverage: $(VENV)/.installed
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

lock: $(VENV)/.installed
	$(BIN)/python deploy/lock.py > deploy/requirements.lock
	$(BIN)/python deploy/lock.py build > deploy/build.lock

clean:
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
