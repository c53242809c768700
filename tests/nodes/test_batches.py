"""Nodes that take batches apart and put them together, and the noise that each picture gets then."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nodegraph_diffusion.networks.config import LatentSpace
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.sampling import draw_noise
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.nodes.batches import (
    batch_noise,
    from_batch,
    image_from_batch,
    join_latents,
    rebatch,
    repeat_image,
    repeat_latent,
)
from nodegraph_nodes.nodes.latent import noise
from nodegraph_nodes.nodes.sampling import sampler
from nodegraph_nodes.types import Denoiser, Image, Latent

SD = LatentSpace()


def random(batch=1, h=6, w=5, seed=0, numbers=None, size=None):
    samples = torch.randn(batch, 4, h, w, generator=torch.Generator().manual_seed(seed))
    return Latent(samples, size or (h * 8, w * 8), SD, numbers)


# --- FromBatch


def test_latents_come_out_of_a_batch():
    batch = random(batch=4, size=(47, 40))
    one = from_batch(batch, index=2)
    assert torch.equal(one.samples, batch.samples[2:3])
    assert (one.size, one.space) == (batch.size, batch.space)
    assert torch.equal(from_batch(batch, index=-3, count=2).samples, batch.samples[1:3])
    pictures = Image(torch.rand(3, 2, 2, 3))
    assert torch.equal(image_from_batch(pictures, index=1, count=2).pixels, pictures.pixels[1:])


@pytest.mark.parametrize(("index", "count"), [(4, 1), (3, 2), (-5, 1), (-1, 2)])
def test_what_a_batch_does_not_have_is_an_error(index, count):
    with pytest.raises(ValueError, match=f"expected pictures of a batch of 4, counted from 0, found {count} from {index} on"):
        from_batch(random(batch=4), index=index, count=count)


# --- the noise of a picture


@pytest.mark.parametrize("draw", ["per_picture", "sequential"])
def test_a_picture_keeps_the_noise_of_its_batch(draw):
    batch = random(batch=4, h=4, w=4)  # with so many numbers, a batch is drawn like its pictures one by one
    whole = noise(batch, 5, draw).values
    part = from_batch(batch, index=1, count=2)
    assert part.numbers == (1, 2)
    assert torch.equal(noise(part, 5, draw).values, whole[1:3])
    assert torch.equal(noise(from_batch(part, index=1), 5, draw).values, whole[2:3])


def test_sequential_noise_with_numbers_is_drawn_picture_by_picture():
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randn(1, 4, 3, 3, generator=generator) for _ in range(4)]  # ComfyUI's way, 36 numbers each
    numbered = random(batch=3, h=3, w=3, numbers=(3, 0, 3))
    assert torch.equal(noise(numbered, 5, "sequential").values, torch.cat([drawn[3], drawn[0], drawn[3]]))
    with pytest.raises(ValueError, match="expected a number for each of 2 pictures, found 1"):
        draw_noise((2, 4, 3, 3), 5, numbers=[0])


class Half:
    noise_schedule = NoiseSchedule()

    def __call__(self, x, sigma):
        return x / 2


def test_numbers_are_stored_and_pass_a_sampler():
    latent = random(batch=2, h=4, w=4, numbers=(3, 1))
    drawn = noise(latent, 5)
    sampled = sampler(Denoiser(Half()), latent, drawn, sampler="euler", steps=1, like="comfyui")
    assert sampled.numbers == (3, 1)
    again = sampler(Denoiser(Half()), latent, noise(latent, 5, "sequential"), sampler="euler", steps=1, like="comfyui")
    assert torch.equal(sampled.samples, again.samples)
    for value, codec in ((latent, CODECS[Latent]), (drawn, CODECS[type(drawn)])):
        assert codec.decode(codec.encode(value)).numbers == (3, 1)
    assert CODECS[Latent].decode(CODECS[Latent].encode(random())).numbers is None
    assert CODECS[Latent].digest(latent) != CODECS[Latent].digest(random(batch=2, h=4, w=4))


def test_the_pictures_of_a_batch_may_share_their_noise():
    same = batch_noise(random(batch=3))
    drawn = noise(same, 5).values
    assert torch.equal(drawn, noise(random(), 5).values.expand(3, -1, -1, -1))
    assert batch_noise(from_batch(random(batch=3), index=2), "same").numbers == (2,)
    assert batch_noise(same, "different").numbers is None


# --- repeating and joining


def test_batches_are_repeated_whole():
    batch = random(batch=2)
    repeated = repeat_latent(batch, 3)
    assert torch.equal(repeated.samples, torch.cat([batch.samples] * 3))
    assert repeated.numbers is None
    assert repeat_latent(random(batch=2, numbers=(4, 6)), 3).numbers == (4, 6, 7, 9, 10, 12)  # as in ComfyUI
    pictures = torch.rand(2, 3, 3, 3)
    assert torch.equal(repeat_image(Image(pictures), 2).pixels, torch.cat([pictures, pictures]))


def test_joined_latents_have_the_size_of_the_first():
    first, wide = random(batch=2, h=4, w=4), random(h=4, w=8, seed=1, numbers=(5,))
    joined = join_latents([first, wide])
    assert torch.equal(joined.samples, torch.cat([first.samples, wide.samples[..., 2:6]]))
    assert (joined.size, joined.numbers) == ((32, 32), (0, 1, 5))
    large = random(h=8, w=8, seed=2)
    half = F.interpolate(large.samples, size=(4, 4), mode="bilinear")
    assert torch.equal(join_latents([first, large]).samples[2:], half)
    with pytest.raises(ValueError, match="expected at least one, found an empty list"):
        join_latents([])


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_rebatched_latents_keep_order_and_numbers(count):
    latents = [random(batch=2), random(batch=3, seed=1), random(h=3, w=3, seed=2), random(seed=3, numbers=(8,))]
    batches = rebatch(latents, count)
    assert all(1 <= len(batch.samples) <= count for batch in batches)
    singles = [(row, n) for batch in batches for row, n in zip(batch.samples, batch.numbers, strict=True)]
    rows = [row for latent in latents for row in latent.samples]
    assert [n for _, n in singles] == [0, 1, 2, 3, 4, 5, 8]
    assert all(torch.equal(row, expected) for (row, _), expected in zip(singles, rows, strict=True))
    assert len(batches) == -(-5 // count) + 2
    assert rebatch([], count) == []
