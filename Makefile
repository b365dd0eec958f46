PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := .venv-peers

.PHONY: setup browser demo test check bench bench-peers soak clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Market Agent needs Python 3.11 or newer: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

# The main job on real prices, in a home of its own that starts empty each time.
demo: setup
	@rm -rf demo
	@PATH="$(CURDIR)/$(BIN):$$PATH" MA_HOME="$(CURDIR)/demo" sh docs/demo.sh

# The tests of --report look at its page in a real browser, which no Python package brings.
browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium, for the tests of --report"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else \
		echo "make test needs Chromium: put chromium or google-chrome on your PATH (Debian: sudo apt-get install chromium)" >&2; \
		exit 1; \
	fi

test: setup browser
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: setup
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Beside other backtesters, which are installed into an environment of their own.
bench-peers: setup $(PEERS)/.installed
	@for file in benchmarks/peers.py benchmarks/correctness.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

$(PEERS)/.installed: benchmarks/peers.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement benchmarks/peers.txt
	@touch $(PEERS)/.installed

soak: setup browser
	$(BIN)/python -m pytest -m soak --timeout 3600

clean:
	rm -rf $(VENV) $(PEERS) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
