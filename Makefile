# `make` lists what there is. Everything runs in a virtual environment of its own, .venv, made on
# the way; PYTHON=... chooses the interpreter, 3.11 or newer. BUILD=debug or sanitize takes a core
# that is built so (see setup.py), in an environment of that name.

BUILD :=
VENV := .venv$(if $(BUILD),-$(BUILD))
BIN := $(VENV)/bin
# What the compiled core is made from: a change here installs it anew.
CORE := pyproject.toml setup.py $(wildcard $(foreach end,pyx pxd h,\
	src/fastpagemap/*.$(end) src/fastpagemap/*/*.$(end)))
MODULES := $(subst /,.,$(patsubst src/%.pyx,%,$(filter %.pyx,$(CORE))))
ARGS :=
SECONDS := 600
SEED :=
# What the other builds are tested by: what runs the compiled core. Swap of one kind is enough.
TESTS_debug = $(call files,arguments core entry mapping maps pagecache pagemap ranges reading regions \
	residency span states states_shared sums accesses tracking usage usage_of usage_of_files walk \
	walk_limits) \
	-k "not swapfile"
# Left out: whatever looks at all of this process, in which AddressSanitizer reserves 20 TiB (it
# takes minutes, or more memory than there is; its end is no stack); dd, which calls aligned_alloc as
# that refuses; downstream again, slow to compile.
# A sanitizer writes its report to descriptor 2 and ends the process, so pytest must not capture that.
TESTS_sanitize = $(call files,arguments core entry mapping maps pagecache reading regions \
	residency span states states_shared accesses tracking walk walk_limits) -k "not swapfile \
	and not of_a_whole_address_space and not borders_are_never_crossed \
	and not end_of_the_address_space and not a_file_saved_with_dd \
	and not sampler_in_the_docs" --capture=sys
files = $(foreach name,$1,tests/test_$(name).py)
# Every malloc is AddressSanitizer's, which compilers are better off without; Python never frees all.
ENVIRONMENT_sanitize = CC="env LD_PRELOAD= cc" CXX="env LD_PRELOAD= c++" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=512 \
	UBSAN_OPTIONS=print_stacktrace=1 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)"

export FASTPAGEMAP_BUILD := $(BUILD)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo docs linkcheck manual postgres questions tracking comparison privileges test debug sanitize torture valgrind test-kernels test-musl lint bench wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' Makefile | expand -t 21

demo: $(VENV)/.core ## make every kind of memory in a child process, and show it (root: swap, too)
	@PYTHONPATH=tests $(BIN)/python examples/demo.py

postgres: $(VENV)/.test ## swap PostgreSQL's shared buffers out; count and draw it (root)
	@PYTHONPATH=tests $(BIN)/python examples/postgres.py

docs: $(VENV)/.docs ## build the site into build/docs/html; a warning fails it
	rm -rf build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet \
		-d build/docs/doctrees docs build/docs/html
	$(BIN)/python docs/check_site.py build/docs/html
	@echo "build/docs/html/index.html"

linkcheck: $(VENV)/.docs ## ask for every link of the site that leads elsewhere (network)
	$(BIN)/python -m sphinx -b linkcheck --keep-going --quiet \
		-d build/docs/doctrees docs build/docs/linkcheck

manual: $(VENV)/.core ## make docs/cli.md and docs/fastpagemap.1 anew, from what --help says
	$(BIN)/python docs/manual.py > $(VENV)/cli.md
	$(BIN)/python docs/man_page.py > $(VENV)/fastpagemap.1
	mv $(VENV)/cli.md $(VENV)/fastpagemap.1 docs

test: $(VENV)/.test ## run the tests (ARGS="-k maps -x" goes to pytest)
	$(ENVIRONMENT_$(BUILD)) $(BIN)/python -m pytest $(TESTS_$(BUILD)) $(ARGS)

debug: ## run the core's tests on a build with bounds checks and assertions
	$(MAKE) --no-print-directory test BUILD=debug

sanitize: ## run them on a build with gcc's sanitizers of addresses and undefined behaviour
	$(MAKE) --no-print-directory test BUILD=sanitize

questions: $(VENV)/.test ## docs/questions.md anew (root; postgresql, redis-server, a JRE, smem)
	@PYTHONPATH=tests $(BIN)/python docs/questions.py > $(VENV)/questions.md
	@mv $(VENV)/questions.md docs/questions.md

.PHONY: comparison
comparison: $(VENV)/.test ## docs/comparison.md anew (root; procps, smem)
	@PYTHONPATH=tests:benchmarks $(BIN)/python docs/comparison.py

