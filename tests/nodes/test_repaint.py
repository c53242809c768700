"""Pad, HideMasked and cropping to whole cells, against their arithmetic pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from nodegraph_nodes.nodes.latent import vae_decode, vae_encode
from nodegraph_nodes.nodes.repaint import hide_masked, pad
from nodegraph_nodes.types import Image, Mask


def pixels(height, width, batch=1):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(height))


@pytest.mark.parametrize(
    ("margins", "feather"),
    [((4, 0, 2, 3), 5), ((0, 0, 0, 0), 5), ((3, 3, 3, 3), 0), ((0, 7, 0, 0), 6), ((2, 0, 0, 0), 10), ((1, 1, 1, 1), 9)],
)
def test_margins_are_grey_and_the_mask_rises_towards_them(margins, feather):
    left, top, right, bottom = margins
    image = pixels(20, 22, batch=2)
    padded = pad(Image(image), *margins, feather)
    assert padded.image.pixels.shape == (2, 20 + top + bottom, 22 + left + right, 3)
    inside = (slice(None), slice(top, top + 20), slice(left, left + 22))
    assert torch.equal(padded.image.pixels[inside], image)
    outside = torch.ones(padded.image.pixels.shape[:3], dtype=torch.bool)
    outside[inside] = False
    assert bool((padded.image.pixels[outside] == 0.5).all())
    assert bool((padded.mask.values[outside] == 1).all())
    for i in range(20):
        for j in range(22):
            distances = [d for d, margin in ((i, top), (20 - i, bottom), (j, left), (22 - j, right)) if margin]
            nearest = min(distances, default=math.inf)
            expected = ((feather - nearest) / feather) ** 2 if feather and 2 * feather < 20 and nearest < feather else 0
            assert float(padded.mask.values[0, top + i, left + j]) == pytest.approx(expected, abs=1e-6)


def grown(mask, side):
    """By a convolution with ones, as a program that ComfyUI users know does it."""
    if side == 0:
        return mask.round()
    sums = F.conv2d(mask.round()[:, None], torch.ones(1, 1, side, side), padding=math.ceil((side - 1) / 2))
    return sums.clamp(0, 1)[:, 0, : mask.shape[1], : mask.shape[2]]


@pytest.mark.parametrize("grow", [0, 1, 2, 5, 6])
def test_what_is_masked_becomes_grey_and_the_mask_grows(run, grow):
    image, mask = pixels(16, 24), torch.zeros(1, 16, 24)
    mask[0, 6:9, 10:14], mask[0, 0, 0], mask[0, 15, 20] = 0.7, 1.0, 0.4
    hidden = hide_masked(Image(image), Mask(mask), grow, run=run)
    white = mask[0] > 0.5
    assert bool((hidden.image.pixels[0][white] == 0.5).all())
    assert torch.allclose(hidden.image.pixels[0][~white], image[0][~white], atol=1e-7)
    assert torch.equal(hidden.mask.values, grown(mask, grow))


def test_picture_and_mask_are_cropped_around_the_centre(run):
    image, mask = pixels(19, 30), torch.rand(1, 19, 30)
    hidden = hide_masked(Image(image), Mask(mask), 0, multiple=8, run=run)
    assert torch.equal(hidden.mask.values, mask.round()[:, 1:17, 3:27])
    assert hidden.image.pixels.shape == (1, 16, 24, 3)
    with pytest.raises(ValueError, match="expected sides of at least 8 pixels, found 30x7"):
        hide_masked(Image(image[:, :7]), Mask(mask[:, :7]), multiple=8)


def test_an_encoded_picture_may_be_cropped_to_whole_cells(model, run):
    factor = model.vae.part.config.factor
    image = pixels(4 * factor + 3, 5 * factor + 2)
    latent = vae_encode(model.vae, Image(image), fit="crop", run=run)
    assert latent.size == (4 * factor, 5 * factor)
    inside = image[:, 1 : 1 + 4 * factor, 1 : 1 + 5 * factor]
    assert torch.equal(latent.samples, vae_encode(model.vae, Image(inside), run=run).samples)
    assert vae_decode(model.vae, latent, run).pixels.shape[1:3] == latent.size
