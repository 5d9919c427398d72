"""Stacks of Pulumi's real engine, for tests in several folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pulumi_stack import Program, offer_ubuntu, provider, unpack_engine

NewProgram = Callable[[str], Program]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that runs the engine. Skips where there is none."""
    return unpack_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def engine_on_moto(engine: dict[str, str], moto_endpoint: str) -> Iterator[dict[str, str]]:
    """The same, with an AWS provider over moto."""
    offer_ubuntu()
    with provider(engine, moto_endpoint) as environment:
        yield environment


@pytest.fixture(scope="session")
def new_program(engine_on_moto: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> NewProgram:
    """Make a stack with a name of its own, because all stacks share moto's account."""
    return lambda stack: Program(tmp_path_factory.mktemp(stack), engine_on_moto, stack)
