# make demo    trains the quick start and writes text with it   (STEPS=20 for a trial)
# make quick   runs the fast and telling tests, in less than a minute
# make test    runs all tests but the slow ones, on two cores
# make slow    runs the slow ones
# make notebooks  runs the notebooks
# make notebooks-store  runs them and stores their outputs
# make badges  links the notebooks to Colab (REPOSITORY=OWNER/NAME on GitHub)
# make lint    what CI checks besides: ruff and import-linter
# make types   mypy, strict
# make format  lays out code
# make package  builds wheel and sdist in dist/, checks them, and runs the wheel without a checkout
# make docs    builds docs/html/index.html; every warning is an error
# Each sets up .venv first if it is missing or out of date. PYTHON=python3.12 chooses another
# interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := lightning_logs/shakespeare
STEPS ?=
# A prompt for the packaged model star-graph; the way from 5 to 11 is 5,3,9,2,11.
STAR := 4,7|9,2|0,4|3,9|2,11|5,1|5,3|1,0/5,11=
# Configuration, laws of layers and of models on part of the grid, the front door.
QUICK := tests/core tests/nn/test_layers.py tests/nn/test_growth.py tests/data/test_windows.py \
	tests/data/test_tokenizers.py tests/cli/test_main.py tests/cli/test_experiments.py \
	$(foreach index,0 20 40 60 80 100 120 140 160 180 200 220, \
	'tests/nn/test_model.py::test_causality__no_later_token_changes_an_earlier_output[$(index)]')

.PHONY: demo quick test slow notebooks notebooks-store badges lint types format docs package clean
demo: $(VENV)/installed
	$(BIN)/nextconcept fit --config shakespeare $(if $(STEPS),--trainer.max_steps $(STEPS))
	$(BIN)/nextconcept validate --config shakespeare --ckpt_path $(RUN)
	$(BIN)/nextconcept generate --ckpt_path $(RUN) --prompt "ROMEO:"

quick: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 $(QUICK)

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2

slow: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

notebooks: $(VENV)/installed
	$(BIN)/python -m pytest --nbmake notebooks

notebooks-store: $(VENV)/installed
	$(BIN)/python notebooks/store.py

badges: $(VENV)/installed
	$(BIN)/python notebooks/badges.py $(REPOSITORY)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/installed
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/docs-installed
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet docs docs/html

package: $(VENV)/installed
	rm -rf dist build
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m pip install --quiet --no-deps --target dist/installed dist/*.whl
	cd dist && PYTHONPATH=installed ../$(BIN)/python -c 'import nextconcept; print(nextconcept.__file__)' | grep installed
	cd dist && PYTHONPATH=installed ../$(BIN)/python -m nextconcept experiments
	cd dist && PYTHONPATH=installed ../$(BIN)/python -m nextconcept plan --ckpt_path star-graph --prompt "$(STAR)" | grep '"5,3,9,2,11"'

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("nextconcept needs Python 3.10 or newer, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist docs/generated docs/html *.egg-info
