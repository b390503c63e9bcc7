# Two commands do everything: `make demo` (the main job) and `make test` (everything CI checks).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/mobench quickstart

test: $(VENV)/installed $(VENV)/references $(VENV)/standin/fetched
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: mobench needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[export,parquet,dev]'
	touch $@

# What the zoo's networks are compared with; without their dependencies, so that torch stays the one that is pinned.
$(VENV)/references: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps torchvision timm
	touch $@

# The real adb and Vulkan in software for the tests of phones; where they are not to be had those tests are skipped.
$(VENV)/standin/fetched: tests/standin/fetch.sh | $(VENV)/installed
	tests/standin/fetch.sh $(VENV)/standin

clean:
	rm -rf $(VENV) artifacts quickstart
