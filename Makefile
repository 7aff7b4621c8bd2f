# `make demo` and `make test` are complete on a fresh machine: they make .venv, build, and run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SANITIZED := build/sanitize
SOURCES := $(shell find _ext src protos -name '*.pyx' -o -name '*.pxd' -o -name '*.proto') setup.py pyproject.toml

.PHONY: demo test bench bench-save bench-compare sanitize fuzz soak kill-sweep lint build wheel clean help
.DEFAULT_GOAL := help

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.tools: pyproject.toml scripts/system-packages
	@scripts/system-packages $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/.built: $(VENV)/.tools $(SOURCES)
	@$(BIN)/python -m pip install --quiet --no-build-isolation --editable .
	@touch $@

build: $(VENV)/.built ## make .venv and build the package into it, in place

demo: build ## start servers, drive every part of them, kill one, and show what happened
	@$(BIN)/tai-grpc demo

test: build ## every test
	@scripts/test-packages
	@$(BIN)/python -m pytest

# All at once, or else one by one: a package that cannot be installed is reported as such by the benchmark.
$(VENV)/.peers: $(VENV)/.tools
	@$(BIN)/python -m pip install --quiet --group bench || $(BIN)/python -c \
	  'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["bench"], sep="\n")' | \
	  while read -r peer; do $(BIN)/python -m pip install --quiet "$$peer" || true; done
	@touch $@

# BENCH: arguments of tai-grpc bench, as in `make bench BENCH=--quick`. BUILD_SECONDS: how long each peer may be built.
bench: build $(VENV)/.peers ## every figure to reach, beside other implementations; writes bench/RESULTS.md: ten minutes
	@scripts/bench-peers
	@$(BIN)/tai-grpc bench $(BENCH)

SUITE := $(BIN)/python -m pytest bench --benchmark-enable --benchmark-only --benchmark-disable-gc \
  --benchmark-columns=min,median,iqr,ops,rounds --benchmark-sort=name

bench-save: build $(VENV)/.peers ## our own figures by pytest-benchmark, saved as JSON in .benchmarks for bench-compare
	@$(SUITE) --benchmark-autosave

# Of the least of the rounds, which other processes disturb least.
THRESHOLD ?= 30
bench-compare: build $(VENV)/.peers ## against what was saved last: fails when one is slower by more than THRESHOLD=30 %
	@ls .benchmarks/*/*.json >/dev/null 2>&1 || \
	  { echo "bench-compare: nothing was saved to compare with: call make bench-save before the change" >&2; exit 2; }
	@$(SUITE) --benchmark-compare --benchmark-compare-fail=min:$(THRESHOLD)%

# PYTHONMALLOC: Python's own pools would hide an access beside an object. Leaks are not looked for: Python leaves
# memory to the system when it ends. A test asks for more memory than there is, which must give a null pointer.
# --capture=sys: what the sanitizers say reaches the terminal. grpc.aio's own tests are left out, by how their names
# end: ours are of tai_grpc.aio.
sanitize: build ## tests of the compiled parts on a build that stops at a wrong access or undefined behaviour
	@TAI_GRPC_SANITIZE=address,undefined $(BIN)/python setup.py --quiet build \
	  --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	@export LD_PRELOAD="$$(cc -print-file-name=libasan.so)" PYTHONPATH="$(CURDIR)/$(SANITIZED)/lib" \
	  PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	  UBSAN_OPTIONS=print_stacktrace=1; \
	$(BIN)/python -c 'import sys, tai_grpc; sys.exit("$(SANITIZED)" not in tai_grpc.__file__)' && \
	$(BIN)/python -m pytest --capture=sys tests/_ext/primitives tests/_ext/http2 tests/attacks/test_session.py \
	  tests/resilience && \
	$(BIN)/python -m pytest --capture=sys tests/_ext/load -k "not grpcio" && \
	$(BIN)/python -m pytest --capture=sys tests/aio tests/_ext/aio \
	  -k "not -grpc.aio and not [grpc.aio and not memory and not leaks and not soak and not load and not blocking"

EXECUTIONS ?= 1000000
SEED ?= 0
fuzz: build ## spoiled conversations against the HTTP/2 session: 10^6, or EXECUTIONS=n, from SEED=n: minutes
	@$(BIN)/python tests/_ext/http2/fuzz.py --executions $(EXECUTIONS) --seed $(SEED)

# SOAK: arguments of tests/aio/soak.py, as in `make soak SOAK=--calls=10000`.
soak: build ## 10^6 calls, 10^5 cancels, 10^4 reconnects leave no memory, task or descriptor behind: minutes
	@$(BIN)/python tests/aio/soak.py $(SOAK)

kill-sweep: build ## kill a process at every instruction of every operation on shared memory: minutes
	@$(BIN)/python -m pytest tests/_ext/primitives/test_kill_sweep.py --kill-at-every instructions \
	  -o faulthandler_timeout=0

lint: build ## ruff, mypy --strict, cython-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint _ext src/tai_grpc/_ext

wheel: $(VENV)/.tools ## build a wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove everything that was made
	@rm -rf $(VENV) build dist .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache src/*.egg-info
	@find src \( -name '*.so' -o -name '*_pb2*.py' -o -name '*_pb2*.pyi' -o -name __pycache__ \) -prune -exec rm -rf {} +
