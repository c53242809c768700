"""LoadImage reads every common kind of picture file, Composite keeps the original outside the mask, and Paste places pictures."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from nodegraph import Run
from nodegraph_nodes.nodes.image import composite, load_image, paste
from nodegraph_nodes.pictures.files import FORMATS
from nodegraph_nodes.types import Image, Mask

RAMP = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2


@pytest.fixture
def saved(tmp_path):
    """Writes a picture, from an array or a Pillow image, and returns its path."""

    def save(picture, name="picture.png", **options):
        path = tmp_path / name
        (picture if isinstance(picture, pillow.Image) else pillow.fromarray(picture)).save(path, **options)
        return path

    return save


def pixels(height=4, width=6, batch=1, seed=0):
    return Image(torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed)))


# --- LoadImage


def test_8_bit_pictures_are_exact(saved):
    loaded = load_image(saved(RAMP))
    assert loaded.image.pixels.dtype == torch.float32
    assert torch.equal(loaded.image.pixels, torch.from_numpy(RAMP).float()[None] / 255)
    assert torch.equal(loaded.mask.values, torch.zeros(1, 5, 7))


def test_transparency_becomes_the_mask(saved):
    opacity = np.full((5, 7, 1), 255, np.uint8)
    opacity[1, 2], opacity[3, 4] = 0, 51
    loaded = load_image(saved(np.concatenate([RAMP, opacity], axis=-1)))
    assert torch.equal(loaded.image.pixels[0], torch.from_numpy(RAMP).float() / 255)
    assert loaded.mask.values[0, 1, 2] == 1
    assert loaded.mask.values[0, 3, 4] == pytest.approx(0.8)
    assert loaded.mask.values.sum() == pytest.approx(1.8)


@pytest.mark.parametrize(("name", "mode"), [("p.png", "P"), ("p.gif", "P"), ("p.png", "RGB"), ("p.png", "L")])
def test_transparent_colour_becomes_the_mask(saved, name, mode):
    picture = pillow.new(mode, (7, 5), 1 if mode != "RGB" else (1, 1, 1))
    if mode == "P":
        picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((3, 2), 0 if mode != "RGB" else (0, 0, 0))
    loaded = load_image(saved(picture, name, transparency=0 if mode != "RGB" else (0, 0, 0)))
    assert loaded.image.pixels.shape == (1, 5, 7, 3)
    assert loaded.mask.values.nonzero().tolist() == [[0, 2, 3]]


def test_palette_colours_are_read(saved):
    picture = pillow.new("P", (2, 1), 1)
    picture.putpalette([255, 0, 0, 0, 51, 0])
    assert load_image(saved(picture)).image.pixels[0, 0, 0].tolist() == pytest.approx([0, 0.2, 0])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "PA", "CMYK", "YCbCr"])
def test_other_colour_modes_are_converted(saved, mode):
    white = pillow.new("RGB", (7, 5), "white").convert(mode)
    assert load_image(saved(white, "white.tif")).image.pixels.min() > 0.99


def test_cmyk_and_inverted_cmyk_are_read(saved):
    red = pillow.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert load_image(saved(red, "red.jpg", quality=100)).image.pixels.mean(dim=(0, 1, 2)).tolist() == pytest.approx(
        [1, 0, 0], abs=0.02
    )


@pytest.mark.parametrize(("name", "dtype"), [("deep.png", "<u2"), ("deep.tif", "<u2"), ("big-endian.tif", ">u2")])
def test_16_bit_grey_is_exact(saved, name, dtype):
    values = np.array([[0, 1, 257], [40000, 65534, 65535]], np.uint16)
    loaded = load_image(saved(values.astype(dtype), name))
    expected = torch.from_numpy(values.astype(np.float32) / 65535)
    assert torch.equal(loaded.image.pixels, expected[None, ..., None].expand(1, 2, 3, 3))
    assert not loaded.mask.values.any()


def test_16_bit_grey_with_alpha_is_read(saved):
    values = np.array([[0, 40000, 65535]], np.uint16)
    assert load_image(saved(values, transparency=40000)).mask.values.tolist() == [[[0, 1, 0]]]


def test_floating_point_grey_is_read(saved):
    values = np.array([[0, 0.25, 1]], np.float32)
    assert load_image(saved(values, "float.tif")).image.pixels[0, 0, :, 0].tolist() == [0, 0.25, 1]


@pytest.mark.parametrize("values", [np.array([[0, 255.0]], np.float32), np.array([[0, 70000]], np.int32)])
def test_pictures_without_a_known_white_are_refused(saved, values):
    with pytest.raises(ValueError, match=r"expected grey values from 0 to .*, found 0 to .*Save it as a PNG"):
        load_image(saved(values, "strange.tif"))


def test_exif_orientation_is_applied(saved):
    exif = pillow.Exif()
    exif[0x0112] = 6  # orientation: to be turned a quarter clockwise
    turned = load_image(saved(RAMP, "turned.png", exif=exif)).image.pixels[0]
    assert torch.equal(turned, torch.from_numpy(np.rot90(RAMP, -1).copy()).float() / 255)


@pytest.mark.parametrize("name", ["several.gif", "several.webp", "several.png", "several.tif"])
def test_first_of_several_pictures_is_used_with_a_notice(saved, run, name):
    first, second = pillow.new("RGB", (7, 5), "black"), pillow.new("RGB", (7, 5), "white")
    loaded = load_image(saved(first, name, save_all=True, append_images=[second]), run=run)
    assert loaded.image.pixels.max() == 0
    assert run.notices == [f"{name} holds several pictures: the first one is used"]


def test_large_picture_is_read_and_huge_one_refused(saved, monkeypatch):
    path = saved(RAMP)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 5 * 7 - 1)
    assert load_image(path).image.pixels.shape == (1, 5, 7, 3)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 5 * 7 // 2 - 1)
    with pytest.raises(ValueError, match=r"picture\.png is too large .*35 pixels.*Scale it down"):
        load_image(path)


def test_file_that_is_not_a_picture_is_an_error(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png is not a picture that can be read\. Give a PNG"):
        load_image(path)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("name", ["picture.png", "picture.eps"])
def test_other_formats_are_refused_without_a_program_for_them(tmp_path, monkeypatch, name):
    """Pillow reads EPS by starting Ghostscript."""
    monkeypatch.setattr("subprocess.check_call", lambda *args, **options: pytest.fail("it started another program"))
    monkeypatch.setattr("subprocess.Popen", lambda *args, **options: pytest.fail("it started another program"))
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(ValueError, match="is not a picture that can be read"):
        load_image(tmp_path / name)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "HEIF"])
def test_every_named_format_is_read(tmp_path, format):
    pillow.new("RGB", (4, 3), "red").save(tmp_path / "file", format=format)
    loaded = load_image(tmp_path / "file").image.pixels
    assert loaded.shape == (1, 3, 4, 3)
    assert loaded[0, 0, 0].tolist() == pytest.approx([1, 0, 0], abs=0.02)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.gif", "cut.tif"])
def test_truncated_picture_is_an_error(saved, name):
    path = saved(pillow.effect_noise((64, 64), 90).convert("RGB"), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name}"):
        load_image(path)


def test_missing_picture_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png cannot be read"):
        load_image(tmp_path / "gone.png")


def encoded(format):
    buffer = io.BytesIO()
    pillow.fromarray(RAMP).save(buffer, format=format)
    return buffer.getvalue()


WHOLE = {format: encoded(format) for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM")}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_picture_is_read_or_refused_clearly(tmp_path_factory, data):
    content = bytearray(WHOLE[data.draw(st.sampled_from(sorted(WHOLE)))])
    del content[data.draw(st.integers(1, len(content))) :]
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert load_image(path, Run()).image.pixels.isfinite().all()


# --- Composite


def test_pixels_outside_the_mask_stay_exact():
    image, original = pixels(seed=1), pixels(seed=2)
    mask = torch.zeros(1, 4, 6)
    mask[0, 1:3, 2:4] = torch.tensor([[1, 1], [0.5, 1e-7]])
    joined = composite(image, original, Mask(mask)).pixels
    outside = mask == 0
    assert torch.equal(joined[outside], original.pixels[outside])
    assert torch.equal(joined[mask == 1], image.pixels[mask == 1])
    assert torch.allclose(joined[mask == 0.5], (image.pixels + original.pixels)[mask == 0.5] / 2)


def test_one_original_and_one_mask_fit_a_batch():
    image, original = pixels(batch=3), pixels(seed=1)
    mask = Mask(torch.ones(1, 4, 6))
    assert torch.equal(composite(image, original, mask).pixels, image.pixels)


def test_each_picture_can_have_its_mask():
    image, original = pixels(batch=2), pixels(batch=2, seed=1)
    mask = Mask(torch.stack([torch.zeros(4, 6), torch.ones(4, 6)]))
    joined = composite(image, original, mask).pixels
    assert torch.equal(joined, torch.stack([original.pixels[0], image.pixels[1]]))


def test_mask_of_another_size_is_resized_with_a_notice(run):
    mask = torch.zeros(1, 8, 12)
    mask[:, :, 6:] = 1
    joined = composite(pixels(seed=1), pixels(), Mask(mask), run=run).pixels
    assert torch.equal(joined[:, :, :2], pixels().pixels[:, :, :2])
    assert torch.equal(joined[:, :, 4:], pixels(seed=1).pixels[:, :, 4:])
    assert run.notices == ["the mask is 12x8 and the picture 6x4: the mask is resized"]


def test_pictures_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="expected two pictures of one size, found 7x4 and 6x4"):
        composite(pixels(width=7), pixels(), Mask(torch.ones(1, 4, 6)))


def test_batches_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="found 3 of 'image', 2 of 'original', 1 of 'mask'"):
        composite(pixels(batch=3), pixels(batch=2), Mask(torch.ones(1, 4, 6)))


# --- Paste


def pasted(image, original, x, y, mask):
    """Pixel by pixel, as ComfyUI's ImageCompositeMasked: (B, H, W, 3) arrays, and a mask (M, h, w) of the size of `image`."""
    result = original.copy()
    for k, row, column in np.ndindex(original.shape[:3]):
        i, j = row - y, column - x
        if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
            white = 1.0 if mask is None else mask[k % len(mask), i, j]
            result[k, row, column] = image[k % len(image), i, j] * white + original[k, row, column] * (1 - white)
    return result


