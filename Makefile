# Every command of the project, for people, hooks and CI alike.
.DEFAULT_GOAL := help
.PHONY: help install demo demo-stop demo-clean build base-images up down logs ps destroy backup restore test check-cases chaos test-infra tools e2e-services e2e-kubernetes check format manifests docs lock bench-quality bench-loop bench-drift bench-serving bench-rollout clean

# A run has many processes, and without bytecode each of them would compile every library. Empty means that bytecode is written.
export PYTHONDONTWRITEBYTECODE :=

# A value as one word of the shell, whatever spaces, quotes and dollar signs it holds: $(call quoted,$(value DATA)).
quoted = '$(subst ','\'',$1)'
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)

PYTHON ?= python3
VENV ?= .venv
BIN := $(call quoted,$(VENV)/bin)
UV := $(BIN)/uv
STAMP := $(subst $(SPACE),\$(SPACE),$(VENV)/.installed)
# DATA is a path or URL of the data set; without it the demo asks the UCI archive.
DATA ?=
# KEEP=1 leaves the services of the demo running.
KEEP ?=

help:  ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(STAMP)  ## Virtual environment with the locked versions

$(STAMP): requirements.lock requirements.uv.lock pyproject.toml
	@$(call quoted,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Say make PYTHON=python3.11")'
	$(call quoted,$(PYTHON)) -m venv $(call quoted,$(VENV))
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.uv.lock
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(call quoted,$(VENV)/.installed)

demo: $(STAMP)  ## The whole system on real data: make demo [DATA=file] [KEEP=1]
	$(BIN)/healthpredict demo $(if $(value DATA),--source $(call quoted,$(value DATA))) $(if $(KEEP),--keep)

demo-stop: $(STAMP)  ## End what a demo with KEEP=1 left running
	$(BIN)/healthpredict demo --stop

demo-clean: demo-stop  ## Delete the data of the demo, so that the next one starts from nothing
	rm -rf var/demo reports

COMPOSE := docker compose -f docker-compose/compose.yaml $(if $(AWS),-f docker-compose/compose.aws.yaml)

build:  ## Images and passwords of the services
	@docker-compose/make-secrets
	@docker-compose/pin-base-images docker-compose/.env
	HEALTHPREDICT_GIT_COMMIT=$$(git rev-parse HEAD 2>/dev/null) $(COMPOSE) build

base-images:  ## Pull newer base images and pin their digests in docker-compose/.env, for the next build
	@docker-compose/make-secrets
	docker-compose/pin-base-images docker-compose/.env renew

up: build  ## The services for a team, in Docker: build, start, set up; AWS=1 for data on S3
	$(COMPOSE) up --detach --wait --remove-orphans
	$(COMPOSE) run --rm setup
	@echo "Prefect http://127.0.0.1:4200, MLflow http://127.0.0.1:5000; user admin, passwords in docker-compose/secrets"

down:  ## End the services; data stays
	$(COMPOSE) --profile '*' down

logs:  ## What the services say: make logs [SERVICE=mlflow]
	$(COMPOSE) logs --follow --tail 100 $(if $(value SERVICE),$(call quoted,$(value SERVICE)))

ps:  ## How the services are
	$(COMPOSE) ps

destroy:  ## End the services and forget all data, models and runs; asks first
	@printf 'All data, models, runs, the ledger and the nightly backups in the volumes will be gone. Type destroy to go on: ' \
		&& read -r answer && [ "$$answer" = destroy ] || { echo 'Nothing was changed.'; exit 1; }
	$(COMPOSE) --profile '*' down --volumes

backup:  ## Databases, ledger, data, models and keys into one file: make backup [TO=folder or s3://bucket/prefix]
	@COMPOSE='$(COMPOSE)' docker-compose/backup $(call quoted,$(value TO))

restore:  ## A backup, by default the newest, into services that hold nothing yet: make restore [FILE=...]
	@docker-compose/make-secrets
	@COMPOSE='$(COMPOSE)' docker-compose/restore $(call quoted,$(value FILE))

# Three processes, because tests often wait for a server. One thread of BLAS in each: on busy cores, more wait for each other.
test: export OPENBLAS_NUM_THREADS := 1
test: $(STAMP)  ## All tests
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

check-cases: $(STAMP)  ## What people hand in, through the command line and the API: make check-cases CASES=folder
	$(BIN)/python -m tests.cases $(call quoted,$(value CASES))

chaos: $(STAMP)  ## Lost responses, kills and half-copied files: nothing may be lost or claimed falsely
	$(BIN)/python -m benchmarks.chaos

test-infra: $(STAMP)  ## The tests that concern AWS; those whose tools are missing are skipped with a reason
	$(BIN)/python -m pytest -rs --numprocesses 2 --dist loadfile tests/infra tests/cloud

tools: $(STAMP)  ## checkov and parliament, in an environment of their own, because checkov pins other versions of what we use
	$(UV) venv --quiet --allow-existing .venv-infra
	$(UV) pip install --quiet --python .venv-infra/bin/python checkov==3.3.30 parliament==1.6.4 setuptools==80.9.0

e2e-services: $(STAMP)  ## Prefect server, workers and deployments, run through once
	$(BIN)/python -m pytest -m e2e --numprocesses 2 --dist loadfile tests/e2e

e2e-kubernetes: $(STAMP)  ## Rollouts on a real cluster: make e2e-kubernetes HEALTHPREDICT_KUBECONFIG=file
	$(BIN)/python -m pytest -rs -m kubernetes tests/kubernetes

check: $(STAMP)  ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# With kubectl, which a worker does not have: what is rendered is part of the source.
manifests:  ## Render the Kubernetes objects in k8s/, after a change of the files there
	for folder in administrator overlays/local overlays/minikube; do kubectl kustomize k8s/$$folder >k8s/$$folder/rendered.yaml || exit; done

# In an environment of its own, so that the pages can use the newest versions of libraries that the system pins.
.venv-docs/.installed: requirements.docs.lock $(STAMP)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-docs
	$(UV) pip install --quiet --python .venv-docs/bin/python --require-hashes -r requirements.docs.lock
	@touch $@

# Without --quiet, which hides warnings also from --strict.
docs: .venv-docs/.installed  ## The documentation as pages that need no network, in build/docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	$(BIN)/python -m tests.check_pages build/docs

bench-quality: $(STAMP)  ## How good the predictions are, on the real data
	$(BIN)/python -m benchmarks.quality $(if $(value DATA),--data $(call quoted,$(value DATA)))

bench-loop: $(STAMP)  ## Where the time goes
	$(BIN)/python -m benchmarks.loop $(if $(value DATA),--data $(call quoted,$(value DATA)))

# In an environment of its own, because NannyML asks for other versions than ours.
.venv-nannyml/.installed: $(STAMP)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-nannyml
	$(UV) pip install --quiet --python .venv-nannyml/bin/python nannyml==0.13.1 statsmodels==0.15.0
	@touch $@

bench-drift: .venv-nannyml/.installed  ## How often drift is reported in data without drift and with planted drift
	$(BIN)/python -m benchmarks.drift $(if $(value DATA),--data $(call quoted,$(value DATA)))

bench-serving: $(STAMP)  ## CPU per prediction beside MLflow's server and the web framework alone
	$(BIN)/python -m benchmarks.serving

bench-rollout: $(STAMP)  ## From promote to verified, and back, on the cluster of e2e-kubernetes
	$(BIN)/python -m pytest -s -m kubernetes tests/kubernetes/bench_rollout.py

LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--quiet --custom-compile-command "make lock"

lock: $(STAMP)  ## Update the pinned versions, without a download address
	$(LOCK) --extra aws --extra dev --output-file requirements.lock pyproject.toml
	$(LOCK) --no-annotate --output-file requirements.uv.lock --group pyproject.toml:uv
	$(LOCK) --no-annotate --output-file requirements.docs.lock --group pyproject.toml:docs
	# The same versions for the images: of the API, of MLflow, of the workers, and of the workers' with a notebook.
	for group in serving tracking; do $(LOCK) --constraints requirements.lock --no-annotate \
		--output-file requirements.$$group.lock --group pyproject.toml:$$group || exit; done
	$(LOCK) --constraints requirements.lock --no-annotate --output-file requirements.worker.lock pyproject.toml
	$(LOCK) --constraints requirements.lock --no-annotate --output-file requirements.notebook.lock --group pyproject.toml:notebook

clean:  ## Remove the environment and caches
	rm -rf $(call quoted,$(VENV)) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
