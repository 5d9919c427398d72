"""The error of this package that is not a wrong setting."""

from __future__ import annotations

from healthpredict.errors import HealthPredictError


class CloudError(HealthPredictError):
    """AWS refused, did not answer, or does not hold what was asked for."""

    exit_code = 12
