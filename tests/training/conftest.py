"""Encoded examples that all tests of training share."""

from __future__ import annotations

import pytest
from encoded_hospital import Hospital, encode_hospital


@pytest.fixture(scope="session")
def hospital() -> Hospital:
    return encode_hospital(3000, seed=5)
