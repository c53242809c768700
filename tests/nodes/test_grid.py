"""Resize, Label and Grid lay out pictures for comparison."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph_nodes.nodes.grid import grid, label, resize
from nodegraph_nodes.types import Image


def pixels(height=4, width=6, batch=1, seed=0):
    return Image(torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed)))


def plain(value, height=4, width=6, batch=1):
    return Image(torch.full((batch, height, width, 3), float(value)))


# --- Resize


def test_nearest_copies_pixels():
    image = pixels(batch=2)
    assert torch.equal(
        resize(image, scale=3.0, method="nearest").pixels, image.pixels.repeat_interleave(3, 1).repeat_interleave(3, 2)
    )


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ({"width": 12}, (8, 12)),
        ({"height": 2}, (2, 3)),
        ({"width": 5, "height": 9}, (9, 5)),
        ({"scale": 0.5}, (2, 3)),
        ({"scale": 0.001}, (1, 1)),
        ({"height": 1}, (1, 2)),
    ],
)
@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "lanczos", "area"])
def test_missing_side_keeps_the_aspect_ratio(sizes, size, method):
    resized = resize(pixels(batch=2), **sizes, method=method).pixels
    assert resized.shape == (2, *size, 3)
    assert 0 <= float(resized.min()) <= float(resized.max()) <= 1


@pytest.mark.parametrize(("method", "filter"), [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC"), ("area", "BOX")])
@pytest.mark.parametrize("size", [(8, 6), (40, 60)])
def test_resize_equals_pillow(method, filter, size):
    image = pixels(20, 24)
    if method == "area":
        size = (10, 8)  # each output pixel covers whole input pixels
    resized = resize(image, height=size[0], width=size[1], method=method).pixels[0]
    channels = [
        pillow.fromarray(image.pixels[0, ..., k].numpy()).resize(size[::-1], getattr(pillow.Resampling, filter)) for k in range(3)
    ]
    assert np.allclose(resized.numpy(), np.stack(channels, axis=-1).clip(0, 1), atol=2e-3)


def lanczos(before, after):
    """The weight of each of `before` pixels in each of `after`: sinc(d) sinc(d / 3), stretched if pictures become smaller."""
    stretch = max(before / after, 1)
    centres = (np.arange(after)[:, None] + 0.5) * before / after
    distances = (np.arange(before) + 0.5 - centres) / stretch
    weights = np.where(np.abs(distances) < 3, np.sinc(distances) * np.sinc(distances / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(8, 6), (40, 60), (20, 30)])
def test_lanczos_is_its_formula(size):
    image = pixels(20, 24, batch=2)
    resized = resize(image, height=size[0], width=size[1], method="lanczos").pixels.numpy()
    expected = np.einsum("yi,bijc,xj->byxc", lanczos(20, size[0]), image.pixels.numpy(), lanczos(24, size[1]))
    assert np.allclose(resized, expected.clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_without_antialias_few_pixels_count(method):
    image = pixels(20, 24)
    resized = resize(image, height=5, width=6, method=method, antialias=False).pixels[0, 2, 3]
    weights = {"bilinear": [0.5, 0.5], "bicubic": [-0.09375, 0.59375, 0.59375, -0.09375]}[method]  # between two pixels
    reach = len(weights) // 2
    area = image.pixels[0, 10 - reach : 10 + reach, 14 - reach : 14 + reach]
    expected = torch.einsum("i,j,ijc->c", torch.tensor(weights), torch.tensor(weights), area)
    assert torch.allclose(resized, expected, atol=1e-6)
    assert not torch.allclose(resized, resize(image, height=5, width=6, method=method).pixels[0, 2, 3], atol=1e-3)


def test_a_picture_is_cropped_to_new_proportions():
    image = pixels(20, 24)
    assert torch.equal(resize(image, width=20, height=20, method="nearest", crop=True).pixels, image.pixels[:, :, 2:22])
    assert torch.equal(resize(image, width=24, height=12, method="nearest", crop=True).pixels, image.pixels[:, 4:16])


@pytest.mark.parametrize(("height", "width", "megapixels"), [(20, 24, 0.25), (300, 7, 0.001), (512, 512, 0.25)])
def test_megapixels_set_the_size(height, width, megapixels):
    resized = resize(plain(0.5, height, width), megapixels=megapixels, method="nearest").pixels
    scale = (megapixels * 1024 * 1024 / (height * width)) ** 0.5
    assert resized.shape[1:3] == (round(height * scale), round(width * scale))


def test_resize_needs_exactly_one_size():
    with pytest.raises(ValueError, match="needs a width, a height, a scale or megapixels"):
        resize(pixels())
    for sizes, message in (
        ({}, "needs a width, a height, a scale or megapixels"),
        ({"width": 8, "scale": 2.0}, "width and scale both set"),
        ({"scale": 2.0, "megapixels": 1.0}, "scale and megapixels both set"),
    ):
        workflow = Workflow("resize")
        workflow.add("Resize", image=workflow.add("LoadImage", path=__file__).image, **sizes)
        with pytest.raises(WorkflowError, match=message):
            Engine(cache_dir=None).check(workflow)
    with pytest.raises(ValueError, match="at most 32768 pixels, found 600000x4"):
        resize(pixels(), width=600_000, height=4)


# --- Label


@pytest.mark.parametrize("place", ["above", "below", "left", "right"])
def test_label_leaves_the_pictures_unchanged(place):
    image = pixels(80, 90, batch=2)
    labelled = label(image, "euler", place=place, size=20).pixels
    band = 32  # 1.6 times the size of the letters
    top, left = (band if place == "above" else 0), (band if place == "left" else 0)
    assert torch.equal(labelled[:, top : top + 80, left : left + 90], image.pixels)
    added = (80 + band, 90) if place in ("above", "below") else (80, 90 + band)
    assert labelled.shape == (2, *added, 3)


def ink(image):
    """The dark pixels: (H, W)."""
    return image.pixels[0].mean(-1) < 0.5


def test_label_text_is_centred_and_coloured():
    labelled = label(plain(1, 10, 200), "heun", size=20, colour="#0000ff", background="#ffff00")
    band = labelled.pixels[0, :32]
    written = (band - torch.tensor([0.0, 0.0, 1.0])).abs().sum(-1) < 0.1
    assert 50 < int(written.sum()) < 1000
    rows, columns = written.nonzero().float().unbind(1)
    assert float(columns.min() + columns.max()) / 2 == pytest.approx(100, abs=4)
    assert 4 < float(rows.min()) < float(rows.max()) < 30
    assert torch.equal(band[0, 0], torch.tensor([1.0, 1.0, 0.0]))


def test_side_label_reads_upward():
    above = ink(label(plain(1, 100, 100), "seed 7", size=20))[:32]
    left = ink(label(plain(1, 100, 100), "seed 7", size=20, place="left"))[:, :32]
    assert torch.equal(left, above.rot90())
    assert bool(above.any())


@pytest.mark.parametrize("text", ["", "   ", "a very long name of a sampler that no one can read", "two\nlines", "größer: σ ≤ 1"])
def test_any_text_fits(text):
    labelled = label(plain(1, 20, 60), text, size=14)
    assert labelled.pixels.shape == (1, 42, 60, 3)
    assert bool(ink(labelled)[:22].any()) == bool(text.strip())
    assert label(plain(1, 4, 3), text, size=40).pixels.shape == (1, 68, 3, 3)


def test_cut_text_gives_a_notice():
    cut, whole = (label(plain(1, 20, 60), text, size=14) for text in ("dpmpp_2m_sde_heun", "dpmp"))
    assert not torch.equal(cut.pixels, whole.pixels)
    assert torch.equal(cut.pixels, label(plain(1, 20, 60), "dpmpp_2m_sde_heun_and_more", size=14).pixels)


@pytest.mark.parametrize(("use", "input"), [("Label", "colour"), ("Label", "background"), ("Grid", "background")])
def test_unknown_colour_fails_before_the_run(use, input):
    workflow = Workflow("sheet")
    picture = workflow.add("LoadImage", path=__file__)  # not opened
    workflow.add(
        use, **({"text": "a", "image": picture.image} if use == "Label" else {"images": [picture.image]}), **{input: "bluu"}
    )
    with pytest.raises(WorkflowError, match=rf"E116\] {input}: expected a colour such as .*, found 'bluu'. Name another one"):
        Engine(cache_dir=None).check(workflow)


def test_unknown_colour_is_an_error():
    with pytest.raises(ValueError, match="expected a colour such as 'white' or '#ff8800', found 'whiteish'"):
        label(plain(1), "text", background="whiteish")


# --- Grid


def test_grid_is_filled_row_by_row():
    sheet = grid([plain(0.1), plain(0.2, batch=2), plain(0.4), plain(0.5)], columns=2, gap=3, background="black").pixels
    assert sheet.shape == (1, 3 * 4 + 2 * 3, 2 * 6 + 3, 3)
    corners = [float(sheet[0, 7 * row, 9 * column, 0]) for row in range(3) for column in range(2)]
    assert corners == pytest.approx([0.1, 0.2, 0.2, 0.4, 0.5, 0.0])
    assert float(sheet[0, 4:7].max()) == 0


def test_default_grid_is_one_row():
    images = [pixels(seed=seed) for seed in range(3)]
    sheet = grid(images, gap=0).pixels
    assert torch.equal(sheet, torch.cat([image.pixels for image in images], dim=2))
    assert torch.equal(grid(images[:1], columns=5).pixels, images[0].pixels)


def test_smaller_pictures_are_centred():
    sheet = grid([plain(0, 6, 6), plain(0, 2, 4)], gap=1).pixels[0, ..., 0]
    assert sheet.shape == (6, 11)
    assert torch.equal(sheet[:, 7:] == 0, torch.tensor([[False] * 4] * 2 + [[True] * 4] * 2 + [[False] * 4] * 2))


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=6),
    columns=st.none() | st.integers(1, 8),
    gap=st.integers(0, 3),
)
def test_grid_holds_every_pixel(sizes, columns, gap):
    images = [plain(0, height, width, batch) for height, width, batch in sizes]
    sheet = grid(images, columns=columns, gap=gap).pixels[0, ..., 0]
    assert int((sheet == 0).sum()) == sum(height * width * batch for height, width, batch in sizes)


def test_grid_needs_pictures_and_a_limited_size():
    with pytest.raises(ValueError, match="at least one picture, found none"):
        grid([])
    with pytest.raises(ValueError, match="at most 32768 pixels, found 40003x1"):
        grid([plain(0, 1, 20_000), plain(0, 1, 20_003)], gap=0)
