# F-LMM: `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= $(shell for v in 3.12 3.11 3.10; do p=$$(command -v python$$v 2>/dev/null) && "$$p" -c '' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
BENCH := OMP_NUM_THREADS=1 $(BIN)/python scripts/benchmark
# a process per core, each with one thread; a file's tests share what they build
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint fast bench lock clean

help:  ## Show the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed  ## Create .venv with the pinned packages (about a minute, nothing compiled).

.venv/installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "F-LMM needs Python 3.10, 3.11 or 3.12; none found. Say which: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## Make data, train the head, evaluate, ground a picture, write work_dirs/demo/report.html.
	$(BIN)/flmm demo

test: install lint  ## Lint, types, unit, parity and end-to-end tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL)

fast: install  ## Tests without the end-to-end runs.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install  ## CPU-sized benchmarks, each a table of ratios; work_dirs/bench/ratios.png shows all beside their bounds.
	@mkdir -p work_dirs/bench
	$(BENCH)/cost.py --json work_dirs/bench/0_cost.json
	$(BENCH)/attention.py --lengths 1500 --repeats 1 --json work_dirs/bench/1_attention.json
	$(BENCH)/step.py --layers 4 --length 1500 --repeats 1 --json work_dirs/bench/2_step.json
	$(BENCH)/sam.py --repeats 1 --json work_dirs/bench/3_sam.json
	$(BENCH)/batch.py --repeats 1 --json work_dirs/bench/4_batch.json
	$(BENCH)/generate.py --repeats 1 --json work_dirs/bench/5_generate.json
	$(BENCH)/data.py --json work_dirs/bench/6_data.json
	$(BENCH)/cache.py --json work_dirs/bench/7_cache.json
	$(BENCH)/distributed.py --json work_dirs/bench/8_distributed.json
	$(BENCH)/startup.py --json work_dirs/bench/9_startup.json
	$(BENCH)/draw.py work_dirs/bench work_dirs/bench/ratios.png

lock: .venv/installed  ## Pin requirements.txt anew from pyproject.toml.
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.10 --no-header --no-annotate \
		--all-extras --output-file requirements.txt pyproject.toml

clean:  ## Remove the environment and everything the demo made.
	rm -rf .venv work_dirs data/shapes
