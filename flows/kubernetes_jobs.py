"""The job template of a work pool of type kubernetes: each flow run is a Job, which Prefect's own worker in the cluster creates."""

from __future__ import annotations

from typing import Any

from healthpredict.config import Settings
from healthpredict.errors import ConfigurationError

_PLACEHOLDERS = ("name", "command", "labels", "env")
_TEMPORARY_FILES = "4Gi"
_SHARED_MEMORY = "512Mi"
"""As in docker-compose/compose.yaml, for Ray."""


def kubernetes_template(settings: Settings, environment: dict[str, Any]) -> dict[str, Any]:
    """Return the job template.

    Args:
        settings: those of the pods.
        environment: JSON schema of the variable `env`, whose default are the settings that a team changes.

    Raises:
        ConfigurationError: pods cannot reach the data.
    """
    for name, uri in (("DATA_URI", settings.data_uri), ("REPORTS_URI", settings.reports_uri)):
        if not uri.startswith("s3://"):
            raise ConfigurationError(
                f"Pods of Kubernetes cannot reach the folder {uri}: set HEALTHPREDICT_{name} to s3://bucket/prefix."
            )
    return {
        "job_configuration": {
            **{name: f"{{{{ {name} }}}}" for name in _PLACEHOLDERS},
            "namespace": settings.work_pool.namespace,
            "stream_output": False,
            "job_manifest": _manifest(settings),
        },
        "variables": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "title": "Name"},
                "command": {"type": "string", "title": "Command"},
                "labels": {"type": "object", "title": "Labels", "additionalProperties": {"type": "string"}},
                "env": environment,
            },
        },
    }


def _manifest(settings: Settings) -> dict[str, Any]:
    pool = settings.work_pool
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": "{{ name }}-",
            "namespace": pool.namespace,
            "labels": "{{ labels }}",
            "annotations": {},
        },
        "spec": {
            # Prefect repeats what should be repeated; the loop continues where a killed pod stopped.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": pool.kept_seconds,
            "template": {"spec": _pod(settings)},
        },
    }


def _pod(settings: Settings) -> dict[str, Any]:
    pool = settings.work_pool
    size = {"cpu": str(pool.cpu), "memory": pool.memory}
    return {
        # Prefect's worker rejects a template without these two. Kubernetes ignores them in a pod.
        "parallelism": 1,
        "completions": 1,
        "restartPolicy": "Never",
        "serviceAccountName": pool.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # Time for a cancelled run to report its state.
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "prefect-job",
                "image": pool.image,
                "imagePullPolicy": "IfNotPresent",
                "args": "{{ command }}",
                # `env` is added, and wins.
                "env": [{"name": name, "value": value} for name, value in _environment(settings).items()],
                "envFrom": [{"secretRef": {"name": pool.secret}}],
                "resources": {"requests": size, "limits": size},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "state", "mountPath": "/state"},
                    {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 -- of the container
                    {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 -- of the container
                ],
            }
        ],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": pool.state_claim}},
            {"name": "temporary", "emptyDir": {"sizeLimit": _TEMPORARY_FILES}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": _SHARED_MEMORY}},
        ],
    }


def _environment(settings: Settings) -> dict[str, str]:
    """The variables of the pods, as those of the workers in docker-compose/compose.yaml."""
    pool = settings.work_pool
    found = {
        "PREFECT_API_URL": pool.prefect_api_url,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLIENT_MAX_RETRIES": "9",
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,502,504",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "healthpredict",
        "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "s3-bucket/health-predict",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "HEALTHPREDICT_DATA_URI": settings.data_uri,
        "HEALTHPREDICT_REPORTS_URI": settings.reports_uri,
        "HEALTHPREDICT_STATE_PATH": "/state",
        "HEALTHPREDICT_TRACKING_URI": pool.tracking_uri,
        "HEALTHPREDICT_MLFLOW_UI_URL": settings.mlflow_ui_url,
        "HEALTHPREDICT_SILENT": "true" if settings.silent else None,
    }
    return {name: value for name, value in found.items() if value is not None}
