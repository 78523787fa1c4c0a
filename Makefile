# Thin: each target makes .venv, installs what it needs and runs one command.
VENV ?= .venv
PYTHON ?= python3
PY = $(VENV)/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test lint bench

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[test]'
	touch $@

demo: $(VENV)/.installed
	rm -rf runs/demo
	$(PY) training/gan.py --data digits --network dcgan --steps-per-epoch 250 --epochs 12 --batch-size 64 \
	    --loss relativistic --r1 1 --r2 1 --dropout 0 --run-dir runs/demo --export-dir saved_models/digits --gif
	$(PY) training/sample.py saved_models/digits --output runs/demo/served.png
	@echo "Look at runs/demo/served.png, and at tensorboard --logdir runs/demo"

test: $(VENV)/.installed
	$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

bench: $(VENV)/.installed
	$(PY) benchmarks/gan_throughput.py
	$(PY) benchmarks/data_memory.py
