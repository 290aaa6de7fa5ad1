# make train: environment, then python train.py.  make test: environment, then lint, types and tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# One process a core, each with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal
INSTALLED := $(VENV)/.installed

.PHONY: train test test-all test-browser lint format wheel docs notebooks clean

train: $(INSTALLED)
	$(BIN)/python train.py

test: $(INSTALLED) lint
	$(PYTEST) -m "not slow and not browser"

test-all: $(INSTALLED) lint
	$(PYTEST) -m "not browser"

# The page in a real Chromium: apt-get install chromium, or CHROMIUM=<path of another one>.
test-browser: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[browser]"
	if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix $(VENV)/npm onnxruntime-web@1.30.0; fi
	ONNXRUNTIME_WEB=$(VENV)/npm/node_modules/onnxruntime-web/dist $(BIN)/python -m pytest -q -n 0 -m browser tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(INSTALLED)
	$(BIN)/python -m build --wheel --outdir dist .

# The documentation as a site in site/; REPORT=<page of niphash report> puts that page into it.
docs: $(INSTALLED)
	$(BIN)/python website/build.py --out site $(if $(REPORT),--report $(REPORT))

# Run the notebooks and keep their outputs in them.
notebooks: $(INSTALLED)
	$(BIN)/python notebooks/run.py

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m niphash.search.compilation
	touch $@

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
