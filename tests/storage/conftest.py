"""Storage tests run on a local folder and on S3 (moto, a real HTTP server)."""

from pathlib import Path

import pytest


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder or prefix, which need not exist."""
    if request.param == "local":
        return str(tmp_path / "data")
    return f"{request.getfixturevalue('s3_bucket')}/data"
