# Two commands set everything up by themselves, in a .venv of their own.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint lock clean

help:
	@echo "make demo      see the twin work: simulated plant, real broker, page at http://127.0.0.1:8080;"
	@echo "               where that port is taken: make demo PORT=8081"
	@echo "make test      lint, types, import floors and every test"
	@echo "make lint      the quick half of it"
	@echo "make coverage  every test once more, slower, and which lines none of them runs"
	@echo "make lock      write the locks of deploy/ from this environment"

# What a plant needs; whoever only looks does not wait for what tests need beside.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hptwin needs Python 3.11 or newer; say which: make demo PYTHON=python3.11"; exit 1; }
	@echo "Setting up $(VENV), once, in one to three minutes:"
	@echo "  1 of 3  an environment of its own"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@echo "  2 of 3  the packages, 1 GB on disk; pip is silent until they are there"
	@$(BIN)/python -m pip install --quiet --editable ".[demo]"
	@echo "  3 of 3  compiling the model"
	@$(BIN)/python -c 'from twin.service.demo import warm_up; warm_up()'
	@touch $@

$(VENV)/.complete: $(VENV)/.installed
	@echo "Adding to $(VENV) what tests need, once ..."
	@$(BIN)/python -m pip install --quiet --editable ".[cluster,demo,pdf,peers]" --group dev
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/hptwin demo --port $(PORT)

lint: $(VENV)/.complete
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2 --dist worksteal

coverage: $(VENV)/.complete
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

lock: $(VENV)/.complete
	$(BIN)/python deploy/lock.py > deploy/requirements.lock
	$(BIN)/python deploy/lock.py build > deploy/build.lock

clean:
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
