"""The program run once with recording mocks, and once against a moto server."""

from __future__ import annotations

import sys

import pytest
from aws_server import aws_environment  # noqa: F401
from engine import INFRA, Stack, run_program

# As Pulumi does for the program: its modules are imported by their plain names.
sys.path.append(str(INFRA))


@pytest.fixture(scope="session")
def stack() -> Stack:
    """What the program describes with the configuration of the tests."""
    return run_program()


@pytest.fixture(scope="session")
def deployed(moto_endpoint: str) -> Stack:
    """The stack, created resource by resource on the moto server."""
    from moto_engine import MotoEngine

    return run_program(MotoEngine(moto_endpoint))
