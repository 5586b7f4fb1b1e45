# Each target makes its own virtual environment if there is none.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo demo-spinnaker test test-slow test-training lint bench zoo clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[compile,zoo,spinnaker,board,events,remote,openvino,test,lint]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python benchmarks/demo.py

demo-spinnaker: $(STAMP)
	$(BIN)/python benchmarks/demo_spinnaker.py

# The tests of a file stay in one worker, so that a bundle they share is compiled once.
test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not training"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m slow

# Every system of the zoo from scratch: an hour or more, so CI leaves it out.
test-training: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m training

# The repository root is the package, so mypy sees it through a link that carries the package's name.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	mkdir -p .lint && ln -sfn .. .lint/edgeattn
	MYPYPATH=.lint $(BIN)/mypy -p edgeattn

bench: $(STAMP)
	$(BIN)/python benchmarks/session.py --write
	$(BIN)/python benchmarks/cpu.py --write
	$(BIN)/python benchmarks/errors.py --write
	$(BIN)/python benchmarks/exponents.py --write
	$(BIN)/python benchmarks/scan.py --write
	$(BIN)/python benchmarks/operators.py --write
	$(BIN)/python benchmarks/convolutions.py --write
	$(BIN)/python benchmarks/compiling.py --write

# Every system of the zoo to its targets: models/status.json and docs/zoo.md; under half an hour (26 minutes on an AMD EPYC with AVX2).
zoo: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/zoo.py

clean:
	rm -rf $(VENV) .lint build *.egg-info
