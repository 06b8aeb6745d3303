# make demo | make test | make lint | make docs | make bench | make clean
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SYSTEM_LIBRARIES := libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0 libgl1 libgomp1

.PHONY: demo test test-slow lint docs bench setup system clean

demo: setup
	$(BIN)/affordagent run "I need something to drive a nail into the wall"

test: setup
	$(BIN)/python -m pytest -n 2

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Into site/. To read it: $(BIN)/python -m http.server --bind 127.0.0.1 -d site
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# One thread, as on the robot's computer. BENCH="--vlm DIR" measures the published model's loader too.  BENCH="--full": as reported.
bench: setup
	$(BIN)/pip install --quiet -e '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m affordagent.evaluations.bench --out bench.json $(BENCH)

setup: system $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $(READY)

# The renderer needs a few system libraries: installed when root, else the command is printed.
system:
	@sh scripts/system_libraries.sh $(SYSTEM_LIBRARIES)

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
