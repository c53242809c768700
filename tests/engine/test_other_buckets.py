"""Shared stores in Google Cloud Storage and in Azure, with servers on this machine that answer as these do.

What these tests do not show: how credentials are found, and limits and failures of the services themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodegraph.cache.store.remote.objects import Objects
from tests.support.bucket_servers import BucketServer, bucket_server


@pytest.fixture
def server() -> Iterator[BucketServer]:
    with bucket_server() as server:
        yield server


@pytest.fixture(params=["gs", "az"])
def objects(request: pytest.FixtureRequest, server: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """A bucket of this test's own: the library keeps stores by their address."""
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    account = tmp_path / "account.json"
    account.write_text(
        json.dumps({"gcs_base_url": server.url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""})
    )
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(account))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "name")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{server.url}/name")
    return Objects(f"{request.param}://bucket-{server.server_port}/prefix")


def test_objects_are_read_written_and_listed(objects: Objects, tmp_path: Path) -> None:
    assert objects.get("a") is None
    assert objects.head("a") is None
    assert objects.create("a", b"first")
    assert not objects.create("a", b"second")
    content, tag = objects.get("a") or (b"", "")
    assert content == b"first"
    objects.put("a", b"third")
    assert (objects.get("a") or (b"", tag))[1] != tag
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (36 << 10))  # 9 MiB: in two parts
    objects.upload("folder/large", large)
    assert {info.name: info.size for info in objects.list()} == {"a": 5, "folder/large": 9 << 20}
    assert [info.name for info in objects.list("folder")] == ["folder/large"]
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    assert objects.download("folder/large", tmp_path / "copy", 9 << 20) == digest
    objects.put_parts("folder/parts", iter([large.read_bytes()[: 5 << 20], large.read_bytes()[5 << 20 :]]))
    assert objects.digest("folder/parts") == digest
    objects.delete(["a", "folder/large", "folder/parts", "never there"])
    assert list(objects.list()) == []


def test_only_the_one_that_was_read_is_replaced(objects: Objects) -> None:
    """As a claim is taken over from a holder that has died."""
    objects.put("claim", b"first")
    _, tag = objects.get("claim") or (b"", "")
    assert objects.replace("claim", b"second", tag)
    assert not objects.replace("claim", b"third", tag)
    assert (objects.get("claim") or (b"", ""))[0] == b"second"
