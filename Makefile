# Everything a reader, a re-runner or a student types. Works with the make
# of macOS (3.81) too. `make` alone lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PROFILE ?= quick
PORT ?= 8000
WORKERS ?= 2
VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	2>/dev/null && { command -v "$$p"; break; }; done)
TORCH_INDEX ?=

PY := $(VENV)/bin/python
STAMP := $(VENV)/.complete
# Notebooks that call a command find the one of this environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help env book test data serve notebooks lab lint lock train bench
.PHONY: litert test-peers doctor clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)
	@echo
	@echo "make book PROFILE=smoke|quick|full   default: $(PROFILE)"

# Its stamp is written last, so an installation cut short is taken up again.
$(STAMP): requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 was not found: install it," \
		"or name it: make env PYTHON=/path/to/python3.11"; exit 1; }
	@echo "making $(VENV) from requirements.lock with $(PYTHON)"
	@"$(PYTHON)" -m venv $(VENV) || { echo "No virtual environment could be" \
		"made; on Debian and Ubuntu: apt-get install python3.11-venv"; \
		exit 1; }
	@$(PY) -m lq_utils.bootstrap --torch-index "$(TORCH_INDEX)"
	@touch $@

env: $(STAMP)  ## make the environment (.venv) from requirements.lock

book: $(STAMP)  ## run the chapters that changed, render the book
	@$(PY) -m lq_utils book --profile $(PROFILE)

test: $(STAMP)  ## run the whole test suite
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 \
		$(PY) -m pytest --numprocesses $(WORKERS) --dist loadscope

data: $(STAMP)  ## download CIFAR-10 and CIFAR-100
	@$(PY) -m lq_utils data

serve: $(STAMP)  ## show the rendered book at http://127.0.0.1:PORT
	@test -f _build/html/index.html || { \
		echo "There is no book yet: run 'make book' first"; exit 1; }
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

notebooks: $(STAMP)  ## write notebooks/*.ipynb from notebooks/*.py
	@$(PY) -m lq_utils notebooks

lab: $(STAMP)  ## open JupyterLab on this folder
	@$(PY) -m jupyter lab

lint: $(STAMP)  ## check style and types
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy

lock: $(STAMP)  ## resolve pyproject.toml into requirements.lock anew
	@UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile pyproject.toml \
		--extra test --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes --quiet \
		--output-file requirements.lock

train: $(STAMP)  ## train the committed networks again
	@$(PY) -m lq_utils train

bench: $(STAMP)  ## measure speeds
	@for script in benchmarks/bench_*.py; do \
		$(PY) "$$script" || exit 1; done

litert: $(STAMP)  ## measure .tflite files in an environment of LiteRT's own
	@$(PY) benchmarks/litert/measure_formats.py

test-peers: $(STAMP)  ## compare with DADApy, in an environment of its own
	@$(PY) benchmarks/dadapy/compare.py

doctor: $(STAMP)  ## check environment, data and GPU
	@$(PY) -m lq_utils doctor

clean:  ## remove what was built (not .venv, data or cached results)
	@if [ -d _build ]; then find _build -mindepth 1 -maxdepth 1 \
		! -name cache -exec rm -rf {} +; fi
	@rm -rf book/chapters book/status.md .pytest_cache .mypy_cache \
		.ruff_cache .hypothesis

distclean: clean  ## remove .venv and the caches as well (not data)
	@rm -rf $(VENV) _build benchmarks/*/.venv
