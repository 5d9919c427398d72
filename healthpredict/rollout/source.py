"""The code that goes into an image: what runs here, or a named ref, fetched into a clean folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.rollout.image import Source


def fetch_source(repository: str, ref: str, folder: Path) -> Source:
    """Fetch a ref.

    Args:
        repository: URL or path, as git takes it.
        ref: branch, tag or full commit.
        folder: for checkouts, each in a folder named by its commit.

    Raises:
        ConfigurationError: it is no name of a ref, or git is not there.
        RolloutError: it cannot be fetched.
    """
    if not ref or ref.startswith("-"):
        raise ConfigurationError(f"{ref!r} is no branch, tag or commit.")
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _git(partial, "init", "--quiet")
        _git(partial, "fetch", "--quiet", "--depth", "1", "--", repository, ref)
        commit = _git(partial, "rev-parse", "FETCH_HEAD")
        checkout = folder / commit
        if not checkout.exists():
            _git(partial, "checkout", "--quiet", "--detach", commit)
            partial.rename(checkout)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Source(checkout, commit, ref)


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise ConfigurationError("git is not there. Install it, or build from the code that runs here.") from error
    if done.returncode != 0:
        # Without the address, which may hold a password.
        raise RolloutError(f"git {words[0]} failed: {done.stderr.strip().splitlines()[-1:] or 'no reason given'}")
    return done.stdout.strip()
