# Each target sets up what it needs, once. `make` alone lists the targets.

# The uv of this machine if it works (a pyenv shim may not), else one that is installed into .tools.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .tools/bin/uv)
PYTHON := .venv/bin/python
READY := .venv/.ready
# In the slow suites, a test counts as one that hangs after so many seconds.
SLOW := -o faulthandler_timeout=1200
SIMULATORS := build/env/simulators
SEARCH := build/env/search
SPHINX := build/env/docs
OLDEST := build/env/oldest
TORCH := build/torch
ACCELERATORS := build/accelerators

# The machine and the lock file decide what is installed, not the user's settings. uv does not read the settings of
# pip, so it is given the index of pip, and the certificates of the system, which pip trusts too. Without bytecode, each
# start of pytest would rewrite and compile all files of the tests again.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
export UV_NO_CONFIG = 1
export UV_PYTHON_DOWNLOADS = never
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),1)
pip_index = $(or $(PIP_INDEX_URL),$(shell python3 -m pip config get global.index-url 2>/dev/null))
with_index = UV_DEFAULT_INDEX="$(or $(UV_DEFAULT_INDEX),$(UV_INDEX_URL),$(pip_index))"

# The number of experiments that `make reproduce` runs at a time: one for each core.
JOBS ?= $(shell nproc 2>/dev/null || echo 1)

define NO_PYTHON
seqjax needs Python 3.12 or newer, and none was found on this machine.
Install one, then type the same command again:
  apt-get install python3.13 python3.13-venv
or, if your distribution has no such package:
  $(UV) python install 3.13
endef
define NO_UV
seqjax is set up by the program uv. Neither uv nor a python3 with pip, which installs it, was found on this machine.
Install one of them, then type the same command again:
  apt-get install python3-pip
or uv, as https://docs.astral.sh/uv/getting-started/installation says
endef
define NO_SEARCH
The environment was not set up: uv has failed with the error above. Mend it, then type the same command again.
endef
export NO_PYTHON NO_UV NO_SEARCH

.PHONY: help demo test test-all documents simulators search oldest torch accelerators docs slurm browser faults reproduce referee notebooks gallery bench lint types wheel authors lock tree nightly clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /make \1\t/p' Makefile | expand -t 16

demo: $(READY)  ## train a small model on text that comes with Python, and let it generate text
	@.venv/bin/seqjax run

test: $(READY)  ## run the quick tests, which cover every module; ARGS="-k name" chooses some of them
	@$(PYTHON) -m pytest -n 2 --dist worksteal -m "not slow" --limit-programs --durations=10 $(ARGS)

test-all: $(READY)  ## run all tests: also the exhaustive ones, and those of all documents, experiments, claims and crashes
	@$(PYTHON) -m pytest -n 2 --dist worksteal $(SLOW) $(ARGS)

documents: $(READY)  ## run all commands and code of README.md, docs and docstrings, the notebooks and the experiments at a small size
	@$(PYTHON) -m pytest -n 2 --dist worksteal $(SLOW) tests/test_docs.py tests/test_docstring_examples.py \
		tests/test_notebooks.py tests/test_experiments.py $(ARGS)

nightly: test-all authors slurm browser faults simulators search oldest torch accelerators  ## run everything that takes longer than `.ci/run` may

simulators: $(SIMULATORS)/.ready  ## run the tests with jaxley, brax, diffrax and braintrace, installed once in their own environment
	@$(SIMULATORS)/bin/python -m pytest $(SLOW) tests/simulators $(ARGS)

search: $(SEARCH)/.ready  ## run the example of a search for hyper-parameters with optuna, installed once in its own environment
	@$(SEARCH)/bin/python -m pytest $(SLOW) tests/examples $(ARGS)

oldest: $(OLDEST)/.ready  ## run the quick tests of all that computes with the oldest versions of the dependencies
	@$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow" \
		tests/gradients tests/diagnostics tests/models tests/plugins tests/training tests/runs $(ARGS)

torch: $(TORCH)/.ready  ## run the tests with PyTorch, in the environment of `make bench`
	@$(TORCH)/bin/python -m pytest $(SLOW) tests/testing/estimators/test_torch.py $(ARGS)

accelerators: $(ACCELERATORS)/.ready  ## compile programs for an H100 and a v5e, which this machine need not have, and hold what they launch to limits
	@JAX_PLATFORMS=cpu $(ACCELERATORS)/bin/python -m pytest $(SLOW) tests/accelerators
	@$(ACCELERATORS)/bin/python benchmarks/accelerators.py $(ARGS)

