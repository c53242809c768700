"""Cached tensors are memory-mapped from their files: no copies, and removing the files does no harm."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nodegraph.cache.cache import Cache
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import LostResultError, Store
from nodegraph.plugins.manager import load_plugins
from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.types import Conditioning, Image, Latent, Mask, Noise

KEY = "a" * 64
MADE = Computation(type="Type", workflow="workflow", node="node", seconds=0.1)


@pytest.fixture
def cache(tmp_path):
    return Cache(load_plugins().codecs, Store(tmp_path / "cache"))


def put(cache, value):
    snapshots, messages = cache.take({"output": value}, {"output": cache.codec(value)}, store=True)
    assert messages == []
    cache.put(KEY, snapshots, {"output": snapshots["output"].digest}, MADE)
    return cache.store.blob(cache.stored(KEY, "output").blob)


def take(cache, value, *, store):
    """The snapshot of a value that a node returned."""
    snapshots, messages = cache.take({"output": value}, {"output": cache.codec(value)}, store=store)
    assert messages == []
    return snapshots["output"]


def file_behind(tensor):
    """The file behind the tensor's memory, as Linux reports it; None if there is none."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, path = re.split(r" +", line, maxsplit=5) if line.count(" ") >= 5 else (line.split()[0], "")
        start, end = (int(address, 16) for address in span.split("-"))
        if start <= tensor.data_ptr() and tensor.data_ptr() + tensor.numel() * tensor.element_size() <= end:
            return path or None
    return None


VALUES = [
    Image(torch.rand(1, 64, 64, 3)),
    Mask(torch.rand(1, 64, 64)),
    Latent(torch.rand(1, 4, 32, 32), (256, 256)),
    Conditioning((Prompt(torch.rand(1, 16, 32)),)),
    Noise(torch.rand(1, 4, 32, 32), 7),
]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports which pages are file-backed")
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_tensor_is_memory_mapped(cache, value):
    blob = put(cache, value)
    loaded = cache.load(KEY, "output")
    tensor = loaded.prompts[0].embedding if isinstance(loaded, Conditioning) else getattr(loaded, CODECS[type(value)].tensor)
    assert file_behind(tensor) == str(blob)
    assert file_behind(tensor.clone()) != str(blob)


def test_tensor_outlives_its_removed_file(cache):
    value = Mask(torch.rand(1, 512, 512))
    blob = put(cache, value)
    loaded = cache.load(KEY, "output")
    assert cache.store.upkeep.gc(limit=0).keys == (KEY,)
    assert not blob.exists()
    put(cache, Mask(torch.zeros(1, 512, 512)))  # nor does another value that is written then
    cache.store.upkeep.clear()
    assert torch.equal(loaded.values, value.values)


def anonymous_bytes():
    """The memory of this process that no file is behind: its own copies."""
    return int(re.search(r"Anonymous: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text())[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the memory that no file is behind")
@pytest.mark.parametrize("stored", [True, False], ids=["in the cache directory", "in an anonymous file"])
def test_reader_of_a_large_value_copies_nothing_until_it_writes(cache, stored):
    size = 64 << 20
    cache = cache if stored else Cache(load_plugins().codecs, None)
    snapshot = take(cache, Mask(torch.full((1, 4096, 4096), 0.5)), store=stored)
    snapshot.open()  # what is imported and remembered with the first
    before = anonymous_bytes()
    first, second = snapshot.open().values, snapshot.open().values
    assert first.numel() * first.element_size() == size
    assert first.sum() == second.sum() == size // 8  # both were read in full
    assert anonymous_bytes() - before < size // 8
    first.fill_(0.25)
    assert anonymous_bytes() - before > size * 7 // 8  # the pages that changed, of the first reader only
    second[:, :1] = 1.0
    assert first.max() == 0.25
    assert second[:, 1:].min() == second[:, 1:].max() == 0.5
    assert torch.equal(snapshot.open().values, torch.full_like(first, 0.5))
    assert snapshot.is_sound()


HEADERS = {
    "a length beyond the file": b"\xff" * 8 + b"{}",
    "no JSON": b"\x02\0\0\0\0\0\0\0[}",
    "nothing": b"",
    "an offset beyond the file": b'\x40\0\0\0\0\0\0\0{"values":{"dtype":"F32","shape":[1,9,9],"data_offsets":[0,324]}}',
    "no such tensor": b"\x08\0\0\0\0\0\0\0{}      ",
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_damaged_file_is_dropped_and_written_again(cache, content):
    """As if a codec had written it: the name matches the content, so the file itself is intact."""
    value = Mask(torch.rand(1, 8, 8))
    put(cache, value)
    blob, size = cache.store.put_bytes(content, ".safetensors")
    assert blob.startswith(hashlib.sha256(content).hexdigest())
    record = cache.store.record(KEY)
    stored = replace(record.outputs["output"], blob=blob, size=size)
    cache.store.put_record(type(record)(**{**vars(record), "created": time.time(), "outputs": {"output": stored}}))
    assert cache.lookup(KEY, ["output"]) is not None
    with pytest.raises(LostResultError):
        cache.load(KEY, "output")
    assert cache.lookup(KEY, ["output"]) is None
    put(cache, value)
    assert torch.equal(cache.load(KEY, "output").values, value.values)
