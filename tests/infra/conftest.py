"""The program, run once with recording mocks and once on a moto server."""

from __future__ import annotations

import sys

import pytest
from aws_server import aws_environment  # noqa: F401
from engine import INFRA, Stack, run_program

# The program imports its modules by plain names, as under Pulumi.
sys.path.append(str(INFRA))


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The stack that the program declares with the tests' settings."""
    return run_program()


@pytest.fixture(scope="session")
def deployed(moto_endpoint: str) -> Stack:
    """The stack, created on the moto server."""
    from moto_engine import MotoEngine

    return run_program(MotoEngine(moto_endpoint))
