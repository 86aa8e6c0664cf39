# The project's menu: `make help`. Owns the work tree's virtual environment (.venv) and what is run in it.
# Needs python3 (3.10 or later, with venv) and a C compiler; PYTHON=... chooses another interpreter.
# A target that needs the extension rebuilds it when a source of it has changed.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := $(VENV)/bin/pip --disable-pip-version-check
ARGS   ?=
# tests wait more than they compute: several at a time, those that share what they built in one process
WORKERS ?= 4
PYTEST := -m pytest -n $(WORKERS) --dist loadgroup --max-worker-restart 0  # loadgroup never ends after a restart

SOURCES := pyproject.toml CMakeLists.txt vendor/libuv.txt $(wildcard pybuntcp/*.p[yx][xd] pybuntcp/_*/*.p[yx][xd] pybuntcp/_*/*/*.p[yx][xd])

# a build apart, for each kind of instrument, in an environment and a build folder of its own
comma         := ,
SANITIZE      ?= address,undefined
SANITIZER     := $(firstword $(subst $(comma), ,$(SANITIZE)))
SANITIZER_LIB  = $(shell $${CC:-cc} -print-file-name=lib$(if $(filter thread,$(SANITIZER)),t,a)san.so)
INSTRUMENT     = $(if $(filter coverage,$*),COVERAGE=ON,SANITIZE=$(SANITIZE))
APART          = --config-settings=cmake.build-type=Debug --config-settings=install.strip=false \
                 --config-settings=build-dir=build/$* --config-settings=cmake.define.PYBUNTCP_$(INSTRUMENT)

.DEFAULT_GOAL := help
.PHONY: help demo suites peers test lint format docs site stubs types pyright asan matrix portable aarch64 coverage annotate bench pages instructions tlsfuzzer sdist wheel clean

help:       ## this menu
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.test    ## set up, run the echo server under load beside asyncio's, print what was measured
	$(PY) benchmarks/demo.py $(ARGS)

peers:      ## install, as root, what tests and benchmarks compare with (PYBUNTCP_INSTALL=no: test and bench skip this)
	@bash tests/peers/install.sh

test: $(VENV)/.test $(VENV)/.programs peers  ## set up, run the tests (ARGS="-k drain" narrows them)
	$(PY) $(PYTEST) $(ARGS)

lint: $(VENV)/.dev     ## style of the Python and Cython sources
	$(VENV)/bin/ruff check . .ci
	$(VENV)/bin/ruff format --check . .ci
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint pybuntcp examples tests benchmarks    # it calls pycodestyle by name

format: $(VENV)/.dev   ## rewrite the Python sources in the project's format
	$(VENV)/bin/ruff check --fix . .ci
	$(VENV)/bin/ruff format . .ci

docs: $(VENV)/.test     ## rewrite the tables of docs/architecture.md, from the sources, and of docs/compatibility.md
	$(PY) docs/source_tables.py
	$(PY) tests/suites/page.py

site: $(VENV)/.site      ## the documentation as web pages, in build/site; needs no compiler
	$(PY) -m mkdocs build --strict --quiet

stubs: $(VENV)/.dev    ## write the docstrings of the built extension into its stub, where editors look
	$(PY) docs/stub_docstrings.py
	$(VENV)/bin/ruff format --quiet pybuntcp/_core.pyi

types: $(VENV)/.dev    ## mypy, and the stubs against the built extension
	$(VENV)/bin/mypy
	$(PY) -m mypy.stubtest pybuntcp --allowlist tests/project/stubtest.txt --ignore-unused-allowlist

pyright: $(VENV)/.dev  ## what pyright says of the typed programs; pip and npm fetch it
	$(PIP) install --quiet pyright
	$(VENV)/bin/pyright --project tests/typing/pyrightconfig.json --pythonpath $(PY)

asan: $(VENV)-$(SANITIZER)/.built  ## the tests on a build with SANITIZE (address,undefined | thread)
	LD_PRELOAD=$(SANITIZER_LIB) PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=32 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $(VENV)-$(SANITIZER)/bin/python $(PYTEST) $(ARGS)

matrix:     ## the tests on every interpreter at hand, from the source distribution (NEWEST=1: as root, on Debian's 3.14 and 3.15)
	$(if $(NEWEST),.ci/debian sid) .ci/run matrix

portable:   ## as root: the wheel, repaired by auditwheel, on a Debian 12 with python3 and nothing else
	.ci/elsewhere wheel $(ARGS)

aarch64:    ## as root: the units and the contract over TCP on an aarch64 that qemu-user emulates
	.ci/elsewhere aarch64 $(ARGS)

coverage: $(VENV)-coverage/.built  ## which lines of the .pyx files the tests execute
	find build/coverage -name '*.gcda' -delete
	$(VENV)-coverage/bin/python $(PYTEST) $(ARGS)
	$(VENV)-coverage/bin/python .ci/coverage.py build/coverage

annotate: $(VENV)/.test  ## Cython's annotated HTML of each extension, in build/annotate
	$(PIP) wheel --quiet --no-deps --wheel-dir build/annotate . --config-settings=build-dir=build/annotate \
	  --config-settings=cmake.define.PYBUNTCP_ANNOTATE=ON
	@ls build/annotate/*.html

bench: $(VENV)/.bench $(VENV)/.peers peers  ## every benchmark: two hours and a half; a look: ARGS=--quick
	$(PY) benchmarks/run.py $(ARGS)

RESULTS = docs/performance
pages: $(VENV)/.bench  ## fill the pages about performance, the README's table and the pictures, from the result files
	$(PY) benchmarks/run.py --show $(RESULTS)/result.json --plots $(RESULTS) \
	    --page docs/performance.md $(RESULTS)/results.md $(RESULTS)/goals.md README.md
	$(PY) benchmarks/run.py --show $(RESULTS)/asyncio.json $(RESULTS)/asyncio-tls.json --plots $(RESULTS) \
	    --page docs/performance-asyncio.md $(RESULTS)/results-asyncio.md

instructions: $(VENV)/.test  ## instructions a message beside the stored figures, by valgrind (ARGS=--store accepts them)
	$(PY) benchmarks/instructions.py $(ARGS)

suites: $(VENV)/.test  ## test suites of other projects on our event loop and on asyncio's (ARGS=uvloop picks one)
	$(PY) tests/suites/run.py $(ARGS)

tlsfuzzer: $(VENV)/.test  ## tlsfuzzer's scripts on ours and on Python's ssl (TLSFUZZER=/path of a clone, once)
	TLSFUZZER="$(TLSFUZZER)" $(PY) tests/tlsfuzzer/run.py $(ARGS)

sdist: $(VENV)/.dev    ## dist/*.tar.gz, libuv's source inside
	$(PY) -m build --sdist

wheel: $(VENV)/.dev    ## dist/*.whl, built out of the source distribution
	$(PY) -m build

clean:      ## remove what was built and the virtual environments
	rm -rf build dist wheelhouse $(VENV) $(VENV)-*

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# .venv/.EXTRA: the package, editable, with that extra. What builds it lies in the environment: a build goes on where
# the last one ended.
$(VENV)/.%: $(SOURCES) | $(VENV)/bin/python
	$(PIP) install --quiet cmake ninja $$(sed -n '/^requires = /{s/.*\[//; s/\].*//; s/", "/" "/g; s/"//g; p}' pyproject.toml)
	$(PIP) install --quiet --no-build-isolation --editable '.[$*]'
	@touch $@

# what builds the web pages: the package itself is read, not installed
$(VENV)/.site: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet $$(sed -n '/^docs = /{s/.*\[//; s/\].*//; s/", "/" "/g; s/"//g; p}' pyproject.toml)
	@touch $@

# programs of others, which tests run on our event loop: the extra of the package that is installed, if all have wheels for this Python
$(VENV)/.programs: pyproject.toml | $(VENV)/.test
	-$(PIP) install --quiet --only-binary :all: 'pybuntcp[programs]'
	@touch $@

# peers by pip, which a machine may not be able to have: the report names those that are missing
$(VENV)/.peers: | $(VENV)/.bench
	-for peer in rloop gevent zuvloop rsloop; do $(PIP) install --quiet --only-binary :all: $$peer; done
	@touch $@

$(VENV)-%/.built: $(SOURCES)
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/pip --disable-pip-version-check install --quiet --editable '.[test]' $(APART)
	@touch $@
