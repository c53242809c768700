"""Whole pixels are read, whatever is stored beside them, and colours are those of sRGB."""

from __future__ import annotations

import io
import re
import struct
import sys
import types
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from PIL import ImageCms, ImageFile, features

from nodegraph_nodes.nodes.image import load_image
from nodegraph_nodes.nodes.mask import mask
from tests.support.colour_profiles import DISPLAY_P3, SRGB, as_srgb, display_profile, ink_lab, ink_profile, lab_as_srgb

RAMP = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: a quarter clockwise


def png(array=RAMP, *, before=(), after=(), between=(), cut=None):
    """A PNG file with more chunks: before its pixels, after them, and between their two parts."""
    buffer = io.BytesIO()
    pillow.fromarray(array).save(buffer, format="PNG")
    data = buffer.getvalue()
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    pixels = data[start + 4 : start + 4 + length]
    head, tail = data[: start - 4], data[start + 8 + length :]
    parts = [chunk(b"IDAT", pixels[:9]), *between, chunk(b"IDAT", pixels[9:])]
    return b"".join([head, *before, *parts, *after, tail])[:cut]


def chunk(name, content, *, checksum=None):
    checksum = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


TEXT = chunk(b"tEXt", b"Comment\0x", checksum=1)
LONG_TEXT = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 << 20)))
LONG_PROFILE = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20)))
BAD_EXIF = chunk(b"eXIf", b"nonsense")
EXIF = chunk(b"eXIf", TURNED[6:])
IGNORED = "a text or other data beside its pixels is damaged and ignored"
NOT_TURNED = "its EXIF data cannot be read, so the picture is not turned"
AS_SRGB = "its colour profile cannot be read, so its colours are read as sRGB"


def read(tmp_path, data, run, name="a.png"):
    """The pixels (H, W, 3) of a file with this content, from 0 to 255."""
    (tmp_path / name).write_bytes(data)
    return (load_image(tmp_path / name, run=run).image.pixels[0] * 255).round().byte().numpy()


@pytest.mark.parametrize(
    ("data", "notice"),
    [
        (png(before=[BAD_EXIF]), NOT_TURNED),
        (png(after=[BAD_EXIF]), NOT_TURNED),
        (png(before=[TEXT]), IGNORED),
        (png(after=[TEXT]), None),
        (png(between=[TEXT]), IGNORED),
        (png(before=[LONG_TEXT]), IGNORED),
        (png(before=[LONG_PROFILE]), AS_SRGB),
        (png(before=[BAD_EXIF, LONG_PROFILE, TEXT]), AS_SRGB),
        (png(before=[chunk(b"pHYs", b"1")]), IGNORED),
        (png(before=[chunk(b"iCCP", b"nonsense")]), AS_SRGB),
        (png(before=[chunk(b"iCCP", b"p\0\0" + zlib.compress(b"nonsense"))]), AS_SRGB.replace("read, so", "used, so")),
    ],
)
def test_damage_beside_the_pixels_of_a_png_file(tmp_path, run, data, notice):
    assert np.array_equal(read(tmp_path, data, run), RAMP)
    assert (run.notices[:1] or [None])[0] == (notice and f"a.png: {notice}")


def test_what_is_whole_beside_damaged_data_counts(tmp_path, run):
    """The picture is turned and its colours are converted, although a text is damaged."""
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(display_profile(DISPLAY_P3)))
    found = read(tmp_path, png(before=[profile, EXIF, TEXT]), run)
    assert np.abs(found - np.rot90(as_srgb(RAMP / 255, DISPLAY_P3) * 255, -1)).max() < 1.6
    assert run.notices == [f"a.png: {IGNORED}"]


@pytest.mark.parametrize("data", [png(cut=-40), png(between=[TEXT], cut=-40), png()[:41]])
def test_pixels_that_are_missing_are_an_error(tmp_path, run, data):
    with pytest.raises(ValueError, match=r"a\.png"):
        read(tmp_path, data, run)


