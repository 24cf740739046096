# Every target installs what it needs first. A machine needs only Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.ready
# The section of samconfig.toml that a deployment uses.
CONFIG_ENV ?= default
COMPILE := uv pip compile -q --universal --generate-hashes --no-header
COMPILE_DEV := $(COMPILE) pyproject.toml --python-version 3.11 --group dev -c functions/requirements.txt -o requirements-dev.lock
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/functions:$(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-parts docs-check check iam-check bench fuzz letter up redeploy down console send invoke deploy outputs delete burst outage capacity faults chaos lock lock-engine clean

help: ## List the targets
	@sed -nE 's/^##@ /\n/p; s/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

##@ Start

setup: $(SETUP) ## Install everything into .venv

# pip installs uv from the lock, then uv installs the rest in seconds.
$(SETUP): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is older or missing. Choose another, for example: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null || \
	  { echo "'$(PYTHON)' cannot create virtual environments. Install its venv module (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	@echo "Setting up $(VENV) (once, about half a minute) ..."
	@awk '/^uv==/{p=1} p{print} p&&!/\\$$/{exit}' requirements-dev.lock > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt && \
	  $(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements-dev.lock && \
	  $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable . || \
	  { echo "The packages could not be installed; the error is above. Behind a proxy set HTTPS_PROXY. With a private"; \
	    echo "certificate authority set SSL_CERT_FILE (uv) and PIP_CERT (pip) to its certificates. Then run this again."; exit 1; }
	@touch $@

demo: $(SETUP) ## Run the whole pipeline here, with an outage, in a minute
	@$(BIN)/python -m local.demo

##@ Test

# The end-to-end tests wait more than they compute, so three of them share two cores. Each permission and each dead letter
# takes some time: make iam-check removes all permissions, this every 60th.
test: check test-parts ## Run every check and every test
	$(BIN)/pytest -n 3 --dist loadfile tests/e2e tests/iam --every 60 --letters 100

test-fast: check test-parts ## Run what a pull request needs
	$(BIN)/pytest -n 3 --dist loadfile -m fast tests/e2e tests/iam

test-parts: $(SETUP)
	$(BIN)/pytest -n 2 --dist loadgroup tests/unit tests/contract tests/integration

docs-check: $(SETUP) ## Run the commands of the documentation
	$(BIN)/python -m local.docs_check

check: $(SETUP) ## Run the static checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy functions local ops benchmarks proof examples

iam-check: $(SETUP) ## Check that each permission is needed, one at a time
	$(BIN)/pytest tests/iam
	$(BIN)/pytest tests/e2e/test_verification.py -k permission

fuzz: $(SETUP) ## Send random data to every input: CASES=number SEED=number
	@$(BIN)/python -m tests.fuzz $(or $(CASES),100000) $(or $(SEED),1)

letter: $(SETUP) ## Write an example of a dead letter: RULE=id of the policy
	@$(BIN)/python -m tests.letter $(RULE)

##@ Run it on this machine

up: $(SETUP) ## Deploy to the local engine and keep it running
	@$(BIN)/python -m local.up

redeploy: $(SETUP) ## Deploy a change, keep the data: SET="NAME=VALUE ..."
	@$(BIN)/python -m local.redeploy $(SET)

down: ## Stop it; with KEEP=1 the next make up has its archive
	@test ! -e $(SETUP) || $(BIN)/python -m local.down $(if $(KEEP),--keep-archive)

console: $(SETUP) ## Show it in a browser
	@$(BIN)/python -m local.console

send: EVENT ?= user
send: $(SETUP) ## Send an event and show what happens: EVENT=user or a file
	@$(BIN)/python -m local.send $(EVENT)

invoke: FUNCTION ?= ProcessorFunction
invoke: EVENT ?= events/processor/mixed-batch.json
invoke: $(SETUP) ## Invoke a function: FUNCTION=... EVENT=... DOCKER=1
	@$(BIN)/python -m local.invoke $(if $(DOCKER),--docker) $(FUNCTION) $(EVENT)

##@ Run it in AWS

deploy: $(SETUP) ## Deploy with samconfig.toml: CONFIG_ENV=prod
	$(BIN)/sam build --config-env $(CONFIG_ENV)
	$(BIN)/sam deploy --config-env $(CONFIG_ENV)

outputs: $(SETUP) ## Show the outputs of the deployed stack
	@$(BIN)/sam list stack-outputs --config-env $(CONFIG_ENV)

delete: $(SETUP) ## Delete the stack, except queues, tables and archive
	$(BIN)/sam delete --config-env $(CONFIG_ENV)

##@ Measure and prove

bench: $(SETUP) ## Compare speed and cost with other handlers: 6 minutes
	@$(BIN)/python -m benchmarks

burst: $(SETUP) ## Process 10,000 events on the local engine
	@$(BIN)/python -m benchmarks.burst

outage: $(SETUP) ## Run two outages, with the circuit breaker and without
	@$(BIN)/python -m benchmarks.outage

capacity: $(SETUP) ## Forecast a launch: RATE= LATENCY= CONCURRENCY= BATCH=
	@$(BIN)/python -m benchmarks.capacity $(if $(RATE),--rate $(RATE)) $(if $(LATENCY),--latency $(LATENCY)) \
	  $(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) $(if $(BATCH),--batch $(BATCH))

faults: $(SETUP) ## Test every call with every fault: an hour, or ONLY=text
	@$(BIN)/python -m proof.faults $(if $(ONLY),--only '$(ONLY)' --results .local/faults.json)

chaos: $(SETUP) ## Send events under random faults: SEED=number MINUTES=
	@$(BIN)/python -m proof.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

##@ Maintain

lock: $(SETUP) ## Upgrade the dependencies, except the local engine
	$(COMPILE) --group functions --python-version 3.13 --upgrade -o functions/requirements.txt
	$(COMPILE_DEV) --upgrade

# The patches in local/engine_patches depend on the engine's version, so it is pinned and upgraded on its own.
lock-engine: $(SETUP) ## Upgrade the local engine: VERSION=number, or the newest
	pin=$$(echo 'ministack$(addprefix ==,$(VERSION))' | uv pip compile -q --no-deps --no-header --no-annotate -) && \
	  sed -i.before "s/ministack==[^\"]*/$$pin/" pyproject.toml && rm pyproject.toml.before
	$(COMPILE_DEV)

clean: down ## Remove everything that was built or installed here
	rm -rf .venv .aws-sam .local .pytest_cache .mypy_cache .ruff_cache .hypothesis