docs: $(SPHINX)/.ready  ## build the site of the documents in build/docs, and check it; warnings are errors
	@rm -rf build/docs build/doctrees  # a second build would not repeat the warnings of the first
	@$(SPHINX)/bin/python -m sphinx --quiet --fail-on-warning --jobs 2 --conf-dir docs -d build/doctrees . build/docs
	@SEQJAX_SITE=build/docs $(PYTHON) -m pytest tests/docs/test_site.py $(ARGS)

slurm: $(READY)  ## run the tests that need a Slurm, which root installs and starts here; elsewhere they are skipped
	@trap 'tests/slurm/stop build/slurm' EXIT; trap 'exit 130' INT TERM; \
	line=$$(tests/slurm/start build/slurm) || [ $$? = 77 ] || exit 1; \
	env $${line:+"$$line"} $(PYTHON) -m pytest $(SLOW) tests/slurm $(ARGS)

browser: docs  ## run the tests that need a browser, also of the site; root installs one here, elsewhere they are skipped
	@tests/browser/install || [ $$? = 77 ]; \
	$(PYTHON) -m pytest $(SLOW) tests/browser $(ARGS)

faults: $(READY)  ## make faults on purpose (kills, power cuts, failing disks, changed files), and print how many did harm; ARGS="--only crash"
	@$(PYTHON) tests/faults $(ARGS)

