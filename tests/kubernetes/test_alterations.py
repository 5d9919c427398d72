"""The source still contains the texts that the tests of rollouts replace. This needs no cluster, so `make test` checks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import ALTERATIONS, Alter, copy_source, replace


@pytest.mark.parametrize("alterations", ALTERATIONS)
def test_the_source_contains_what_an_alteration_replaces(tmp_path: Path, alterations: Alter) -> None:
    source = copy_source(tmp_path)
    for name, (old, new) in alterations.items():
        replace(source / name, old, new)
