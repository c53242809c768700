"""What a program sets around the engine reaches no codec and no function that finds files, and no state of theirs reaches it."""

from __future__ import annotations

import contextlib
import decimal
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nodegraph import Engine, Workflow

PLUGIN = """
import decimal, hashlib
from typing import Annotated
import numpy, torch
from nodegraph import Reads, Resource, hookimpl, node

SEEN = {}

def note(method):
    pixels = torch.ones(2, requires_grad=True) * 2
    text = f"{torch.get_default_dtype()} {decimal.Decimal(1) / 3} {numpy.full(1, 1 / 3)} {pixels.requires_grad} {1.5:n}"
    SEEN.setdefault(method, set()).add(text)

class Small:
    def __init__(self, text):
        self.text = text

class Large(Small):
    pass

class FileCodec:
    name, suffix, extension, kind = "large", ".note", ".txt", Large

    def digest(self, value):
        note("digest")
        return hashlib.sha256(value.text.encode()).hexdigest()

    def save(self, value, path):
        note("save")
        path.write_text(value.text, encoding="utf-8")

    def load(self, path):
        note("load")
        return self.kind(path.read_text(encoding="utf-8"))

    def export(self, value):
        note("export")
        return [value.text.encode()]

    def embed(self, data, metadata):
        note("embed")
        return data

    def extract(self, data):
        note("extract")
        return data, {}

    def convert(self, value):
        note("convert")
        return self.kind(str(value)) if isinstance(value, complex) else None

    def check(self, value):
        note("check")

    def size(self, value):
        note("size")
        return len(value.text)

    def in_format(self, extension, options):
        note("in_format")
        return self

class BytesCodec(FileCodec):
    name, kind = "small", Small

    def encode(self, value):
        note("encode")
        return value.text.encode()

    def decode(self, data):
        note("decode")
        return self.kind(data.decode())

def find(text, base):
    note("resolve")
    return Resource(text, {})

@node("Found")
def found(text: Annotated[str, Reads(find)]) -> Large:
    return Large(text)

@node("Shorter")
def shorter(text: Small, more: Large) -> Small:
    return Small(text.text + more.text)

@node("Leaves")
def leaves(text: Annotated[str, Reads(lambda text, base: (torch.set_default_dtype(torch.float64), Resource(text, {}))[1])]) -> str:
    return text

@hookimpl
def register_nodes(register):
    for function in (found, shorter, leaves):
        register(function)

@hookimpl
def register_codecs(register):
    register(Large, FileCodec())
    register(Small, BytesCodec())
"""
METHODS = ["digest", "save", "load", "export", "embed", "extract", "convert", "check", "size", "in_format", "encode", "decode"]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "notes.py").write_text(textwrap.dedent(PLUGIN))
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def seen(engine: Engine) -> dict[str, set[str]]:
    plugin = engine.plugins.manager.get_plugin("notes")
    assert isinstance(plugin, types.ModuleType)
    found: dict[str, set[str]] = plugin.SEEN
    return found


def workflow() -> Workflow:
    made = Workflow("notes")
    more = made.add("Found", name="more", text="more")
    made.output("short", made.add("Shorter", name="short", text=1j, more=more))
    made.output("more", more)
    made.output("other", more, save={"file": "other.txt", "wide": True})  # with an option, the codec is asked for a format
    return made


@contextlib.contextmanager
def another_state() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), np.printoptions(precision=3), decimal.localcontext(prec=4):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_codecs_and_functions_that_find_files_run_in_the_known_state(engine: Engine, tmp_path: Path) -> None:
    with another_state():
        for _ in range(2):  # the second time finds results and files
            result = engine.run(workflow(), out=tmp_path / "out")
            assert result["short"].text == "1jmore"
        assert torch.get_default_dtype() == torch.float64
        assert not torch.is_grad_enabled()
        assert decimal.getcontext().prec == 4
        assert np.get_printoptions()["precision"] == 3
    assert seen(engine).keys() == {*METHODS, "resolve"}
    assert set.union(*seen(engine).values()) == {
        "torch.float32 0.3333333333333333333333333333 [0.33333333] True 1.5",
    }


def test_state_that_a_function_for_files_leaves_is_restored(engine: Engine) -> None:
    made = Workflow("leaves")
    made.output("out", made.add("Leaves", name="node", text="text"))
    assert engine.run(made)["out"] == "text"
    assert torch.get_default_dtype() == torch.float32


def test_codec_keeps_its_own_names_and_methods(engine: Engine) -> None:
    codecs = engine.plugins.codecs
    small, large = codecs.by_name("small"), codecs.by_name("large")
    assert small is not None
    assert large is not None
    assert (large.suffix, large.extension) == (".note", ".txt")
    assert [name for name in METHODS if not hasattr(large, name)] == ["encode", "decode"]
    assert [name for name in METHODS if not hasattr(small, name)] == []
    assert large.in_format(".txt", {}) is large  # type: ignore[attr-defined]
