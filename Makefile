# Two commands do all the set-up there is, each from a bare clone: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
TEXT_PRICE := 5.0  # of depth, in nats a token for all layers: some 10% fewer
PRICE := 0.15      # for choices, in nats: some 15% fewer
# Python compiles what is imported when it is; compiling all that is installed takes two minutes.
PIP := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
# Images that tell Python to keep no bytecode would have every command compile its libraries anew: ten seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all install assets lint benchmark gpu docs clean

demo: $(VENV)/.installed assets
	$(BIN)/python -m cola_learn.label --config configs/label/texts_demo.yaml --output $(RUN)/texts/labels
	$(BIN)/python -m cola_learn.train --config configs/train/texts.yaml --extra_labels $(RUN)/texts/labels \
		--output $(RUN)/texts/train
	$(BIN)/python -m cola_learn.export --checkpoint $(RUN)/texts/train/best.ckpt --price $(TEXT_PRICE) \
		--output $(RUN)/texts/train/controller
	$(BIN)/python -m cola_learn.evaluate --config configs/evaluate/texts.yaml --controllers $(RUN)/texts/train/controller \
		--output $(RUN)/texts/evaluate
	$(BIN)/python -m cola_learn.label --config configs/label/demo.yaml --output $(RUN)/labels
	$(BIN)/python -m cola_learn.train --config configs/train/demo.yaml --extra_labels $(RUN)/labels --output $(RUN)/train
	$(BIN)/python -m cola_learn.export --checkpoint $(RUN)/train/best.ckpt --price $(PRICE) --output $(RUN)/train/controller
	$(BIN)/python -m cola_learn.evaluate --config configs/evaluate/menu.yaml --learners false \
		--controllers $(RUN)/train/controller --output $(RUN)/menu
	$(BIN)/python -m cola_learn.evaluate --config configs/evaluate/demo.yaml --labels $(RUN)/labels \
		--controllers $(RUN)/train/controller --output $(RUN)/evaluate

test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory --jobs 2 --output-sync lint assets
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What is slow and broad beside it: all architectures, and the second real model (240 MB to fetch).
test-all: test
	$(BIN)/python -m cola_learn.assets gemma3-270m
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

assets: $(VENV)/.installed
	$(BIN)/python -m cola_learn.assets

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

# Seven minutes with a GPU; docs/performance.md says what for.
gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gpu

benchmark: $(VENV)/.installed assets
	$(BIN)/python -m benchmarks.executor

install: $(VENV)/.installed

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that nothing else can pull in another build of it.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable '.[math,plots]'
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) runs site .mypy_cache .pytest_cache .ruff_cache
