# make demo | test | lint: everything installs into $(VENV); nothing else is touched.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint bench networks figures clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      the main job on a trained network that is in the repository"
	@echo "make test      the test suite (under 10 minutes on two cores)"
	@echo "make lint      ruff and mypy"
	@echo "make bench     the measurements of docs/benchmarks.md"
	@echo "make networks  train the networks of examples/networks again"
	@echo "make figures   draw the pictures of docs/figures again"
	@echo "make clean     remove $(VENV) and build products"

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fpanalysis needs Python 3.11 or newer, found " + sys.version.split()[0] + ": name another with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(PIP) -e '.[$*]'
	@touch $@

demo: $(VENV)/.installed
	@mkdir -p demo-output
	$(BIN)/fpanalysis shift examples/networks/function-approximation-relu-in-0.5.pt --noise 0:0.5 --figure demo-output/shift.png

test: $(VENV)/.installed-test
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4

lint: $(VENV)/.installed-test $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_closure.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_fixed_points.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_monte_carlo.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_monte_carlo.py steps
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_variance.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_chain.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_metastable.py 0.5 0.6 0.8
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_fokker_planck.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_reduced.py --seconds 8
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_agreement.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_preference.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_bias.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_denoise.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_regulator.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_incentive.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_training.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_regularizer.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_stability.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_flatness.py
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/bench_robustness.py

networks: $(VENV)/.installed
	$(BIN)/python examples/train_networks.py
	$(BIN)/python examples/train_flip_flop.py

figures: $(VENV)/.installed
	$(BIN)/python docs/figures/make.py

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
