# Two commands: `make search` runs the main job, `make test` passes the tests.
# Each sets up everything it needs in .venv; nothing is assumed but Python 3.11 to 3.13, make and a
# package index. Another Python: `make search PYTHON=python3.12`.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
STUDY ?= runs/digits-chain
# Seconds of searching. The retrain and the hand-written network, which gets as many seconds as search
# and retrain together, come on top: the whole command stays within three minutes on two cores.
SECONDS_TO_SEARCH ?= 55

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help search smoke test format lint types layers unit notebooks pictures peers clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort

search: $(STAMP) ## the main job: search, retrain and compare on handwritten digits, within 3 minutes
	$(BIN)/bonas search --data digits --space chain --study "$(STUDY)" \
	  --timeout $(SECONDS_TO_SEARCH) --baseline --export "$(STUDY)/export"

smoke: $(STAMP) ## the main job at smoke size, in a folder of its own
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	  $(MAKE) --no-print-directory search STUDY="$$folder/study" SECONDS_TO_SEARCH=8

test: format lint types layers unit notebooks ## everything that must pass

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

# One thread for each of the two workers: more would fight over the two cores.
unit: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not long"

notebooks: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=240 notebooks

pictures: $(STAMP) ## draw the README's picture from a real search
	$(BIN)/bonas search --data digits --study runs/pictures --budget 12 --no-retrain
	$(BIN)/bonas show runs/pictures --plot docs/images/search.png

# Environments that see the packages of .venv behind their own, so that torch is not installed three times.
peers: .venv-peers/.installed .venv-neps/.installed ## install the packages that bonas is compared with

.venv-peers/.installed: benchmarks/peers.txt
.venv-neps/.installed: benchmarks/peers_neps.txt
.venv-%/.installed: $(STAMP)
	$(PYTHON) -m venv .venv-$*
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib")); print("$(CURDIR)")' \
	  > "$$(.venv-$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bonas.pth"
	.venv-$*/bin/python -m pip install --disable-pip-version-check --quiet \
	  -r $(filter benchmarks/%,$^)
	@touch $@

clean: ## remove the environment and caches, never runs/
	rm -rf .venv .venv-peers .venv-neps .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache ./*.egg-info

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v[:2] <= (3, 13) or sys.exit("bonas needs Python 3.11 to 3.13 and this is %d.%d. Name another one: make PYTHON=python3.12 ..." % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "Python's venv module is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into .venv (some minutes and 6 GB the first time, most of it torch)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	@touch $@
