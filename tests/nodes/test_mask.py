"""The Mask node: sources, growing and shrinking, blur and threshold; and resizing of masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from nodegraph_diffusion.masks import blur, dilate
from nodegraph_nodes.nodes.mask import mask, resize_mask
from nodegraph_nodes.types import Image, Mask


def random_mask(height=9, width=12, batch=1):
    return Mask(torch.rand(batch, height, width, generator=torch.Generator().manual_seed(3)))


@pytest.fixture
def colours(tmp_path):
    """A file of one row: grey 128, red, a half transparent blue."""
    path = tmp_path / "colours.png"
    row = np.array([[[128, 128, 128, 255], [255, 0, 0, 255], [0, 0, 255, 128]]], np.uint8)
    pillow.fromarray(row).save(path)
    return path


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("luminance", [128 / 255, 0.299, 0.114]),
        ("red", [128 / 255, 1, 0]),
        ("green", [128 / 255, 0, 0]),
        ("blue", [128 / 255, 0, 1]),
        ("alpha", [0, 0, 127 / 255]),
    ],
)
def test_file_channels_become_masks(colours, channel, expected):
    assert mask(path=colours, channel=channel).values[0, 0].tolist() == pytest.approx(expected)


def test_picture_channels_become_masks():
    picture = Image(torch.tensor([[[[1.0, 0.5, 0.25]]]]))
    assert mask(image=picture, channel="blue").values.tolist() == [[[0.25]]]
    assert mask(image=picture).values.item() == pytest.approx(0.299 + 0.5 * 0.587 + 0.25 * 0.114)


def test_luminance_of_grey_is_that_grey():
    greys = torch.arange(256) / 255
    picture = Image(greys[None, None, :, None].expand(1, 1, 256, 3))
    assert torch.equal(mask(image=picture).values[0, 0], greys)


def test_16_bit_masks_are_exact(tmp_path):
    pillow.fromarray(np.array([[1, 40001]], np.uint16)).save(tmp_path / "deep.png")
    assert mask(path=tmp_path / "deep.png").values[0, 0].tolist() == pytest.approx([1 / 65535, 40001 / 65535])


def test_nothing_of_a_file_without_alpha_is_repainted(tmp_path):
    pillow.new("RGB", (3, 2)).save(tmp_path / "opaque.png")
    assert torch.equal(mask(path=tmp_path / "opaque.png", channel="alpha").values, torch.zeros(1, 2, 3))


def test_mask_of_a_mask_is_that_mask():
    assert torch.equal(mask(mask=random_mask()).values, random_mask().values)


def test_invert_comes_before_threshold():
    soft = Mask(torch.tensor([[[0.2, 0.5, 0.8]]]))
    assert mask(mask=soft, invert=True).values.tolist() == [[pytest.approx([0.8, 0.5, 0.2])]]
    assert mask(mask=soft, threshold=0.5).values.tolist() == [[[0, 1, 1]]]
    assert mask(mask=soft, invert=True, threshold=0.6).values.tolist() == [[[1, 0, 0]]]


@pytest.mark.parametrize("radius", [0.5, 1, 1.5, 2, 3.7, 20])
def test_grow_takes_the_maximum_within_a_disc(radius):
    values = random_mask(batch=2).values
    height, width = values.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    expected = torch.empty_like(values)
    for i in range(height):
        for j in range(width):
            expected[:, i, j] = values[:, (y - i) ** 2 + (x - j) ** 2 <= radius**2].amax(dim=-1)
    assert torch.equal(dilate(values, radius), expected)
    assert torch.equal(mask(mask=Mask(values), grow=radius).values, expected)


def test_shrinking_undoes_growing():
    values = torch.zeros(1, 21, 21)
    values[0, 8:13, 8:13] = 1
    grown = mask(mask=Mask(values), grow=4)
    assert torch.equal(mask(mask=grown, grow=-4).values, values)
    white = Mask(torch.ones(1, 5, 5))
    assert torch.equal(mask(mask=white, grow=-2).values, white.values)


@pytest.mark.parametrize("sigma", [0.3, 1, 2.5])
def test_blur_is_gaussian(sigma):
    values = torch.zeros(1, 41, 41)
    values[0, 20, 20] = 1
    soft = blur(values, sigma)[0]
    assert soft.sum().item() == pytest.approx(1, abs=1e-5)
    distances = torch.arange(41) - 20.0
    if sigma >= 1:
        spread = (soft.sum(dim=0) * distances**2).sum().sqrt().item()
        assert spread == pytest.approx(sigma, rel=0.05)
    assert torch.allclose(soft, soft.T)
    assert torch.equal(soft[distances.abs() > math.ceil(3 * sigma)], torch.zeros_like(soft[distances.abs() > math.ceil(3 * sigma)]))


def test_blur_keeps_constant_areas():
    assert torch.allclose(mask(mask=Mask(torch.ones(1, 4, 3)), blur=50).values, torch.ones(1, 4, 3))
    assert not mask(mask=Mask(torch.zeros(1, 4, 3)), blur=2).values.any()


def test_values_stay_within_0_and_1():
    values = mask(mask=random_mask(batch=2), grow=2, blur=1.3).values
    assert values.shape == (2, 9, 12)
    assert values.min() >= 0
    assert values.max() <= 1


def test_resizing_gives_a_notice_and_keeps_extremes(run):
    half = torch.zeros(1, 40, 40)
    half[:, :20] = 1
    small = resize_mask(Mask(half), (10, 8), run).values
    assert small.shape == (1, 10, 8)
    assert torch.allclose(small[:, :3], torch.ones(1, 3, 8))
    assert not small[:, 7:].any()
    assert run.notices == ["the mask is 40x40 and the picture 8x10: the mask is resized"]
    assert resize_mask(Mask(half), (40, 40), run).values is half
    assert len(run.notices) == 1


def test_mask_needs_a_source():
    with pytest.raises(ValueError, match="one of path, mask and image; found none of them"):
        mask()


def test_picture_values_have_no_alpha():
    with pytest.raises(ValueError, match=r"no alpha channel. Give the path"):
        mask(image=Image(torch.ones(1, 2, 2, 3)), channel="alpha")


@pytest.mark.parametrize(
    ("literals", "message"),
    [
        ({"path": None, "mask": None, "image": None}, "found none of them"),
        ({"path": "a.png", "mask": None}, "found path and image"),  # `image` is linked: it is no literal
        ({"path": None, "mask": None, "channel": "alpha"}, "only a file has an alpha channel"),
        ({"path": "a.png", "mask": None, "image": None, "channel": "alpha"}, None),
        ({"path": None, "image": None}, None),
    ],
)
def test_check_requires_exactly_one_source(plugins, literals, message):
    check = plugins.nodes.get("Mask").value.check
    assert check is not None
    messages = list(check(**literals))
    assert len(messages) == (0 if message is None else 1)
    assert message is None or message in messages[0]


def grown(mask, steps, neighbours):
    """The mask after steps in which each pixel takes the largest value (or for negative steps the smallest) of its neighbours."""
    choose = max if steps > 0 else min
    rows = mask.tolist()
    height, width = len(rows), len(rows[0])
    for _ in range(abs(steps)):
        rows = [
            [
                choose(rows[y + dy][x + dx] for dy, dx in neighbours if 0 <= y + dy < height and 0 <= x + dx < width)
                for x in range(width)
            ]
            for y in range(height)
        ]
    return torch.tensor(rows)


CROSS = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
SQUARE = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


@pytest.mark.parametrize("steps", [1, 3, -1, -2])
@pytest.mark.parametrize(("corners", "neighbours"), [("diamond", CROSS), ("square", SQUARE)])
def test_masks_grow_as_in_comfyui(steps, corners, neighbours):
    values = random_mask().values
    found = mask(mask=Mask(values), grow=steps, corners=corners).values[0]
    assert torch.allclose(found, grown(values[0], steps, neighbours), atol=1e-6)