@pytest.mark.parametrize(
    ("x", "y", "size", "batch"), [(0, 0, (2, 3), 1), (4, 1, (3, 3), 1), (1, 3, (9, 9), 2), (6, 0, (2, 2), 3), (2, 2, (4, 6), 3)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_pictures_are_pasted_at_a_place(x, y, size, batch, masked):
    generator = torch.Generator().manual_seed(x + y)
    image, original = Image(torch.rand(batch, *size, 3, generator=generator)), pixels(batch=2, seed=1)
    mask = Mask(torch.rand(1, *size, generator=generator)) if masked else None
    result = paste(image, original, x, y, mask=mask).pixels
    expected = pasted(*(part.pixels.numpy() for part in (image, original)), x, y, mask.values.numpy() if mask else None)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)
    assert torch.equal(original.pixels, pixels(batch=2, seed=1).pixels)


def test_pasted_picture_and_its_mask_may_be_stretched():
    image, original = Image(torch.full((1, 2, 3, 3), 0.25)), pixels()
    assert torch.allclose(paste(image, original, stretch=True).pixels, torch.full((1, 4, 6, 3), 0.25))
    half = Mask(torch.tensor([[[1.0, 0.0]]]))  # of two values, which are stretched over six columns of pixels
    shares = torch.tensor([1, 1, 2 / 3, 1 / 3, 0, 0])[:, None]
    expected = 0.25 * shares + original.pixels * (1 - shares)
    assert torch.allclose(paste(image, original, mask=half, stretch=True).pixels, expected, atol=1e-6)