def test_damage_in_the_pixels_is_an_error(tmp_path, run):
    data = bytearray(png())
    data[data.index(b"IDAT", data.index(b"IDAT") + 4) + 6] ^= 0xFF
    with pytest.raises(ValueError, match=r"a\.png"):
        read(tmp_path, bytes(data), run)


def test_checksum_of_transparency_is_ignored(tmp_path, run):
    read(tmp_path, png(before=[chunk(b"tRNS", bytes(6), checksum=1)]), run)
    transparency = struct.pack(">HHH", *RAMP[1, 1].tolist())
    (tmp_path / "t.png").write_bytes(png(before=[chunk(b"tRNS", transparency, checksum=1)]))
    assert load_image(tmp_path / "t.png", run=run).mask.values.nonzero().tolist() == [[0, 1, 1]]


def jpeg(*segments, exif=None):
    """A JPEG file with more segments at its start."""
    buffer = io.BytesIO()
    pillow.fromarray(RAMP).save(buffer, format="JPEG", quality=95, subsampling=0, **({} if exif is None else {"exif": exif}))
    data = buffer.getvalue()
    return data[:2] + b"".join(segments) + data[2:]


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    "side",
    [
        segment(0xE1, b"Exif\0\0nonsense"),
        segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\xff\xff"),
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"),
    ],
)
def test_damage_beside_the_pixels_of_a_jpeg_file(tmp_path, run, side):
    expected = read(tmp_path, jpeg(), run)
    assert not run.notices
    assert np.array_equal(read(tmp_path, jpeg(side), run), expected)


def test_a_jpeg_file_with_broken_segments_is_turned_by_its_exif(tmp_path, run, monkeypatch):
    monkeypatch.setattr(pillow, "open", refusing(pillow.open, b"Photoshop"))
    plain = read(tmp_path, jpeg(), run)
    found = read(tmp_path, jpeg(segment(0xED, b"Photoshop 3.0\0"), exif=TURNED), run)
    assert np.array_equal(found, np.rot90(plain, -1))
    assert run.notices == [f"a.png: {IGNORED}"]


def refusing(original, part):
    """Pillow's `open`, which refuses a file that contains `part`."""

    def opened(file, *args, **options):
        data = file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()
        if part in data:
            raise ValueError("damaged")
        return original(file, *args, **options)

    return opened


@pytest.mark.parametrize("lossless", [True, False])
def test_damage_beside_the_pixels_of_a_webp_file(tmp_path, run, lossless, monkeypatch):
    buffer = io.BytesIO()
    pillow.fromarray(RAMP).save(buffer, format="WEBP", lossless=lossless, exif=TURNED, xmp=b"<broken", exact=True)
    plain = io.BytesIO()
    pillow.fromarray(RAMP).save(plain, format="WEBP", lossless=lossless, exact=True)
    monkeypatch.setattr(pillow, "open", refusing(pillow.open, b"<broken"))
    assert np.array_equal(read(tmp_path, buffer.getvalue(), run), np.rot90(read(tmp_path, plain.getvalue(), run), -1))
    assert run.notices == [f"a.png: {IGNORED}"]


# --- colours


@pytest.mark.parametrize("name", ["p3.png", "p3.webp", "p3.tif", "p3.avif"])
def test_display_p3_looks_right(tmp_path, run, name):
    colours = np.array([[[255, 255, 255], [0, 0, 0], [128, 128, 128], [200, 120, 90], [90, 160, 120], [60, 80, 190]]], np.uint8)
    colours = colours.repeat(8, 0).repeat(8, 1)
    options = (
        {"lossless": True} if name.endswith("webp") else {"quality": 100, "subsampling": "4:4:4"} if name.endswith("avif") else {}
    )
    pillow.fromarray(colours).save(tmp_path / name, icc_profile=display_profile(DISPLAY_P3), **options)
    found = load_image(tmp_path / name, run=run).image.pixels[0].numpy()
    expected = as_srgb(colours / 255, DISPLAY_P3)
    assert np.abs(expected - colours / 255).max() > 0.04
    assert np.abs(found - expected).max() < (0.02 if name.endswith("avif") else 1.6 / 255)
    assert not run.notices


