"""Nodes that turn, cut and mix latents, against loops over their cells."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from nodegraph_diffusion.networks.config import LatentSpace
from nodegraph_nodes.nodes.latent_edits import (
    add_latents,
    blend_latents,
    crop_latent,
    flip_latent,
    interpolate_latents,
    multiply_latent,
    rotate_latent,
    subtract_latents,
)
from nodegraph_nodes.types import Latent

SD, SDXL = LatentSpace(), LatentSpace(scaling_factor=0.13025)


def random(batch=1, h=3, w=4, seed=0, space=SD, numbers=None):
    samples = torch.randn(batch, 4, h, w, generator=torch.Generator().manual_seed(seed))
    return Latent(samples, (h * 8, w * 8), space, numbers)


def cells(latent):
    return latent.samples.numpy()


def test_latents_are_mirrored():
    latent = random(batch=2, numbers=(3, 1))
    across, down = flip_latent(latent, "left_right"), flip_latent(latent, "up_down")
    for i, j in itertools.product(range(3), range(4)):
        np.testing.assert_array_equal(cells(across)[:, :, i, j], cells(latent)[:, :, i, 3 - j])
        np.testing.assert_array_equal(cells(down)[:, :, i, j], cells(latent)[:, :, 2 - i, j])
    assert (across.size, across.space, across.numbers) == (latent.size, SD, (3, 1))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_latents_are_turned_clockwise(turns):
    turned = rotate_latent(random(), turns)
    for i, j in itertools.product(range(3), range(4)):
        row, column = {0: (i, j), 1: (j, 2 - i), 2: (2 - i, 3 - j), 3: (3 - j, i)}[turns]
        np.testing.assert_array_equal(cells(turned)[:, :, row, column], cells(random())[:, :, i, j])
    assert turned.size == ((32, 24) if turns % 2 else (24, 32))


@pytest.mark.parametrize("change", [flip_latent, rotate_latent])
def test_padded_latents_are_not_turned(change):
    with pytest.raises(ValueError, match="expected sides that are multiples of its cells, found 30x24 pixels"):
        change(Latent(torch.zeros(1, 4, 3, 4), (24, 30), SD))


@pytest.mark.parametrize(
    ("width", "height", "x", "y", "place"),
    [
        (64, 32, 16, 8, (1, 5, 2, 10)),  # rows and columns: the first, and the one after the last
        (70, 39, 23, 15, (1, 5, 2, 10)),
        (512, 512, 0, 0, (0, 10, 0, 12)),
        (64, 64, 800, 800, (2, 10, 4, 12)),  # at least eight cells remain
    ],
)
def test_parts_are_cut_out(width, height, x, y, place):
    latent = random(batch=2, h=10, w=12)
    found = crop_latent(latent, width, height, x=x, y=y)
    top, bottom, left, right = place
    np.testing.assert_array_equal(cells(found), cells(latent)[:, :, top:bottom, left:right])
    assert found.size == ((bottom - top) * 8, (right - left) * 8)


def test_part_at_a_padded_edge_keeps_the_size_of_its_picture():
    latent = Latent(torch.zeros(1, 4, 10, 12), (77, 90), SD)
    assert crop_latent(latent, 512, 512, x=16, y=8).size == (77 - 8, 90 - 16)
    assert crop_latent(latent, 64, 64).size == (64, 64)


def test_two_latents_are_added_and_subtracted():
    first, second = random(batch=3), random(batch=2, seed=1)  # of the second batch, the first latent counts twice
    repeated = cells(second)[[0, 1, 0]]
    np.testing.assert_allclose(cells(add_latents(first, second)), cells(first) + repeated, rtol=1e-6)
    np.testing.assert_allclose(cells(subtract_latents(first, second)), cells(first) - repeated, rtol=1e-6)
    np.testing.assert_allclose(cells(multiply_latent(first, -1.5)), cells(first) * -1.5, rtol=1e-6)
    assert len(add_latents(second, first).samples) == 2


def test_other_latent_is_fitted():
    first = random(h=2, w=2)
    wide = random(h=2, w=4, seed=1)  # the columns in the middle remain
    np.testing.assert_allclose(cells(add_latents(first, wide)), cells(first) + cells(wide)[..., 1:3], rtol=1e-6)
    large = random(h=4, w=4, seed=2)  # halved by bilinear interpolation: the mean of two by two cells
    means = cells(large).reshape(1, 4, 2, 2, 2, 2).mean((3, 5))
    np.testing.assert_allclose(cells(subtract_latents(first, large)), cells(first) - means, atol=1e-6)
    taps = np.array([-3, 19, 19, -3]) / 32  # of bicubic interpolation (a = -0.75) between the two middle cells; edges are repeated
    near = ([0, 0, 1, 2], [1, 2, 3, 3])
    rows = np.stack([np.tensordot(cells(large)[:, :, cell, :], taps, (2, 0)) for cell in near], 2)
    both = np.stack([rows[..., cell] @ taps for cell in near], -1)
    np.testing.assert_allclose(cells(blend_latents(first, large, 0.25)), cells(first) * 0.25 + both * 0.75, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_directions_and_lengths_are_mixed(share):
    first, second = random(batch=2), random(batch=2, seed=1)
    first.samples[0, :, 0, 0] = 0  # has no direction
    found = interpolate_latents(first, second, share)
    for k, i, j in itertools.product(range(2), range(3), range(4)):
        a, b = (cells(latent)[k, :, i, j].astype(float) for latent in (first, second))
        lengths = [math.sqrt(sum(value**2 for value in vector)) for vector in (a, b)]
        units = [vector / length if length else vector * 0 for vector, length in zip((a, b), lengths, strict=True)]
        between = units[0] * share + units[1] * (1 - share)
        norm = math.sqrt(sum(value**2 for value in between))
        expected = (between / norm if norm else between * 0) * (lengths[0] * share + lengths[1] * (1 - share))
        np.testing.assert_allclose(cells(found)[k, :, i, j], expected, atol=1e-5)


def test_latents_of_two_models_are_not_mixed():
    with pytest.raises(ValueError, match=r"which this first latent is, found one of .*XL"):
        add_latents(random(), random(space=SDXL))