# The referee and the experiment on drift are no part of the chapter.
CHAPTER := $(filter-out experiments/referee.py experiments/drift.py,$(wildcard experiments/*.py))

# Each line of --stale is the name of an experiment and its command. xargs runs JOBS of them at a time, each on a core of
# its own where taskset can bind it to one: a small model gains little from a second core. After a kill, those that have
# a report are not run again. An experiment that fails does not end the others.
reproduce: $(READY)  ## run the experiments of the chapter that have no report of their present code, and write docs/chapter.md; JOBS=1 runs one at a time
	@mkdir -p reports; failed=0; \
	$(PYTHON) docs/join_reports.py --stale $(CHAPTER) | \
		xargs -r -P $(JOBS) -L 1 --process-slot-var=SLOT sh -c ' \
			test $(JOBS) -gt 1 && command -v taskset >/dev/null && bind="taskset -c $$SLOT"; \
			name=$$0; shift; echo "runs     $$name (prints into reports/$$name.txt)"; \
			$$bind $(PYTHON) "$$@" --out reports/$$name >reports/$$name.txt 2>&1 || \
			{ echo "failed   $$name, see reports/$$name.txt" >&2; exit 1; }' || failed=1; \
	$(PYTHON) docs/join_reports.py $(CHAPTER) && exit $$failed

referee: $(READY)  ## compare gradient strategies on tasks with known floors, and write reports/referee/report.md; ARGS="--edition full"
	@$(PYTHON) experiments/referee.py $(ARGS)

notebooks: $(READY)  ## execute the notebooks of docs/notebooks, and write their outputs into their files
	@$(PYTHON) tests/support/notebooks.py

gallery: $(READY)  ## run the scripts of docs/gallery, and write their figures and docs/gallery.md; needs Chromium
	@$(PYTHON) tests/support/gallery.py

bench: $(READY) | $(UV)  ## measure training speed beside PyTorch (installed once, in its own environment) and Flax, also into build/bench.json; ARGS="--cells gru"
	@$(with_index) $(PYTHON) benchmarks/training.py --json build/bench.json $(ARGS)

tree: $(READY)  ## print every file of seqjax, of the plugins and of the experiments with its purpose
	@$(PYTHON) tests/support/tree.py

lint: $(READY)  ## check rules and format with ruff
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check

types: $(READY)  ## check types with mypy
	@$(PYTHON) -m mypy

wheel: $(READY)  ## build the wheel, install it in a new environment, and train with it
	@$(with_index) .ci/wheel $(UV)

# Only the dependencies of a user have their oldest versions in requirements-oldest.lock: extras and tools are the newest
# that go with them.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-header --extra all pyproject.toml $(ARGS)
lock: | $(UV)  ## write all lock files from pyproject.toml; ARGS=--upgrade takes newer versions
	@$(with_index) $(COMPILE) --group dev -o requirements.lock
	@$(with_index) $(COMPILE) --group docs -c requirements.lock -o requirements-docs.lock
	@$(with_index) $(COMPILE) --group simulators -c requirements.lock -o requirements-simulators.lock
	@$(with_index) $(COMPILE) --group search -c requirements.lock -o requirements-search.lock
	@mkdir -p build && rm -f build/oldest.txt  # else its versions would be kept
	@$(with_index) $(UV) pip compile --quiet --universal --python-version 3.12 --resolution lowest-direct pyproject.toml -o build/oldest.txt
	@$(with_index) $(COMPILE) --group dev -c build/oldest.txt -o requirements-oldest.lock

authors: $(READY)  ## write a package of each kind of plugin, install it in a new environment, and run its tests
	@$(with_index) .ci/authors $(UV)

clean:  ## remove all files that make has made
	rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache build dist docs/reference

# pyenv hides all Pythons but its current one, so its folders are added to the end of PATH. Bytecode is compiled here, so
# that the first command need not do it. A second `sync` compiles it, since uv shows nothing meanwhile, and the line has
# to come first.
BYTECODE = Compiling the bytecode of these packages, which may take a minute
$(READY): pyproject.toml requirements.lock | $(UV)
	@export PATH="$$PATH:$$(echo "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin | tr ' ' :)" $(with_index); \
	find="$(UV) python find --system >=3.12"; \
	python=$$($$find 2>/dev/null) || { said=$$($$find 2>&1); \
		case $$said in *"No interpreter found"*) echo "$$NO_PYTHON";; *) echo "$$said"; echo "$$NO_SEARCH";; esac >&2; exit 2; }; \
	set -e; echo "Setting up .venv with $$python (once): the packages of requirements.lock"; \
	rm -rf .venv; $(UV) venv --quiet --python "$$python" .venv; \
	$(UV) pip sync --python $(PYTHON) --require-hashes requirements.lock; \
	echo "$(BYTECODE)"; $(UV) pip sync --quiet --python $(PYTHON) --compile-bytecode --require-hashes requirements.lock; \
	$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .; \
	$(UV) pip check --quiet --python $(PYTHON) || { echo 'requirements.lock is older than pyproject.toml. Type: make lock' >&2; exit 2; }; \
	touch $@

# An environment beside .venv with the same versions: requirements-%.lock is made with requirements.lock as its constraint.
build/env/%/.ready: pyproject.toml requirements-%.lock | $(READY) $(UV)
	@export $(with_index); set -e; echo "Setting up $(@D) (once): the packages of requirements-$*.lock"; \
	rm -rf $(@D); $(UV) venv --quiet --python $(PYTHON) $(@D); \
	$(UV) pip sync --python $(@D)/bin/python --require-hashes requirements-$*.lock; \
	echo "$(BYTECODE)"; $(UV) pip sync --quiet --python $(@D)/bin/python --compile-bytecode --require-hashes requirements-$*.lock; \
	$(UV) pip install --quiet --python $(@D)/bin/python --no-deps --no-build-isolation --editable .; \
	$(UV) pip check --quiet --python $(@D)/bin/python || { echo 'requirements-$*.lock is older than pyproject.toml. Type: make lock' >&2; exit 2; }; \
	touch $@

# PyTorch has no lock file: its packages differ from machine to machine, and take gigabytes on some.
$(TORCH)/.ready: pyproject.toml requirements.lock | $(READY) $(UV)
	@export $(with_index); set -e; echo "Setting up $(@D) (once): PyTorch, and the packages of requirements.lock"; \
	$(PYTHON) -c 'import sys; sys.path.insert(0, "benchmarks"); import training; training.torch_python()'; \
	$(UV) pip install --quiet --python $(@D)/bin/python --constraint requirements.lock --editable . --group dev; \
	touch $@

# The compilers for devices take 5 GB, and differ from machine to machine, so that they have no lock file.
$(ACCELERATORS)/.ready: pyproject.toml requirements.lock | $(READY) $(UV)
	@export $(with_index); set -e; echo "Setting up $(@D) (once): the compilers for CUDA and TPU, and the packages of requirements.lock"; \
	rm -rf $(@D); $(UV) venv --quiet --python $(PYTHON) $(@D); \
	$(UV) pip install --quiet --python $(@D)/bin/python --constraint requirements.lock --editable '.[cuda,tpu]' --group dev; \
	touch $@

.tools/bin/uv:
	@python3 -m pip --version >/dev/null 2>&1 || { echo "$$NO_UV" >&2; exit 2; }; \
	PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --target .tools uv
