# Every command of the project, for people, hooks and CI alike.
.DEFAULT_GOAL := help
.PHONY: help install demo demo-fhir demo-stop demo-clean build base-images doctor up down logs ps destroy backup restore test test-versions check-cases chaos test-infra tools e2e-services e2e-kubernetes e2e-story e2e-pulumi rehearse-host check format manifests docs lock bench-quality bench-loop bench-drift bench-serving bench-fhir bench-scale bench-rollout clean

# Let Python write bytecode. Otherwise each of the many processes of a run would compile every library again.
export PYTHONDONTWRITEBYTECODE :=

# $(call quoted,$(value DATA)) is the value as one word of the shell, with any spaces, quotes and dollar signs.
quoted = '$(subst ','\'',$1)'
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)

PYTHON ?= python3
VENV ?= .venv
BIN := $(call quoted,$(VENV)/bin)
UV := $(BIN)/uv
STAMP := $(subst $(SPACE),\$(SPACE),$(VENV)/.installed)
# Path or URL of the data set. By default, the demo downloads it from the UCI archive.
DATA ?=
# Folder of a FHIR export. By default, the benchmark exports synthetic encounters.
EXPORT ?=
# Of test-versions: which Python, `highest` or `lowest-direct`, a file of versions that come first, and folders or files of tests.
TEST_PYTHON ?= $(PYTHON)
RESOLUTION ?= highest
OVERRIDES ?=
TESTS ?=
# UPGRADE=1 replaces pinned versions by the newest.
UPGRADE ?=
# Share of readmissions that interventions prevent in the demo. By default, it has no interventions.
EFFECT ?=
# KEEP=1 leaves the demo's services running.
KEEP ?=

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(STAMP)  ## Create the virtual environment with the locked versions

