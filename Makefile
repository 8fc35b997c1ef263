# Every button works from a fresh clone: what is missing is installed into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without an NVIDIA card, torch's CPU wheels (200 MB instead of several GB) are taken from PyTorch's own index if it
# can be reached. Set TORCH_INDEX= (empty) to take whatever pip is configured for.
TORCH_INDEX ?= $(shell command -v nvidia-smi >/dev/null 2>&1 || \
	(curl -sfIL -m 3 https://download.pytorch.org/whl/cpu/torch/ >/dev/null 2>&1 && echo "--index-url https://download.pytorch.org/whl/cpu"))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup setup-dev serve codegen docs check test test-gpu gpu-check contract bench clean

help:
	@echo "make serve      install what is missing and serve the demo model on port 8000 (ARGS='--port 9000' to add flags)"
	@echo "make test       unit and integration tests on a CPU        make check     linters, types, import rules, freshness"
	@echo "make contract   fuzz the served contract                   make codegen   regenerate generated/ from openapi/"
	@echo "make docs       regenerate docs/reference from the contract, the field policies and the flags"
	@echo "make bench      benchmarks; appends to benchmarks/results  make test-gpu  the tests that need an NVIDIA GPU"
	@echo "make gpu-check  those tests and the benchmark of the engine on a GPU, under 8 minutes; writes benchmarks/results"
	@echo "make setup-dev  everything that development needs          make clean     remove .venv and caches"

$(BIN)/serve: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(PIP) $(TORCH_INDEX) torch
	$(PIP) --editable .
	-$(BIN)/python -m specserve.engine.native.build
	@touch $@

$(VENV)/.dev: $(BIN)/serve
	$(PIP) --group dev
	@touch $@

setup: $(BIN)/serve
setup-dev: $(VENV)/.dev

# 600 MB that only the tests need: the evaluation harness with its data frames and metrics.
$(VENV)/.eval: $(VENV)/.dev
	$(PIP) --group eval
	@touch $@

# Clients of several protocols, which only the tests need.
$(VENV)/.clients: $(VENV)/.dev
	$(PIP) --group clients
	$(PIP) --no-deps --group clients-alone
	@touch $@

serve: setup
	$(BIN)/serve $(ARGS)

# In an activated environment that has what codegen needs this is the only step between a changed contract and `serve`.
codegen:
	@if python -c "import datamodel_code_generator, specserve" 2>/dev/null; then python codegen.py; \
	else $(MAKE) --no-print-directory setup-dev && $(BIN)/python codegen.py; fi

docs: setup-dev
	$(BIN)/python docs/generate.py

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python codegen.py --check
	$(BIN)/python docs/generate.py --check

test: $(VENV)/.eval $(VENV)/.clients
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" --numprocesses auto --maxprocesses 3 --dist loadfile $(ARGS)

test-gpu: setup-dev
	$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

# GPU_PYTHON names an interpreter that has torch, triton, transformers, xformers, pytest and pytest-xdist already; else
# .venv is made. Eight processes: what the tests take is the compilation of some 400 kernels.
gpu-check: $(if $(GPU_PYTHON),,setup-dev)
	export PYTHONPATH=src:$$PYTHONPATH; python=$(or $(GPU_PYTHON),$(BIN)/python); \
	$$python -m pytest -m gpu tests/gpu --numprocesses 8 --dist worksteal $(ARGS); tests=$$?; \
	$$python -m benchmarks.gpu --out && exit $$tests

# Against a server that runs already: make contract BASE_URL=http://127.0.0.1:8000
contract: setup-dev
	$(BIN)/python -m contract_tests.run $(if $(BASE_URL),--base-url $(BASE_URL))

# PEERS names a file that says where other servers are (benchmarks/README.md): then only the comparison with them is run.
bench: setup-dev
ifdef PEERS
	$(BIN)/python -m benchmarks.peers $(PEERS) $(ARGS)
else
	$(BIN)/python -m benchmarks.protocol --out
	$(BIN)/python -m benchmarks.gpu_step --out
	$(BIN)/python -m benchmarks.run $(ARGS)
endif

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache tests/clients/node/node_modules
