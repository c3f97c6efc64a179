# `make demo` and `make test` set up .venv with the tested versions when it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint slow battery benchmark docs
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,itk,dicom,view,tensorboard,mlflow,onnx,hub,docs,test]'
	touch .venv/ready

demo: .venv/ready
	$(BIN)/medtransfer demo --overwrite

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# one thread a process: two processes with two threads each would wait for each other
test: export OMP_NUM_THREADS = 1
test: lint
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --cov --cov-report=term:skip-covered

slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# every row of the battery of bad input and faults, as a table: docs/robustness.md
battery: .venv/ready
	$(BIN)/python -m tests.battery --numprocesses=2 --dist=loadfile

# ratios beside what people use: docs/speed.md and the README's table
benchmark: .venv/ready
	$(BIN)/python -m benchmarks.speed --write

# the documentation site, without a network: docs/_build/html/index.html
docs: .venv/ready
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going docs docs/_build/html
