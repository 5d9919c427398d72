"""The program, run once with recording mocks and once with Pulumi's engine on a moto server."""

from __future__ import annotations

import sys

import pytest
from aws_server import aws_environment  # noqa: F401
from engine import INFRA, STACK, Stack, run_program
from pulumi_fixtures import NewProgram, engine, engine_on_moto, new_program  # noqa: F401
from pulumi_stack import without_conditions

# The program imports its modules by plain names, as under Pulumi.
sys.path.append(str(INFRA))


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The stack that the program declares with the tests' settings."""
    return run_program()


@pytest.fixture(scope="session")
def deployed(new_program: NewProgram) -> Stack:  # noqa: F811
    """The stack, created on the moto server."""
    program = new_program(STACK)
    program.up()
    return without_conditions(program)
