# Headwater: every task a developer or newcomer needs. Only Python 3.11+ and make are assumed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-dev
CODE   := wire origin edge_tier gpu_worker infra tests
PYTEST := $(BIN)/python -m pytest
# One more than there are cores, since system tests mostly wait; each worker runs a fleet for them.
WORKERS = $(shell n=$$(getconf _NPROCESSORS_ONLN); [ $$n -gt 7 ] && echo 8 || echo $$((n + 1)))
# By file, in order: the fixtures of a file are made once, and the system tests, which come first, are
# spread over all workers.
TESTS   = $(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests
# The tests start a few hundred processes of ours; each would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

# Clients that the tests run against us and that cannot live in one environment with the rest. Where
# one is not to be had, its tests are skipped and say so.
beside = -$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(VENV)/clients/$(1) '$(2)'

.PHONY: help venv demo test hunt check format lint types contracts bench bench-artifacts bench-gateway bench-streams bench-peers bench-coldstart bench-roll bench-chaos bench-console bench-quality docs docs-console docs-metrics fuzz-api scale-test clean bench-telemetry bench-cdn lock try-containers try-machines

help:  ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP)  ## A virtual environment with everything, in .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Headwater needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,dev]'
	$(call beside,hf1,huggingface_hub==1.33.0)
	$(call beside,oras,oras==0.2.43)
	@touch $@

demo: $(STAMP)  ## The whole system on this machine, end to end
	$(BIN)/headwater demo

test: $(STAMP)  ## All tests
	$(TESTS)

hunt: $(STAMP)  ## Property tests with forty times the examples, new ones each time
	$(TESTS) --hypothesis-profile hunt -m hypothesis --timeout 1800

check: format lint types contracts test  ## Format, lint, strict types, import contracts, tests with warnings as errors

format: $(STAMP)
	$(BIN)/ruff format --check $(CODE)

lint: $(STAMP)
	$(BIN)/ruff check $(CODE)

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

bench: $(STAMP)  ## The figures of the README (NAMES="gateway pull" for some); results in build/bench
	$(BIN)/python -m tests.benchmarks $(NAMES)

bench-artifacts: $(STAMP)  ## The figures of the artifact plane with their peers, and the plot in docs/figures
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.benchmarks artifacts

bench-gateway: $(STAMP) bench-peers  ## Requests per CPU-second against other gateways, the pipeline alone, and its plot in docs/figures
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.benchmarks gateway

bench-streams: $(STAMP) bench-peers  ## What a relayed event costs, thousands of streams, stalls of the event loop
	$(BIN)/python -m tests.benchmarks streams

bench-peers:  ## The gateways that ours is compared with, in .venv/peers; nginx is the system's
	@test -e $(VENV)/peers/.installed || $(PYTHON) -m venv $(VENV)/peers
	-@test -e $(VENV)/peers/.installed || $(VENV)/peers/bin/pip install --quiet --disable-pip-version-check sglang-router==0.3.2 'litellm[proxy]==1.106.0'
	-@test -e $(VENV)/peers/.installed || ! command -v npm >/dev/null || npm install --silent --prefix $(VENV)/peers/portkey @portkey-ai/gateway@1.15.2
	@test -x $(VENV)/peers/bin/sglang-router && touch $(VENV)/peers/.installed || echo 'sglang-router is not to be had; its rows will say so'

bench-coldstart: $(STAMP)  ## From an empty disk to the first token, beside curl and sha256sum; the last boot as a timeline
	$(BIN)/python -m tests.benchmarks cold_start

bench-roll: $(STAMP)  ## A roll: seconds, bytes, streams under it, a canary that fails, 200 nodes that hear of it
	$(BIN)/python -m tests.benchmarks rolls canary nodes

bench-chaos: $(STAMP)  ## Five minutes of kill -9 at random, under load and rolls
	$(BIN)/python -m tests.benchmarks chaos

scale-test: $(STAMP)  ## Two origins on one bucket, two edges of each plane, three workers: each kind killed under load
	$(BIN)/python -m tests.benchmarks scale

bench-console: $(STAMP)  ## The console's page in Chromium: first paint, CPU under 1,000 changes a second, memory, axe
	$(BIN)/python -m tests.benchmarks console

bench-cdn: $(STAMP)  ## nginx and Varnish in front: bytes of a second pull, a roll, streams; CPU of the EdgeWorker
	$(BIN)/python -m tests.benchmarks cdn

bench-quality: $(STAMP)  ## Answer accuracy against the share sent to the cloud, and the plot in docs/figures
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m tests.benchmarks quality

bench-telemetry: $(STAMP)  ## Metrics through an outage of ten minutes, accelerated; what traces cost
	$(BIN)/python -m tests.benchmarks remote_write traces

lock: $(STAMP)  ## Make infra/docker/*.lock again: what each image installs, pinned as constraints.txt, with hashes
	test -x $(VENV)/lock/bin/uv || ($(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9)
	for tier in origin edge worker; do $(VENV)/lock/bin/uv pip compile --quiet --no-config --native-tls \
	  --constraint constraints.txt --generate-hashes --no-annotate --no-header \
	  --python-version 3.11.0 --python-platform x86_64-manylinux_2_28 \
	  infra/docker/$$tier.in --output-file infra/docker/$$tier.lock || exit; done

try-containers: $(STAMP)  ## Compose as its page says, on a real engine; needs Docker and root (ARGS="--base IMAGE --json")
	$(BIN)/python -m tests.trials.containers $(ARGS)

fuzz-api: $(STAMP)  ## Schemathesis against both tiers, for minutes: no 500, nothing that the documents do not name
	$(BIN)/python -m tests.fakes.api_fuzzing

try-machines: $(STAMP)  ## First boot of an edge and a worker: cloud-init and systemd in systemd-nspawn (Debian 12; as root)
	$(BIN)/python -m tests.trials.machines

docs: $(STAMP)  ## Draw docs/reference again from the code
	$(BIN)/python -m infra.reference
	$(BIN)/python -m infra.grafana.dashboards
	$(BIN)/python -m infra.kubernetes.rules

docs-metrics: $(STAMP)  ## Draw docs/reference/metrics.md again, from a running system
	$(BIN)/python -m tests.fakes.metric_page

docs-console: $(STAMP)  ## Take the console's pictures in docs/figures again (needs Chromium)
	$(BIN)/python -m tests.fakes.console_figures

clean:  ## Remove the environment and all build output
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
