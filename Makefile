# What the README names. Everything is installed into .venv; PIP_* settings are pip's own.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := dockhand_distribution dockhand_zot dockhand_embedded dockhand_auth_basic dockhand_auth_bearer dockhand_auth_apikey
PLUGINS += dockhand_auth_jwt
PLUGINS += dockhand_token_server
PLUGINS += dockhand_auth_token
PLUGINS += dockhand_webhook dockhand_celery
# the demo serves what the registry tells
EDITABLE := -e . $(foreach p,$(PLUGINS),-e plugins/$(p)) -e plugins/dockhand_webhook[server]
PROJECTS := pyproject.toml $(foreach p,$(PLUGINS),plugins/$(p)/pyproject.toml)
CODE := dockhand_core tests benchmarks examples scripts $(foreach p,$(PLUGINS),plugins/$(p)/$(p))
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dockhand-live/bin

.PHONY: help demo test live record lint bench packages clean

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(PROJECTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(EDITABLE)
	@touch $@

$(VENV)/.test: $(VENV)/.demo constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  $$($(BIN)/python scripts/group.py test)
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  $$($(BIN)/python scripts/group.py lint)
	@touch $@

$(VENV)/.bench: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  $$($(BIN)/python scripts/group.py bench)
	@touch $@

demo: $(VENV)/.demo  ## set up, and run the main job (DOCKHAND_BASE_URI=… for a real registry)
	@$(BIN)/python examples/demo.py

test: $(VENV)/.test  ## every test; those with real registries where these are installed
	$(BIN)/python -m pytest

live: $(VENV)/.test servers  ## install real registries, and run the tests that need them
	CI=true $(BIN)/python -m pytest -m live

.PHONY: servers
servers:  ## install real registries: Debian's as root, Distribution 3.1 where Go is
	@PYTHON=$(BIN)/python sh scripts/servers.sh "$(CACHE)"

record: $(VENV)/.test servers  ## record the cassettes anew from real registries
	DOCKHAND_RECORD=1 CI=true $(BIN)/python -m pytest tests/contract

lint: $(VENV)/.lint $(VENV)/.bench  ## ruff, mypy --strict, the arrows between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## ratios against peers, in one run
	$(BIN)/python -m benchmarks

packages: $(VENV)/.test  ## build every wheel, and use each plugin alone in an empty environment
	$(BIN)/python scripts/packages.py

clean:  ## remove what was installed and built
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
