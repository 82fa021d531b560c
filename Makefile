# The commands of this project; `make help` lists them. Everything is installed into .venv.
# PYTHON names the interpreter; pip reads its own PIP_* settings.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(notdir $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/pyproject.toml))))
# The demo serves the receiver of notifications, which needs the extra "server".
EDITABLE := -e . $(foreach p,$(PLUGINS),-e plugins/$(p)) -e plugins/dockhand_webhook[server]
PROJECTS := pyproject.toml $(foreach p,$(PLUGINS),plugins/$(p)/pyproject.toml)
CODE := dockhand_core tests benchmarks examples scripts $(foreach p,$(PLUGINS),plugins/$(p)/$(p))
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dockhand-live/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test live servers record lint docs bench packages examples clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python $(PROJECTS)
	@echo "Installing the packages into $(VENV); this takes a minute or more"
	@$(PIP_INSTALL) $(EDITABLE)
	@touch $@

$(VENV)/.test: $(VENV)/.demo constraints.txt
	@$(PIP_INSTALL) $$($(BIN)/python scripts/dependency_group.py test)
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@$(PIP_INSTALL) $$($(BIN)/python scripts/dependency_group.py lint)
	@touch $@

$(VENV)/.release: $(VENV)/.test
	@$(PIP_INSTALL) $$($(BIN)/python scripts/dependency_group.py release)
	@touch $@

$(VENV)/.docs: $(VENV)/.demo constraints.txt
	@$(PIP_INSTALL) $$($(BIN)/python scripts/dependency_group.py docs)
	@touch $@

$(VENV)/.bench: $(VENV)/.demo
	@$(PIP_INSTALL) $$($(BIN)/python scripts/dependency_group.py bench)
	@touch $@

demo: $(VENV)/.demo  ## set up .venv and run the main job (DOCKHAND_BASE_URI=… for a real registry)
	@$(BIN)/python examples/demo.py

test: $(VENV)/.test  ## run all tests; those that need real registries run where these are installed
	$(BIN)/python -m pytest

live: $(VENV)/.test servers  ## install real registries and run the tests that need them
	CI=true $(BIN)/python -m pytest -m live

servers:  ## install real registries: from Debian (as root), and Distribution 3.1 with Go
	@PYTHON=$(BIN)/python sh scripts/servers.sh "$(CACHE)"

record: $(VENV)/.test servers  ## record the cassettes again, from real registries
	DOCKHAND_RECORD=1 CI=true $(BIN)/python -m pytest tests/contract

lint: $(VENV)/.lint $(VENV)/.bench  ## run ruff, mypy --strict and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

docs: $(VENV)/.docs  ## build the site in site/, without the network; a warning is an error
	@$(BIN)/python scripts/build_site.py

bench: $(VENV)/.bench  ## measure against other clients and servers, in one run
	$(BIN)/python -m benchmarks

packages: $(VENV)/.release  ## build and check wheels and sdists in dist/, use them on each Python there is
	$(BIN)/python scripts/version.py
	$(BIN)/python scripts/packages.py

examples: $(VENV)/.release  ## test the packages in examples/, each in an environment of its own
	$(BIN)/python scripts/examples.py

clean:  ## remove the environment, caches, builds and the demo's log
	rm -rf $(VENV) dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f dockhand-demo.log
