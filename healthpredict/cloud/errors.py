"""The errors of this package, except wrong settings."""

from __future__ import annotations

from healthpredict.errors import HealthPredictError


class CloudError(HealthPredictError):
    """AWS refused, did not respond, or lacks the resource."""

    exit_code = 15