tracking: $(VENV)/.test ## docs/tracking.md anew, with what this kernel does (root)
	$(BIN)/python docs/tracking.py > docs/tracking.md.part
	mv docs/tracking.md.part docs/tracking.md

privileges: $(VENV)/.test ## the table of docs/howto/privileges.md anew (root)
	$(BIN)/python docs/privileges.py

torture: $(VENV)/.test ## attack it for SECONDS=600, from SEED=... or anew (ARGS="differential faults": those alone)
	$(ENVIRONMENT_$(BUILD)) $(BIN)/python tests/torture --seconds $(SECONDS) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

# Python's own optimized code fails the check of values; and see tests/torture/_valgrind.py.
valgrind: $(VENV)/.test ## run every call of the core under valgrind
	PYTHONMALLOC=malloc valgrind --quiet --error-exitcode=9 --undef-value-errors=no \
		--suppressions=tests/torture/_valgrind.supp $(BIN)/python tests/torture/_valgrind.py

test-kernels: $(VENV)/.test $(VENV)/.build ## on other kernels, as root (KERNELS="6.1 7" SELECT=quick|whole RUN=... JOBS=1)
	PATH=$(CURDIR)/$(BIN):$$PATH PYTEST_ADDOPTS="$(ARGS)" $(BIN)/python tests/kernels \
		$(if $(SELECT),--select $(SELECT)) $(if $(JOBS),--jobs $(JOBS)) $(if $(RUN),--run "$(RUN)") $(KERNELS)

test-musl: $(VENV)/.test $(VENV)/.build ## build the wheel for musl and run its tests (x86-64, Debian; root: swap, too)
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python tests/kernels/musl.py

lint: $(VENV)/.lint ## check style, types, layers, stubs, and the forms of the project's own files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH=$(BIN):$$PATH pyright --ignoreexternal --outputjson --verifytypes fastpagemap \
		| $(BIN)/python tests/complete_types.py
	$(BIN)/lint-imports --no-cache
	$(BIN)/stubtest $(MODULES)
	PATH=$(BIN):$$PATH cython-lint src/fastpagemap
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))

bench: $(VENV)/.bench ## measure against C loops and other tools, draw the chart (QUICK=1: in seconds)
	$(BIN)/python benchmarks $(if $(QUICK),--quick) $(ARGS)

# Repaired, the wheel has the tag of the oldest C library that it runs with. The time of the last
# commit, and not today's, is in both files: who builds them again gets the same bytes.
wheel: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)
wheel: $(VENV)/.build ## build the sdist and, from it, the wheel for an index, into dist/; check both
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir build/wheel .
	PATH=$(BIN):$$PATH auditwheel repair --wheel-dir dist build/wheel/*.whl
	mv build/wheel/*.tar.gz dist
	$(BIN)/abi3audit --strict --summary dist/*.whl
	$(BIN)/twine check --strict dist/*

clean: ## remove whatever the other targets made
	rm -rf .venv .venv-debug .venv-sanitize build dist src/*.egg-info
	find src -name "*.so" -delete -o -name "*.c" -delete
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/.hypothesis
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

# The stamps: .pip is the bare environment, .core has fastpagemap in it, editable; the others add
# the dependency group of their name.

$(VENV)/.pip:
	@found=; \
	for python in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "missing: Python 3.11 or newer (tried: $${PYTHON:-python3 and python3.11 to 3.14})." \
			"On Debian 12 or newer: apt install python3 python3-venv python3-dev gcc" >&2; \
		exit 1; \
	fi; \
	"$$found" -c "$$CHECK" || exit 1; \
	"$$found" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.core: $(VENV)/.pip $(CORE)
	$(BIN)/python -m pip install --quiet $(if $(BUILD),,--editable) '.[cli]'
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.bench $(VENV)/.build $(VENV)/.docs: $(VENV)/.%: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --group $*
	@touch $@

# Say at once and in one line what a bare machine lacks, instead of a compiler's error later.
define CHECK
import os, shlex, shutil, subprocess, sys, sysconfig
lacking, packages = [], []
def lack(what, package):
    lacking.append(what)
    packages.append(package)
python = "python%d.%d" % sys.version_info[:2]
try:
    import ensurepip, venv
except ImportError:
    lack("Python's venv", python + "-venv")
cc = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
if shutil.which(cc[0]) is None:
    lack("a C compiler (%s)" % cc[0], "gcc libc6-dev")
elif subprocess.run(cc + ["-E", "-"], input=b"#include <linux/types.h>\n",
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
    lack("the C library's headers", "libc6-dev")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    lack("Python's headers", python + "-dev")
if lacking:
    sys.exit("missing: %s. On Debian: apt install %s" % (", ".join(lacking), " ".join(packages)))
endef
export CHECK
