"""Settings of other programs in JPEG and WebP files, which have them in their EXIF data."""

from __future__ import annotations

import io
import json
import struct
import zlib

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as pillow

from nodegraph.cli import main
from nodegraph_nodes.pictures.exif import exif_texts
from nodegraph_nodes.pictures.foreign import describe_picture

A1111 = """a castle <x:0.8>,
at night
Negative prompt: easynegative
Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 5, Size: 512x768, Model: v1-5, Version: v1.10.1"""
API = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "2": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "seed": 5, "steps": 20}},
}


def with_exif(format, *, comment=None, texts=None):
    """A picture with EXIF data that Pillow writes."""
    exif, file = pillow.Exif(), io.BytesIO()
    for tag, text in (texts or {}).items():
        exif[tag] = text
    if comment is not None:
        exif.get_ifd(0x8769)[0x9286] = comment
    pillow.new("RGB", (8, 8)).save(file, format, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + A1111.replace("castle", "c\u00e2stle").encode("utf-16-be"),
        b"UNICODE\0" + A1111.encode("utf-16-le"),
        b"UNICODE\0\xff\xfe" + A1111.encode("utf-16-le"),
        b"ASCII\0\0\0" + A1111.encode(),
        bytes(8) + A1111.encode(),
        A1111.encode(),
    ],
)
def test_comments_of_jpeg_and_webp_files_are_read(format, comment):
    """AUTOMATIC1111's program and Forge write UTF-16, others write other encodings (CIPA DC-008, 4.6.5)."""
    found = describe_picture(with_exif(format, comment=comment))
    assert (found["program"], found["seed"], found["negative"]) == ("AUTOMATIC1111", "5", "easynegative")
    assert found["prompt"] in ("a castle <x:0.8>,\nat night", "a c\u00e2stle <x:0.8>,\nat night")


def test_comment_of_a_big_endian_file_is_read():
    """Written out byte by byte: a TIFF header, a list of one entry, and the second list that it leads to."""
    comment = b"UNICODE\0" + A1111.encode("utf-16-be")
    first = struct.pack(">2sHIH", b"MM", 42, 8, 1) + struct.pack(">HHII", 0x8769, 4, 1, 26) + bytes(4)
    tiff = first + struct.pack(">H", 1) + struct.pack(">HHII", 0x9286, 7, len(comment), 44) + bytes(4) + comment
    body = b"Exif\0\0" + tiff
    data = b"\xff\xd8\xff\xe0\0\x04JF\xff\xff\xe1" + struct.pack(">H", len(body) + 2) + body + b"\xff\xda"
    assert describe_picture(data)["seed"] == "5"
    for cut in range(len(data)):
        assert describe_picture(data[:cut]) is None or cut >= len(data) - 2


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_graph_of_comfyui_is_read_from_jpeg_and_webp_files(tmp_path, format):
    """As its node for animated WebP files writes it: the model of the camera is the prompt, its maker the workflow."""
    data = with_exif(format, texts={0x0110: f"prompt:{json.dumps(API)}", 0x010F: "workflow:{}"})
    found = describe_picture(data)
    assert (found["program"], found["model"], found["seed"]) == ("ComfyUI", "v1-5.safetensors", 5)
    file = tmp_path / f"x.{format.lower()}"
    file.write_bytes(data)
    assert CliRunner().invoke(main, ["show", str(file)]).stdout.startswith(f"{file}: made by ComfyUI")


def test_graph_in_an_animated_png_file_is_read():
    body = b"prompt\0" + json.dumps(API).encode()
    part = struct.pack(">I", len(body)) + b"comf" + body + struct.pack(">I", zlib.crc32(b"comf" + body))
    file = io.BytesIO()
    pillow.new("RGB", (2, 2)).save(file, "PNG")
    assert describe_picture(file.getvalue()[:-12] + part)["program"] == "ComfyUI"


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_settings_in_a_jpeg_or_webp_file_are_no_workflow(tmp_path, format):
    file = tmp_path / f"x.{format.lower()}"
    file.write_bytes(with_exif(format, comment=b"UNICODE\0" + A1111.encode("utf-16-be")))
    ran = CliRunner().invoke(main, ["run", str(file)])
    assert ran.exit_code == 2
    assert "made by AUTOMATIC1111's program or a similar one, not a workflow. 'nodegraph show' prints the prompt" in ran.stderr


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_in_the_place_of_exif_data_are_read_or_left_out(tiff, rest):
    block = b"Exif\0\0" + tiff
    for data in (
        b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + rest,
        b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", len(tiff)) + tiff + rest,
    ):
        assert describe_picture(data) is None or isinstance(describe_picture(data), dict)


def test_entries_that_stand_for_the_same_bytes_again_and_again_are_read_up_to_a_limit():
    entries = b"".join(struct.pack("<HHII", tag, 2, 1 << 20, 8) for tag in range(1, 60_000))
    tiff = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 59_999) + entries + bytes(1 << 20)
    data = b"RIFF\0\0\0\0WEBPEXIF" + struct.pack("<I", len(tiff)) + tiff
    assert len(exif_texts(data)) == 16
