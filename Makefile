# One command each; `make` alone lists them. Works with POSIX sh and GNU make 3.81 or later.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers
ARGS ?=
PYTHON ?=

# Many containers set it. Without bytecode each process compiles JupyterLab, Locust and pandas anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help lab test mutants notebooks site app load bench clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  ARGS passes more arguments on:  make test ARGS='-k server'"
	@echo "  PYTHON names another Python:    make test PYTHON=python3.12"

lab: $(STAMP) ## open the workbook in JupyterLab, with its own Valkey
	@$(BIN)/kvlab lab $(ARGS)

# More workers than two cores: many tests wait for a server, a kernel or a clock.
test: $(STAMP) ## run the tests
	@$(BIN)/python -m pytest -q -n 4 --dist worksteal $(ARGS)

mutants: $(STAMP) ## take each hardening out of a copy, and see the tests fail
	@PYTHONPATH=tests $(BIN)/python -m mutants $(ARGS)

notebooks: $(STAMP) ## build every notebook from its source and execute it
	@$(BIN)/python -m kvlab.workshop.notebooks $(ARGS)

site: $(STAMP) ## write the executed chapters, the games and the findings as web pages
	@$(BIN)/kvlab site $(ARGS)

app: $(STAMP) ## serve the sample web app on loopback, port 8000
	@$(BIN)/python -m kvlab.sample_app $(ARGS)

load: $(STAMP) ## load the rate limiter with Locust, and judge what it admitted
	@$(BIN)/kvlab load rate-limiter $(ARGS)

bench: $(PEERS) ## measure every pattern and its peers, which are installed first
	@$(BIN)/kvlab bench $(ARGS)

clean: ## remove the virtual environment and everything generated in place
	@rm -rf $(VENV) build dist site .import_linter_cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that was copied together with its folder still belongs to the first folder.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

# A Python that is named is used, or refused. An environment of another version is made anew.
ifneq ($(PYTHON),)
VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
NAMED := $(shell $(PYTHON) $(VERSION))
ifeq ($(filter 3.11 3.12 3.13 3.14,$(NAMED)),)
$(error kvlab needs Python 3.11 to 3.14; PYTHON=$(PYTHON) is $(or $(NAMED),no Python that runs))
endif
OTHER := $(filter-out $(NAMED),$(shell $(BIN)/python $(VERSION)))
ifneq ($(OTHER),)
.PHONY: $(STAMP)
endif
endif

# Written last, so that an interrupted install leaves none and is run again.
$(STAMP): requirements.txt pyproject.toml
	@if [ -e $(STAMP) ] && [ "$$(cat $(STAMP))" != "$(CURDIR)" ]; then rm -rf $(VENV); fi
	@if [ -n "$(OTHER)" ]; then \
		echo "$(VENV) has Python $(OTHER): it is made anew with $(NAMED)"; \
		rm -rf $(VENV); \
	fi
	@rm -f $(STAMP)
	@python=; \
	for name in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 python; do \
		if command -v $$name >/dev/null 2>&1 && \
			$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; \
		then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		found=$$(python3 --version 2>/dev/null) || found="no python3 at all"; \
		echo "kvlab needs Python 3.11 to 3.14; on PATH there is $$found" >&2; \
		exit 1; \
	fi; \
	if [ -x $(BIN)/python ] && ! $(BIN)/python -c '' >/dev/null 2>&1; then rm -rf $(VENV); fi; \
	if command -v uv >/dev/null 2>&1; then \
		[ -d "$$HOME" ] && [ -w "$$HOME" ] || export UV_NO_CACHE=1; \
		echo "Installing into $(VENV) with uv and $$($$python --version) ..."; \
		{ [ -x $(BIN)/python ] || uv venv --quiet --python "$$(command -v $$python)" $(VENV); } && \
		uv pip install --quiet --python $(BIN)/python -r requirements.txt; \
	else \
		echo "Installing into $(VENV) with pip and $$($$python --version), a few minutes ..."; \
		{ $(BIN)/python -m pip --version >/dev/null 2>&1 || $$python -m venv --clear $(VENV); } && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt; \
	fi
	@echo "$(CURDIR)" >$(STAMP)

$(PEERS): $(STAMP)
	@echo "Installing the peers into $(VENV) ..."
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --quiet --python $(BIN)/python -e '.[peers]'; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[peers]'; \
	fi
	@touch $(PEERS)
