"""The types of the fixtures of this folder."""

from __future__ import annotations

from collections.abc import Callable

from healthpredict.doctor.project import ComposeProject

Describe = Callable[..., ComposeProject]
FakeDocker = Callable[[str], None]
