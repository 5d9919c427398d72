"""The build context of an image, its source, and the login for its registry."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.rollout.ecr import ecr_login
from healthpredict.rollout.image import build_context
from healthpredict.rollout.source_tree import fetch_source

ROOT = Path(__file__).parents[2]
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/health-predict"


def test_the_same_files_give_the_same_context(bundle: Bundle) -> None:
    assert build_context(ROOT, bundle).getvalue()[10:] == build_context(ROOT, bundle).getvalue()[10:]


def test_the_context_contains_lock_package_and_bundle_and_nothing_else(bundle: Bundle) -> None:
    with tarfile.open(fileobj=io.BytesIO(build_context(ROOT, bundle).getvalue())) as archive:
        names = archive.getnames()
        owners = {(member.uid, member.gid, member.mtime) for member in archive}
    assert owners == {(0, 0, 0)}
    assert {name.partition("/")[0] for name in names} == {
        "Dockerfile",
        "requirements.serving.lock",
        "healthpredict",
        "bundle",
    }
    assert [name for name in names if name.endswith((".pyc", ".env"))] == []


def test_an_incomplete_source_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Name a checkout of this project"):
        build_context(tmp_path, bundle)


def test_only_ecr_has_a_login_from_aws(s3_bucket: str) -> None:
    login = ecr_login(ECR)
    assert login is not None
    assert login["username"] == "AWS"
    assert login["password"]
    assert ecr_login("127.0.0.1:5001/health-predict") is None
    assert ecr_login("registry.example/123456789012.dkr.ecr.us-east-1.amazonaws.com") is None


def test_missing_aws_credentials_are_reported(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps credentials that it once found
    with pytest.raises(RolloutError, match="Check the AWS credentials"):
        ecr_login(ECR)


def test_a_named_ref_is_fetched_into_a_clean_folder(tmp_path: Path) -> None:
    import subprocess

    repository = tmp_path / "repository"

    def git(*words: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
        command = ["git", "-C", str(repository), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    repository.mkdir()
    git("init", "--quiet")
    (repository / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    git("tag", "--annotate", "--message", "the first", "v1")
    commit = git("rev-parse", "HEAD")
    (repository / "file").write_text("two")
    git("commit", "--quiet", "--all", "-m", "two")
    git("branch", "more")
    (repository / "file").write_text("changed, not committed")
    source = fetch_source(str(repository), "v1", tmp_path / "sources")
    assert (source.ref, source.commit) == ("v1", commit)
    assert (source.path / "file").read_text() == "one"
    assert fetch_source(repository.as_uri(), "v1", tmp_path / "sources") == source
    assert fetch_source(str(repository), commit, tmp_path / "sources").path == source.path
    newer = fetch_source(str(repository), "more", tmp_path / "sources")
    assert (newer.path / "file").read_text() == "two"
    with pytest.raises(RolloutError, match="'v2' is no branch, tag or full commit"):
        fetch_source(str(repository), "v2", tmp_path / "sources")
    assert {path.name for path in (tmp_path / "sources").iterdir()} == {commit, newer.commit}


def test_a_failed_fetch_does_not_reveal_the_password_of_the_repository(tmp_path: Path) -> None:
    for repository in ("http://me:secret@127.0.0.1:9/source", str(tmp_path / "gone")):
        with pytest.raises(RolloutError, match="could not be fetched") as caught:
            fetch_source(repository, "main", tmp_path / "sources")
        assert "secret" not in str(caught.value)
    assert list((tmp_path / "sources").iterdir()) == []
