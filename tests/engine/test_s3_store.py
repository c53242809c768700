"""A shared store in S3, with a server on this machine that answers as S3 does, over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph.cache.store.remote.claims import Claims
from nodegraph.cache.store.remote.objects import Objects, ObjectsError
from nodegraph.cache.store.remote.seals import Seal
from tests.support.cli import GREETING, Cli

pytestmark = pytest.mark.slow

KEY = "a key of sixteen characters or more"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with an empty bucket `bucket`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
    client.create_bucket(Bucket="bucket")
    client.close()
    yield url
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def test_objects_are_read_written_and_listed(tmp_path: Path) -> None:
    objects = Objects("s3://bucket/objects")
    assert objects.get("a") is None
    assert objects.head("a") is None
    assert objects.create("a", b"first")
    assert not objects.create("a", b"second")
    content, tag = objects.get("a") or (b"", "")
    assert content == b"first"
    assert objects.replace("a", b"third", tag)
    assert not objects.replace("a", b"fourth", tag)
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (80 << 10))  # 20 MiB: in several parts
    objects.upload("folder/large", large)
    assert {info.name: info.size for info in objects.list()} == {"a": 5, "folder/large": 20 << 20}
    assert [info.name for info in objects.list("folder")] == ["folder/large"]
    assert objects.download("folder/large", tmp_path / "copy", 20 << 20) == hashlib.sha256(large.read_bytes()).hexdigest()
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert objects.download("folder/large", tmp_path / "other", 5) is None
    objects.delete(["a", "folder/large", "never there"])
    assert list(objects.list()) == []


def test_tags_tell_that_a_lease_was_rewritten() -> None:
    first, second = Claims(Objects("s3://bucket/claims")), Claims(Objects("s3://bucket/claims"))
    first.acquire("a" * 64, lambda: None, lambda: None)

    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        second.acquire("a" * 64, stop, lambda: None)
    first.release("a" * 64)
    assert not second.acquire("a" * 64, stop, lambda: None)
    second.release("a" * 64)


def test_bucket_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ObjectsError):
        Objects("s3://nowhere/prefix").put("a", b"")


def test_command_line_shares_results_and_takes_care_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "s3://bucket/team"
    monkeypatch.setenv("NODEGRAPH_CACHE_REMOTE_KEY", KEY)
    cli, file = Cli(tmp_path), Cli(tmp_path).write(GREETING)

    def ask(*args: str | Path) -> Any:
        ran = cli(*args, "--json")
        assert ran.exit_code == 0, ran.stderr
        return ran.json

    def statuses(folder: str) -> set[str]:
        ran = ask("run", file, "--cache-remote", url, "--cache-dir", tmp_path / folder, "--out", tmp_path / "out")
        return {node["status"] for node in ran["nodes"].values()}

    assert statuses("first") == {"ran"}
    assert "ran" not in statuses("second")
    info = ask("cache", "info", "--remote", url)
    assert (info["store"], info["access"], info["signed"]) == (url, "write", "yes")
    assert len(ask("cache", "ls", "--remote", url)) == info["results"] == 2
    assert ask("cache", "pull", "--remote", url, "--cache-dir", tmp_path / "third") == {"copied": 2, "there": 0}
    assert ask("cache", "push", "--remote", url, "--cache-dir", tmp_path / "third") == {"copied": 0, "there": 2}
    assert ask("cache", "gc", "--remote", url, "--size", "0")["results"] == 0  # all of it is young
    objects, seal = Objects(url), Seal(KEY.encode())
    assert all(info.name.startswith((seal.space, "blobs/", "nodegraph.json")) for info in objects.list())
    blob = next(info.name for info in objects.list("blobs"))
    objects.put(blob, b"damaged")
    verified = cli("cache", "verify", "--remote", url, "--json")
    assert verified.exit_code == 1
    assert verified.json["wrong"] == [blob.rpartition("/")[2]]
    assert ask("cache", "verify", "--remote", url)["wrong"] == []