$(STAMP): requirements.lock requirements.uv.lock pyproject.toml
	@$(call quoted,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Run: make PYTHON=python3.11 install")'
	$(call quoted,$(PYTHON)) -m venv $(call quoted,$(VENV))
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.uv.lock
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(call quoted,$(VENV)/.installed)

demo: $(STAMP)  ## Run the whole system on real data: make demo [DATA=file] [EFFECT=0.3] [KEEP=1]
	$(BIN)/healthpredict demo $(if $(value DATA),--source $(call quoted,$(value DATA))) $(if $(value EFFECT),--effect $(call quoted,$(value EFFECT))) $(if $(KEEP),--keep)

demo-fhir: $(STAMP)  ## Import FHIR exports, run the loop and answer an EHR: make demo-fhir [EXPORT=folder] [DATA=file] [KEEP=1]
	$(BIN)/healthpredict demo-fhir $(if $(value EXPORT),$(call quoted,$(value EXPORT))) $(if $(value DATA),--source $(call quoted,$(value DATA))) $(if $(KEEP),--keep)

demo-stop: $(STAMP)  ## Stop the services of demos with KEEP=1
	$(BIN)/healthpredict demo --stop
	$(BIN)/healthpredict demo-fhir --stop

demo-clean: demo-stop  ## Delete the demos' data, so that the next one starts from the beginning
	rm -rf var/demo var/demo-fhir reports

COMPOSE := docker compose -f docker-compose/compose.yaml $(if $(AWS),-f docker-compose/compose.aws.yaml) $(if $(POSTGRES),-f docker-compose/compose.postgres.yaml)

build:  ## Build the services' images and create their passwords
	@docker-compose/make-secrets
	@docker-compose/pin-base-images docker-compose/.env
	HEALTHPREDICT_GIT_COMMIT=$$(git rev-parse HEAD 2>/dev/null) $(COMPOSE) build

base-images:  ## Pull newer base images and pin their digests for the next build
	@docker-compose/make-secrets
	docker-compose/pin-base-images docker-compose/.env renew

# UNCHECKED=1 starts the services in spite of problems.
UNCHECKED ?=

doctor: $(STAMP)  ## Check what the services need on this machine, and name what fixes each problem
	@$(if $(UNCHECKED),,$(BIN)/healthpredict doctor --compose $(call quoted,$(COMPOSE)))

up: doctor  ## Check, build, start and set up the services for a team, in Docker; AWS=1 for data on S3, POSTGRES=1 for your own Postgres
	@$(MAKE) --no-print-directory build
	@$(if $(UNCHECKED),,$(COMPOSE) run --rm --no-deps -T deploy-worker healthpredict doctor --before-start)
	$(COMPOSE) up --detach --wait --remove-orphans
	$(COMPOSE) run --rm setup
	@echo "Prefect http://$$($(COMPOSE) port prefect-server 4200), MLflow http://$$($(COMPOSE) port mlflow 5000); user admin, passwords in docker-compose/secrets"

down:  ## Stop the services; data stays
	$(COMPOSE) --profile '*' down

logs:  ## Follow the services' logs: make logs [SERVICE=mlflow]
	$(COMPOSE) logs --follow --tail 100 $(if $(value SERVICE),$(call quoted,$(value SERVICE)))

ps:  ## Show the state of the services
	$(COMPOSE) ps

destroy:  ## Stop the services and delete all data, models and runs; asks first
	@printf 'This deletes all data, models, runs, the ledger and the nightly backups in the volumes. Type destroy to continue: ' \
		&& read -r answer && [ "$$answer" = destroy ] || { echo 'Nothing was changed.'; exit 1; }
	$(COMPOSE) --profile '*' down --volumes

backup:  ## Back up databases, ledger, data, models and keys: make backup [TO=folder or s3://bucket/prefix]
	@COMPOSE='$(COMPOSE)' docker-compose/backup $(call quoted,$(value TO))

restore:  ## Restore a backup, by default the newest, into empty services: make restore [FILE=...]
	@docker-compose/make-secrets
	@COMPOSE='$(COMPOSE)' docker-compose/restore $(call quoted,$(value FILE))

# Three processes, because tests often wait for a server. One thread of BLAS in each: on busy cores, more wait for each other.
test: export OPENBLAS_NUM_THREADS := 1
test: $(STAMP)  ## Run all tests that need no Docker and no cluster
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-versions: export OPENBLAS_NUM_THREADS := 1
test-versions: $(STAMP)  ## Run tests without the lock: make test-versions [TEST_PYTHON=python3.13] [RESOLUTION=lowest-direct] [OVERRIDES=file] [TESTS=folders]
	$(UV) venv --quiet --clear --python $(call quoted,$(TEST_PYTHON)) .venv-versions
	$(UV) pip install --quiet --python .venv-versions/bin/python --resolution $(RESOLUTION) $(if $(OVERRIDES),--overrides $(OVERRIDES)) --editable '.[aws,dev]'
	.venv-versions/bin/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(TESTS)

check-cases: $(STAMP)  ## Run a folder of files and requests through the command line and the API: make check-cases CASES=folder
	$(BIN)/python -m tests.cases $(call quoted,$(value CASES))

chaos: $(STAMP)  ## Inject lost responses, kills and half-copied files, and check that nothing is lost or reported falsely
	$(BIN)/python -m benchmarks.chaos

test-infra: $(STAMP)  ## Run the tests that concern AWS; those whose tools are missing are skipped with a reason
	$(BIN)/python -m pytest -rs --numprocesses 2 --dist loadfile tests/infra tests/cloud

tools: $(STAMP)  ## Install checkov and parliament, in an environment of their own, because checkov pins other versions
	$(UV) venv --quiet --allow-existing .venv-infra
	$(UV) pip install --quiet --python .venv-infra/bin/python checkov==3.3.30 parliament==1.6.4 setuptools==80.9.0

e2e-services: $(STAMP)  ## Test the services of `make up`: Prefect server, workers and deployments
	$(BIN)/python -m pytest -m e2e --numprocesses 2 --dist loadfile tests/e2e

e2e-kubernetes: $(STAMP)  ## Test rollouts on a real cluster: make e2e-kubernetes HEALTHPREDICT_KUBECONFIG=file HEALTHPREDICT_TEST_REGISTRY=host
	$(BIN)/python -m pytest -rs -m kubernetes tests/kubernetes

e2e-story: $(STAMP)  ## Test the documented steps from `make up` to a second model on a cluster; arguments as for e2e-kubernetes
	$(BIN)/python -m pytest -rs --exitfirst -m story tests/kubernetes

e2e-pulumi: $(STAMP)  ## Test `pulumi up` and `healthpredict cloud` with Pulumi's engine: make e2e-pulumi HEALTHPREDICT_TEST_PULUMI=folder
	$(BIN)/python -m pytest -rs -m pulumi --numprocesses 2 --dist loadfile tests/infra

# One process, because the tests are the chapters of one host's life.
rehearse-host: $(STAMP)  ## Boot the host of AWS in a container, with systemd: make rehearse-host HEALTHPREDICT_TEST_PULUMI=folder
	$(BIN)/python -m pytest -rs --exitfirst -m host tests/host

check: $(STAMP)  ## Check format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Workers have no kubectl, so rendered.yaml is part of the source.
manifests:  ## Render the Kubernetes manifests in k8s/ again, after you changed a file there
	for folder in administrator overlays/local overlays/minikube; do \
		{ echo '# Rendered by `make manifests`. Do not edit.' && kubectl kustomize k8s/$$folder; } >k8s/$$folder/rendered.yaml.partial \
			&& mv k8s/$$folder/rendered.yaml.partial k8s/$$folder/rendered.yaml \
			|| { rm k8s/$$folder/rendered.yaml.partial; exit 1; }; \
	done

# In an environment of its own, because the system pins older versions of some of the same libraries.
.venv-docs/.installed: requirements.docs.lock $(STAMP)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-docs
	$(UV) pip install --quiet --python .venv-docs/bin/python --require-hashes -r requirements.docs.lock
	@touch $@

# Without --quiet, which would also hide warnings from --strict.
docs: .venv-docs/.installed  ## Build the documentation, as pages that need no network, in build/docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --config-file - <docs/mkdocs.yml
	$(BIN)/python -m tests.check_pages build/docs

bench-quality: $(STAMP)  ## Measure the quality of the predictions on the real data
	$(BIN)/python -m benchmarks.quality $(if $(value DATA),--data $(call quoted,$(value DATA)))

bench-loop: $(STAMP)  ## Measure the time of each step of the loop
	$(BIN)/python -m benchmarks.loop $(if $(value DATA),--data $(call quoted,$(value DATA)))

# In an environment of their own, because NannyML and hyppo require other versions than ours.
.venv-peers/.installed: $(STAMP)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-peers
	$(UV) pip install --quiet --python .venv-peers/bin/python nannyml==0.13.1 statsmodels==0.15.0 hyppo==0.5.2
	@touch $@

bench-drift: .venv-peers/.installed  ## Measure how often drift is reported in data without drift and with planted drift
	$(BIN)/python -m benchmarks.drift $(if $(value DATA),--data $(call quoted,$(value DATA)))

# In an environment of its own, because HealthChain pins other versions of some of the same libraries.
.venv-healthchain/.installed: $(STAMP)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-healthchain
	$(UV) pip install --quiet --python .venv-healthchain/bin/python healthchain==0.16.1 uvicorn==0.54.0
	@touch $@

bench-serving: .venv-healthchain/.installed  ## Measure CPU per prediction and card, beside MLflow, HealthChain and the web framework
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.serving_cds

bench-fhir: $(STAMP)  ## Measure the import of a FHIR export: make bench-fhir [EXPORT=folder]
	$(BIN)/python -m benchmarks.fhir $(if $(value EXPORT),--export $(call quoted,$(value EXPORT)))

bench-scale: $(STAMP)  ## Measure the scoring of 10 million rows: one process, our map over a Ray cluster, and ray.data
	$(BIN)/python -m benchmarks.scale

bench-rollout: $(STAMP)  ## Measure rollout and rollback on the cluster of e2e-kubernetes; RUNS=1 only prints the times
	$(BIN)/python -m pytest -s -m kubernetes tests/kubernetes/bench_rollout.py

LOCK := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--quiet --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

lock: $(STAMP)  ## Pin versions again after a change of pyproject.toml; UPGRADE=1 takes the newest of all
	$(LOCK) --extra aws --extra dev --output-file requirements.lock pyproject.toml
	$(LOCK) --no-annotate --output-file requirements.uv.lock --group pyproject.toml:uv
	$(LOCK) --no-annotate --output-file requirements.docs.lock --group pyproject.toml:docs
	# The images of API, MLflow, workers and notebook get the same versions.
	$(LOCK) --constraints requirements.lock --no-annotate --output-file requirements.tracking.lock --group pyproject.toml:tracking
	$(LOCK) --constraints requirements.lock --no-annotate --output-file requirements.worker.lock pyproject.toml
	$(LOCK) --constraints requirements.lock --no-annotate --output-file requirements.notebook.lock --group pyproject.toml:notebook
	# Prefect allows no newer FastAPI than 0.150. The API has no Prefect, so its image takes the newest.
	sed -n '/^fastapi==/d; s/^\([a-z].*\) \\$$/\1/p' requirements.lock \
		| $(LOCK) --constraints - --no-annotate --output-file requirements.serving.lock --group pyproject.toml:serving

clean:  ## Delete virtual environments, caches and built files; data, reports, passwords and the hospital's files stay
	rm -rf $(call quoted,$(VENV)) .venv-docs .venv-healthchain .venv-infra .venv-peers .venv-versions build dist *.egg-info \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
