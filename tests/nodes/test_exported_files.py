"""Exported files: pictures with 8 bits for each channel, other values as safetensors, and the metadata inside them."""

from __future__ import annotations

import contextlib
import io
import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow
from safetensors import safe_open
from safetensors.torch import load as load_bytes

from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.types import Conditioning, Image, Latent, Mask, Noise
from tests.support.values import image, make, tensor_of

METADATA = {"nodegraph": "prompt: ein Häuschen, 夜の赤い家, 🏠\n", "nodegraph_run": '{"run": "1"}'}


def opened(data):
    picture = pillow.open(io.BytesIO(data))
    picture.load()
    return picture


def test_each_picture_of_a_batch_is_an_8_bit_png():
    value = image(batch=2)
    files = CODECS[Image].export(value)
    assert len(files) == 2
    for data, pixels in zip(files, value.pixels, strict=True):
        picture = opened(data)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (5, 3))
        assert list(picture.tobytes()) == (pixels * 255).round().byte().flatten().tolist()


def test_every_8_bit_value_is_exact():
    values = torch.arange(256).reshape(1, 16, 16) / 255
    assert list(opened(CODECS[Mask].export(Mask(values))[0]).tobytes()) == list(range(256))


def test_mask_is_exported_as_clipped_grey():
    picture = opened(CODECS[Mask].export(Mask(torch.tensor([[[-0.5, 0.5, 1.5]]])))[0])
    assert (picture.mode, list(picture.tobytes())) == ("L", [0, 128, 255])


def test_png_metadata_holds_any_script():
    codec = CODECS[Image]
    (data,) = codec.export(image())
    with_text = codec.embed(data, METADATA)
    assert opened(with_text).text == METADATA
    assert opened(with_text).tobytes() == opened(data).tobytes()
    assert codec.embed(data, {}) == data
    twice = opened(codec.embed(with_text, {"more": "text"}))
    assert twice.text == {**METADATA, "more": "text"}


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_is_kept_in_a_png(text):
    codec = CODECS[Mask]
    (data,) = codec.export(Mask(torch.zeros(1, 1, 1)))
    assert opened(codec.embed(data, {"nodegraph": text})).text["nodegraph"] == text


@pytest.mark.parametrize("kind", [Latent, Conditioning, Noise])
def test_other_values_are_exported_as_safetensors(kind, tmp_path):
    value, codec = make(kind, torch.rand(1, 3, 5) if kind is Conditioning else torch.rand(1, 4, 3, 5)), CODECS[kind]
    (data,) = codec.export(value)
    with_text = codec.embed(data, METADATA)
    (tmp_path / "value.safetensors").write_bytes(with_text)
    with safe_open(tmp_path / "value.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert {name: metadata[name] for name in METADATA} == METADATA
    assert json.loads(metadata["fields"]) == json.loads(json.dumps(codec.plain_fields(value)))
    (stored,) = load_bytes(with_text).values()
    assert torch.equal(stored, tensor_of(value))
    back = codec.load(tmp_path / "value.safetensors")
    assert codec.digest(back) == codec.digest(value)


@pytest.mark.parametrize("kind", [Image, Mask, Latent, Conditioning, Noise])
def test_metadata_comes_out_of_a_file_again(kind):
    value, codec = make(kind, torch.rand(1, 3, 5) if kind is Conditioning else torch.rand(1, 4, 3, 3)), CODECS[kind]
    if kind in (Image, Mask):
        value = make(kind, torch.rand((1, 4, 3, 3) if kind is Image else (1, 4, 3)))
    (data,) = codec.export(value)
    bare, metadata = codec.extract(codec.embed(data, METADATA))
    assert metadata == METADATA
    assert (bare, {}) == codec.extract(data) == codec.extract(bare)
    assert codec.extract(codec.embed(bare, {"nodegraph": "other"})) == (bare, {"nodegraph": "other"})


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n\0\0"])
def test_other_files_have_no_metadata(data):
    for codec in CODECS.values():
        with contextlib.suppress(ValueError, struct.error):
            assert codec.extract(data)[1] == {}
