# Two commands do everything: `make demo` (the main job) and `make test` (everything CI checks). `make gpu-check` is for a GPU.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test report gpu-check clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/mobench quickstart

test: $(VENV)/installed $(VENV)/references $(VENV)/standin/fetched $(VENV)/webgpu/installed
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

# ONNX Runtime's WebGPU build, in a folder of its own: beside the CPU's it would overwrite it. Tests skip without it.
$(VENV)/webgpu/installed: constraints.txt | $(VENV)/installed
	@if $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps --upgrade \
	  --target $(VENV)/webgpu onnxruntime-webgpu; then touch $@; \
	else echo "onnxruntime-webgpu could not be had; its tests will be skipped" >&2; fi

# On a machine with an NVIDIA GPU: with the versions that are there, and without a network. GPU_CHECK holds its options.
GPU_PYTHON ?= $(or $(wildcard $(BIN)/python),$(PYTHON))
gpu-check:
	@PYTHONPATH="$(CURDIR)" $(GPU_PYTHON) benchmarks/gpu_check.py $(GPU_CHECK)

# The record's report, and what README and docs/ show of it.
CAMPAIGN := results/intel-xeon-processor-2c/20261122T224008Z-desktop-cpu.jsonl
report: $(VENV)/installed
	$(BIN)/mobench report -o report.html
	$(BIN)/mobench pareto $(CAMPAIGN) --accuracy published --no-variants --format md --plot docs/pareto.svg >docs/pareto.md
	$(BIN)/mobench claims --format md >docs/claims.md

clean:
	rm -rf $(VENV) artifacts quickstart gpu-check gpu-benchmark
