# Every target sets itself up first: a machine needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.ready
# Which part of samconfig.toml a deployment takes.
CONFIG_ENV ?= default
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/functions:$(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup demo test docs-check check iam-check bench fuzz up down console invoke deploy outputs delete burst capacity audit faults chaos lock clean

help: ## Show what can be done here
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

setup: $(SETUP) ## Install everything this project needs into .venv

# uv is installed by pip from its own pinned line of the lock, then uv installs the rest in seconds.
$(SETUP): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not: name one, for example: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null || \
	  { echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	@echo "Setting up $(VENV) (once, about half a minute) ..."
	@awk '/^uv==/{p=1} p{print} p&&!/\\$$/{exit}' requirements-dev.lock > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt && \
	  $(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements-dev.lock || \
	  { echo "The packages could not be fetched; the lines above say why. Behind a proxy set HTTPS_PROXY; behind a private"; \
	    echo "certificate authority set SSL_CERT_FILE (uv) and PIP_CERT (pip) to its certificates; then do this again."; exit 1; }
	@touch $@

demo: $(SETUP) ## Run the whole pipeline on the embedded engine and show what happened to every event
	@python -m local.demo

test: check ## Run every check and every test
	pytest tests/unit tests/contract tests/integration
	pytest -n 2 --dist loadfile tests/e2e tests/iam --every 8

docs-check: $(SETUP) ## Run the commands of the documents against the application on this machine
	python -m local.docs_check

check: $(SETUP) ## Run the static checks only
	ruff check .
	ruff format --check .
	mypy functions local ops benchmarks proof

bench: $(SETUP) ## Measure speed and cost against what others would write (about five minutes, two quiet cores)
	@python -m benchmarks

iam-check: $(SETUP) ## Take away every permission, one at a time, and see that each is missed
	pytest tests/iam

fuzz: $(SETUP) ## Throw CASES cases (SEED for another draw) at every surface over which foreign data comes in
	@python -m tests.fuzz $(or $(CASES),100000) $(or $(SEED),1)

up: $(SETUP) ## Deploy to the embedded engine and keep it running
	@python -m local.up

down: ## End what make up started
	@test ! -e $(SETUP) || python -m local.down

console: $(SETUP) ## Look at what make up started, in a browser
	@python -m local.console

invoke: FUNCTION ?= ProcessorFunction
invoke: EVENT ?= events/processor/mixed-batch.json
invoke: $(SETUP) ## Invoke a function of the built artifact with an event: FUNCTION=... EVENT=events/...
	@python -m local.invoke $(FUNCTION) $(EVENT)

deploy: $(SETUP) ## Deploy to AWS as samconfig.toml says (make deploy CONFIG_ENV=prod)
	sam build --config-env $(CONFIG_ENV)
	sam deploy --config-env $(CONFIG_ENV)

outputs: $(SETUP) ## Show the outputs of the deployed stack
	@sam list stack-outputs --config-env $(CONFIG_ENV)

delete: $(SETUP) ## Delete the stack from AWS; queues, tables and the archive stay
	sam delete --config-env $(CONFIG_ENV)

burst: $(SETUP) ## Drain 10,000 events at once on the embedded engine, against handlers that do less
	@python -m benchmarks.burst

capacity: $(SETUP) ## Forecast a launch: make capacity RATE=10000 LATENCY=80 CONCURRENCY=10 BATCH=10 (a minute; ms a batch)
	@python -m benchmarks.capacity $(if $(RATE),--rate $(RATE)) $(if $(LATENCY),--latency $(LATENCY)) \
	  $(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) $(if $(BATCH),--batch $(BATCH))

audit: $(SETUP) ## Say where events are: IDS=file, or FROM=time TO=time; STACK=name looks on AWS
	@$(if $(STACK),,. .local/env && )python -m ops.audit $(if $(IDS),--ids $(IDS)) $(if $(FROM),--from $(FROM)) $(if $(TO),--to $(TO)) $(if $(STACK),--stack $(STACK))

faults: $(SETUP) ## Play every call with every fault, one at a time (half an hour): ONLY=text plays a part
	@python -m proof.faults $(if $(ONLY),--only '$(ONLY)' --results .local/faults.json)

chaos: $(SETUP) ## Send events under random faults and audit all the time: SEED=number MINUTES=number
	@python -m proof.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

lock: $(SETUP) ## Resolve the dependencies again and write the lock files
	uv pip compile -q pyproject.toml --universal --python-version 3.13 --generate-hashes --no-header --upgrade -o functions/requirements.txt
	uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header --upgrade -c functions/requirements.txt -o requirements-dev.lock
	uv pip compile -q --group checkov --universal --python-version 3.11 --generate-hashes --no-header --upgrade -o requirements-checkov.lock

clean: down ## Remove everything that was built or installed here
	rm -rf .venv .aws-sam .local .pytest_cache .mypy_cache .ruff_cache .hypothesis