def test_the_profile_of_srgb_leaves_pixels_as_they_are(tmp_path, run):
    for profile in (display_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        pillow.fromarray(RAMP).save(tmp_path / "srgb.png", icc_profile=profile)
        assert np.array_equal(read(tmp_path, (tmp_path / "srgb.png").read_bytes(), run), RAMP)
    assert not run.notices


def test_transparency_stays_when_colours_are_converted(tmp_path):
    planes = np.concatenate([RAMP, np.arange(48, dtype=np.uint8).reshape(8, 6, 1) * 5], axis=-1)
    for picture in (pillow.fromarray(planes), pillow.fromarray(planes).quantize(16)):
        picture.save(tmp_path / "a.png", icc_profile=display_profile(DISPLAY_P3))
        picture.save(tmp_path / "b.png")
        converted, plain = load_image(tmp_path / "a.png"), load_image(tmp_path / "b.png")
        assert torch.equal(converted.mask.values, plain.mask.values)
        expected = as_srgb(plain.image.pixels.numpy(), DISPLAY_P3)
        assert np.abs(converted.image.pixels.numpy() - expected).max() < 1.6 / 255


@pytest.mark.parametrize("name", ["inks.tif", "inks.jpg"])
def test_inks_have_the_colours_of_their_profile(tmp_path, run, name):
    """Each full tone of four inks, and half of it; between two full tones with one ink more, colours are half way in CIELAB."""
    tones = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    halves = [(tone, index) for tone in tones for index in range(4) if not tone[index]]
    inks = [tone * 255 for tone in tones] + [tone * 255 + 128 * np.eye(4, dtype=int)[index] for tone, index in halves]
    pairs = [(ink_lab(tone), ink_lab(tone + np.eye(4, dtype=int)[index])) for tone, index in halves]
    lab = np.array([*ink_lab(tones), *(low + (high - low) * 128 / 255 for low, high in pairs)])
    cells = np.repeat(np.repeat(np.array(inks, np.uint8)[None], 16, 1), 16, 0)  # 16x16 pixels of each, for JPEG
    pillow.fromarray(cells, "CMYK").save(tmp_path / name, icc_profile=ink_profile(), quality=100, subsampling=0)
    found = load_image(tmp_path / name, run=run).image.pixels[0, 8, 8::16].numpy() * 255
    assert np.abs(found - lab_as_srgb(lab) * 255).max() < 2.5
    assert np.abs(found[0] - 255).max() == 0  # the paper
    assert run.notices == []


def test_profile_of_another_kind_of_picture_is_ignored_with_a_notice(tmp_path, run):
    pillow.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif", icc_profile=display_profile(DISPLAY_P3))
    assert load_image(tmp_path / "a.tif", run=run).image.pixels[0, 0, 0].tolist() == [1, 0, 0]
    assert run.notices == ["a.tif: its colour profile cannot be used, so its colours are read as sRGB"]


def test_lab_pictures_are_converted(tmp_path, run):
    lab = pillow.merge("LAB", [pillow.new("L", (4, 4), round(0.5 * 255)), *[pillow.new("L", (4, 4), 128)] * 2])
    lab.save(tmp_path / "lab.tif")
    found = load_image(tmp_path / "lab.tif", run=run).image.pixels
    assert found.mean().item() == pytest.approx(119 / 255, abs=0.02)  # L* 50 is the grey 119 of sRGB
    assert found.std() < 0.01


# --- odd cases, each as docs/workflows.md describes it


def test_one_pixel(tmp_path, run):
    assert read(tmp_path, png(np.full((1, 1, 3), 77, np.uint8)), run).tolist() == [[[77, 77, 77]]]


def test_16_bit_colours_have_8_bits(tmp_path, run):
    rows = b"".join(b"\0" + struct.pack(">3H", 0x1234, 0x8000, 0xFFFF) for _ in range(2))
    header = struct.pack(">IIBBBBB", 1, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert read(tmp_path, data, run)[0, 0].tolist() == [0x12, 0x80, 0xFF]


def test_16_bit_grey_with_a_profile_is_read_with_a_notice(tmp_path, run):
    pillow.fromarray(np.array([[1, 40001]], np.uint16)).save(tmp_path / "a.png", icc_profile=display_profile(DISPLAY_P3))
    assert load_image(tmp_path / "a.png", run=run).image.pixels[0, 0, 1, 0].item() == pytest.approx(40001 / 65535)
    assert run.notices == ["a.png: its colour profile cannot be used, so its colours are read as sRGB"]


def test_first_frame_of_an_animation_with_a_transparent_palette(tmp_path, run):
    frames = [pillow.new("P", (3, 2), index) for index in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 255, 0])
        frame.putpixel((0, 0), 2)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], transparency=2)
    loaded = load_image(tmp_path / "a.gif", run=run)
    assert loaded.image.pixels[0, 1, 1].tolist() == [1, 0, 0]
    assert loaded.mask.values.nonzero().tolist() == [[0, 0, 0]]
    assert run.notices == ["a.gif holds several pictures: the first one is used"]


