"""One rig: every storage test runs on a local folder and on S3 (a real HTTP server that speaks its API)."""

from pathlib import Path

import pytest


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place to store to that is empty and need not exist yet."""
    if request.param == "local":
        return str(tmp_path / "data")
    return f"{request.getfixturevalue('s3_bucket')}/data"
