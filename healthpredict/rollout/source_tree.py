"""The source tree that an image is built from: the code that runs here, or a Git ref that is fetched.

It uses dulwich, because the image of the workers has no git.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from healthpredict.errors import RolloutError

if TYPE_CHECKING:
    from dulwich.objects import ObjectID
    from dulwich.refs import Ref


@dataclass(frozen=True)
class SourceTree:
    """The code that goes into an image.

    Attributes:
        path: folder with package, lock and Dockerfile.
        commit: None if it is unknown.
        ref: branch, tag or commit that was requested; None for the code that runs here.
    """

    path: Path
    commit: str | None
    ref: str | None = None


def fetch_source(repository: str, ref: str, folder: Path) -> SourceTree:
    """Fetch a ref into a folder without history.

    Args:
        repository: URL or path, as for `git fetch`.
        ref: branch, tag or full commit.
        folder: for checkouts. Each has a subfolder named after its commit.

    Raises:
        RolloutError: the ref does not exist or cannot be fetched.
    """
    from dulwich.client import get_transport_and_path
    from dulwich.index import build_index_from_tree
    from dulwich.objectspec import parse_commit
    from dulwich.repo import Repo

    wanted: list[ObjectID] = []

    def want(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
        wanted.append(_id_of(ref, refs))
        return wanted

    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        client, path = get_transport_and_path(repository)
        with Repo.init(str(partial)) as repo:
            client.fetch(path, repo, determine_wants=want, depth=1)
            found = parse_commit(repo, wanted[0])
            commit = found.id.decode()
            build_index_from_tree(str(partial), repo.index_path(), repo.object_store, found.tree)
        if not (folder / commit).exists():
            partial.rename(folder / commit)
    except RolloutError:
        raise
    except Exception as error:  # dulwich's errors have no common base
        # Without the error's text, because its URL may contain a password.
        raise RolloutError(
            f"The source could not be fetched ({type(error).__name__}). Check that HEALTHPREDICT_SOURCE_REPOSITORY is right "
            "and can be read from here."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return SourceTree(folder / commit, commit, ref)


def _id_of(ref: str, refs: Mapping[Ref, ObjectID]) -> ObjectID:
    ids = {name.decode(): found for name, found in refs.items()}
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}"):
        if name in ids:
            return ids[name]
    if re.fullmatch("[0-9a-f]{40}", ref):
        return cast("ObjectID", ref.encode())
    raise RolloutError(f"{ref!r} is no branch, tag or full commit of HEALTHPREDICT_SOURCE_REPOSITORY.")