def test_a_second_frame_that_is_damaged_does_not_refuse_the_first(tmp_path, run):
    frames = [pillow.fromarray(RAMP), pillow.fromarray(255 - RAMP)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[-len(data) // 3 :] = bytes(len(data[-len(data) // 3 :]))
    assert np.array_equal(read(tmp_path, bytes(data), run, "a.tif"), RAMP)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_truncated_avif_is_an_error(tmp_path, run):
    pillow.fromarray(RAMP).save(tmp_path / "a.avif")
    with pytest.raises(ValueError, match=r"a\.avif"):
        read(tmp_path, (tmp_path / "a.avif").read_bytes()[:-30], run, "a.avif")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_without_a_reader_names_the_package(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=re.escape("a HEIC picture, which the installed Pillow cannot read. Install pillow-heif")):
        read(tmp_path, HEIC, run, "a.heic")


def test_heic_is_read_if_its_reader_is_installed(tmp_path, run, monkeypatch):
    """`pillow-heif` adds the format HEIF to Pillow."""

    class Reader(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._mode, self._size = "RGB", (3, 2)
            self.tile = []

        def load(self):
            self.im = pillow.core.fill("RGB", self.size, (255, 0, 0))

    def register_heif_opener():
        pillow.register_open("HEIF", Reader, lambda start: start[8:12] == b"heic")

    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(pillow, "OPEN", dict(pillow.OPEN))
    monkeypatch.setattr(pillow, "ID", list(pillow.ID))
    assert read(tmp_path, HEIC, run, "a.heic")[0, 0].tolist() == [255, 0, 0]


# --- one meaning of masks


def test_every_node_repaints_what_is_transparent(tmp_path):
    """LoadImage's mask and Mask's alpha channel are the same, and so is a white mask file."""
    planes = np.full((2, 3, 4), 255, np.uint8)
    planes[0, 1, 3], planes[1, 2, 3] = 0, 102
    pillow.fromarray(planes).save(tmp_path / "holes.png")
    pillow.fromarray(255 - planes[..., 3]).save(tmp_path / "white.png")
    loaded = load_image(tmp_path / "holes.png").mask.values
    assert loaded[0].tolist() == [[0, 1, 0], [0, 0, pytest.approx(0.6)]]
    assert torch.equal(mask(path=tmp_path / "holes.png", channel="alpha").values, loaded)
    assert torch.allclose(mask(path=tmp_path / "white.png").values, loaded)
