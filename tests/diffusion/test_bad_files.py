"""Randomly damaged files and absurd configs are read as the format's own library reads them, or refused with a clear error."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nodegraph_diffusion.checkpoint import CheckpointError, describe, verify
from nodegraph_diffusion.checkpoint.files.header import read_header
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile
from nodegraph_diffusion.text.inversion import read_inversion
from tests.support.whole_checkpoint import whole

FUZZ = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DOORS = (
    lambda path: describe(path).model(),
    lambda path: describe(path).controlnet(),
    lambda path: describe(path).lora(),
    lambda path: read_inversion(describe(path).embedding(), [128]),
    MappedFile,
)


def written(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole model as one file."""
    file = tmp_path_factory.mktemp("whole") / "model.safetensors"
    save_file({key: value.contiguous() for key, value in whole().items()}, file)
    return file.read_bytes()


@FUZZ
@given(data=st.data())
def test_file_cut_anywhere_is_refused_by_every_reader(tmp_path, content, data):
    length = int.from_bytes(content[:8], "little")
    places = st.one_of(st.integers(0, 16), st.integers(0, 8 + length), st.integers(0, len(content) - 1))
    (tmp_path / "cut.safetensors").write_bytes(content[: data.draw(places)])
    for door in DOORS:
        with pytest.raises(CheckpointError, match=r"cut\.safetensors: expected .*, found "):
            door(tmp_path / "cut.safetensors")


sizes = st.one_of(st.integers(0, 5), st.sampled_from([-1, 1 << 40, 1 << 63, 1 << 200, True, None, "2", 2.0]))
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F33", 32, None, ["F32"]]),
        "shape": st.one_of(st.lists(sizes, max_size=3), st.none(), st.integers()),
        "data_offsets": st.one_of(st.lists(st.one_of(st.integers(0, 24), sizes), min_size=1, max_size=3), st.none()),
    }
)
honest = st.lists(st.integers(0, 3), max_size=3).map(lambda shape: {"dtype": "F32", "shape": shape, "data_offsets": None})


@settings(FUZZ, max_examples=150)
@given(data=st.data())
def test_header_is_read_as_by_safetensors_or_refused(tmp_path, data):
    header: dict[str, Any] = data.draw(st.dictionaries(st.text(max_size=3), st.one_of(honest, entries), max_size=4))
    end = 0
    for entry in header.values():
        shape = entry["shape"]
        if entry["data_offsets"] is None and isinstance(shape, list) and all(type(side) is int and 0 <= side < 6 for side in shape):
            entry["data_offsets"] = [end, end := end + 4 * math.prod(shape)]
    file = written(tmp_path / "some.safetensors", json.dumps(header).encode(), bytes(end))
    try:
        found = read_header(file).tensors
    except CheckpointError:
        return  # our reader refuses more than safetensors
    with safe_open(file, "pt") as reference:
        assert {name: list(info.shape) for name, info in found.items()} == {
            name: reference.get_slice(name).get_shape()
            for name in reference.keys()  # noqa: SIM118
        }


@FUZZ
@given(data=st.data())
def test_what_safetensors_refuses_is_refused(tmp_path, data):
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(4)}
    save_file(tensors, tmp_path / "some.safetensors")
    content = bytearray((tmp_path / "some.safetensors").read_bytes())
    at = data.draw(st.integers(0, len(content) - 41))  # the numbers themselves do not concern the header
    content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "some.safetensors").write_bytes(content)
    try:
        with safe_open(tmp_path / "some.safetensors", "pt") as reference:
            names = set(reference.keys())
    except (SafetensorError, UnicodeDecodeError):
        with pytest.raises(CheckpointError):
            read_header(tmp_path / "some.safetensors")
        return
    with contextlib.suppress(CheckpointError):
        assert set(read_header(tmp_path / "some.safetensors").tensors) == names


def test_tensors_are_listed_in_byte_order(tmp_path):
    entry = {"dtype": "U8", "shape": [2]}
    header = {"b": {**entry, "data_offsets": [2, 4]}, "a": {**entry, "data_offsets": [0, 2]}}
    file = written(tmp_path / "some.safetensors", json.dumps(header).encode(), bytes(4))
    assert list(read_header(file).tensors) == ["a", "b"]
    assert read_header(file).tensors["b"].start == read_header(file).tensors["a"].end == file.stat().st_size - 2


CONFIGS = ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json")
VALUES = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    7,
    2.5,
    -0.0,
    1e300,
    10**9,
    10**400,
    "",
    "x",
    [],
    [1],
    [10**9] * 4,
    [1] * 1000,
    {},
    {"a": 1},
)
NO_JSON = ("NaN", "Infinity", "-Infinity", "1e999", "[" * 20_000, "9" * 5000, '"\\ud800"', "nul")


@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_config_with_any_value_is_read_or_refused(folder, data):
    file = folder / data.draw(st.sampled_from(CONFIGS))
    before = file.read_text()
    config = json.loads(before)
    key = data.draw(st.sampled_from(sorted(config)))
    text = json.dumps({**config, key: "@@"}).replace(
        '"@@"', data.draw(st.one_of(st.sampled_from(VALUES).map(json.dumps), st.sampled_from(NO_JSON)))
    )
    file.write_text(text)
    try:
        verify(describe(folder).model())
    except CheckpointError:
        pass
    finally:
        file.write_text(before)


@pytest.mark.parametrize("key", ["block_out_channels", "layers_per_block", "cross_attention_dim", "in_channels", "norm_num_groups"])
def test_absurd_sizes_are_refused_before_building(folder, key, monkeypatch):
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, key: [10**9] * 2 if key.startswith("block") else 10**9}))
    monkeypatch.setattr("torch.nn.Module.__init__", None)
    with pytest.raises(CheckpointError, match=r"expected a config of Stable Diffusion, found .*1000000000"):
        describe(folder).model()
