"""Nodes that make, cut and combine masks, against loops over their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nodegraph_nodes.nodes.mask_edits import colour_mask, combine_masks, crop_mask, feather_mask, mask_to_image, solid_mask
from nodegraph_nodes.types import Image, Mask


def random(batch=1, h=5, w=7, seed=0):
    return Mask(torch.rand(batch, h, w, generator=torch.Generator().manual_seed(seed)))


def test_masks_are_made_and_cut():
    assert torch.equal(solid_mask(3, 2, 0.25).values, torch.full((1, 2, 3), 0.25))
    mask = random(batch=2)
    assert torch.equal(crop_mask(mask, 3, 2, x=1, y=2).values, mask.values[:, 2:4, 1:4])
    assert torch.equal(crop_mask(mask, x=4).values, mask.values[:, :, 4:])
    with pytest.raises(ValueError, match="expected x and y inside the mask of 7x5 pixels, found 7 and 0"):
        crop_mask(mask, x=7)


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (3, 0, 0, 0), (0, 2, 3, 4), (1, 1, 1, 1), (2, 3, 9, 9), (20, 20, 20, 20)])
def test_masks_fade_as_in_comfyui(sides):
    left, top, right, bottom = sides
    expected = random(batch=2).values.double().numpy()
    rows, columns = expected.shape[1:]
    for j in range(min(left, columns)):
        expected[:, :, j] *= (j + 1) / min(left, columns)
    for j in range(min(right, columns)):
        expected[:, :, -j] *= (j + 1) / min(right, columns)  # -0 is the first column
    for i in range(min(top, rows)):
        expected[:, i] *= (i + 1) / min(top, rows)
    for i in range(min(bottom, rows)):
        expected[:, -i] *= (i + 1) / min(bottom, rows)
    mask = random(batch=2)
    found = feather_mask(mask, left=left, top=top, right=right, bottom=bottom)
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-5)
    assert torch.equal(mask.values, random(batch=2).values)


OPERATIONS = {
    "multiply": lambda a, b: a * b,
    "add": lambda a, b: min(a + b, 1),
    "subtract": lambda a, b: max(a - b, 0),
    "and": lambda a, b: float(a > 0.5 and b > 0.5),
    "or": lambda a, b: float(a > 0.5 or b > 0.5),
    "xor": lambda a, b: float((a > 0.5) != (b > 0.5)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("x", "y", "size"), [(0, 0, (5, 7)), (2, 1, (2, 3)), (4, 3, (9, 9)), (7, 0, (2, 2))])
def test_masks_are_combined(operation, x, y, size):
    mask, other = random(batch=2), random(h=size[0], w=size[1], seed=1)
    found = combine_masks(mask, other, operation, x, y=y).values
    for k, i, j in np.ndindex(2, 5, 7):
        inside = 0 <= i - y < size[0] and 0 <= j - x < size[1]
        a = float(mask.values[k, i, j])
        expected = OPERATIONS[operation](a, float(other.values[0, i - y, j - x])) if inside else a
        assert float(found[k, i, j]) == pytest.approx(expected, abs=1e-6)


def test_other_masks_are_one_or_as_many():
    with pytest.raises(ValueError, match="other: expected one, or one for each of 3, found 2"):
        combine_masks(random(batch=3), random(batch=2))


def test_one_colour_of_a_picture_becomes_a_mask():
    pixels = torch.tensor([[[1, 0, 0], [254.6, 0, 0], [254, 0, 0]], [[0, 0, 0], [0, 255, 0], [255, 0.4, 0]]])[None] / 255
    pixels[0, 0, 0] = torch.tensor([1.0, 0, 0])
    assert colour_mask(Image(pixels), "#ff0000").values.tolist() == [[[1, 1, 0], [0, 0, 1]]]
    assert colour_mask(Image(pixels), "lime").values.sum() == 1
    assert colour_mask(Image(pixels)).values.tolist() == [[[0, 0, 0], [1, 0, 0]]]


def test_mask_becomes_a_grey_picture():
    mask = random(batch=2)
    picture = mask_to_image(mask).pixels
    assert picture.shape == (2, 5, 7, 3)
    assert all(torch.equal(picture[..., channel], mask.values) for channel in range(3))
