"""What the tests of rollouts replace is in the source. This needs no cluster: `make test` finds it before CI does."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import ALTERATIONS, Alter, copy_source, replace


@pytest.mark.parametrize("alterations", ALTERATIONS)
def test_the_source_has_what_an_alteration_replaces(tmp_path: Path, alterations: Alter) -> None:
    source = copy_source(tmp_path)
    for name, (old, new) in alterations.items():
        replace(source / name, old, new)
