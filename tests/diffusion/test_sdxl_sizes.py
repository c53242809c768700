"""The extra conditioning of SDXL and its refiner (sizes, crops, score), compared with diffusers."""

from __future__ import annotations

import dataclasses
import math

import diffusers
import pytest
import torch
from diffusers.models.embeddings import Timesteps

from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.conditioning.prompt import Prompt, SizeConditioning
from nodegraph_diffusion.conditioning.sdxl_sizes import vector_conditioning
from nodegraph_diffusion.denoising.unet_denoiser import ConditionedUNet, UNetDenoiser
from nodegraph_diffusion.networks.unet import UNet
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic
from tests.support.toy_denoisers import SCHEDULE

PROJECTION = 24
BASE, REFINER = PROJECTION + 6 * 256, PROJECTION + 5 * 256
CONFIG = dataclasses.replace(small.UNET, added_dim=BASE)
SINUSOIDS = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
POOLED = small.noise(1, PROJECTION)


def prompt(seed=0, **size):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(1, 8, CONFIG.context_dim, generator=generator)
    pooled = torch.randn(1, PROJECTION, generator=generator)
    return Prompt(embedding, pooled=pooled, size=SizeConditioning(**size) if size else None)


@pytest.mark.parametrize(
    ("size", "width", "numbers"),
    [
        (None, BASE, (64, 48, 0, 0, 64, 48)),
        (SizeConditioning(), REFINER, (64, 48, 0, 0, 6)),
        (SizeConditioning(height=1024, width=768, crop_y=16, crop_x=32), BASE, (1024, 768, 16, 32, 1024, 768)),
        (SizeConditioning(target_height=512, target_width=256), BASE, (64, 48, 0, 0, 512, 256)),
        (SizeConditioning(crop_x=8, aesthetic=2.5), REFINER, (64, 48, 0, 8, 2.5)),
    ],
)
def test_sizes_are_embedded_as_in_diffusers(size, width, numbers):
    vector = vector_conditioning(Prompt(torch.zeros(1, 8, 4), pooled=POOLED, size=size), (64, 48), 6.0, width)
    expected = torch.cat([POOLED, SINUSOIDS(torch.tensor(numbers, dtype=torch.float32)).reshape(1, -1)], dim=1)
    assert vector.shape == (1, width)
    torch.testing.assert_close(vector, expected)


def reference():
    """diffusers' network of this shape, and ours with the same weights."""
    levels = len(CONFIG.channel_mult)
    theirs = diffusers.UNet2DConditionModel(
        block_out_channels=[mult * CONFIG.model_channels for mult in CONFIG.channel_mult],
        down_block_types=["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
        layers_per_block=CONFIG.num_res_blocks,
        cross_attention_dim=CONFIG.context_dim,
        attention_head_dim=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=BASE,
    )
    synthetic.fill(theirs)
    theirs.eval().requires_grad_(False)
    added = {"label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2"}
    weights, table = theirs.state_dict(), {**unet_modules(CONFIG), **added}
    ours = UNet(CONFIG).eval().requires_grad_(False)
    ours.load_state_dict({key: weights.pop(rename(key, table)) for key in ours.state_dict()})
    assert not weights
    return theirs, ours


def test_denoiser_passes_the_same_values_as_diffusers():
    theirs, ours = reference()
    x, sigma = small.noise(2, 4, 8, 6) * 3, float(SCHEDULE.sigma(700))
    sides = [prompt(1), prompt(2, height=1024, width=512, crop_y=64, crop_x=32, target_height=768, target_width=384)]
    seen = ConditionedUNet(ours, SCHEDULE, [[side] for side in sides])(x, sigma)
    time_ids = torch.tensor([[64, 48, 0, 0, 64, 48], [1024, 512, 64, 32, 768, 384]])
    for side, ids, denoised in zip(sides, time_ids, seen, strict=True):
        predicted = theirs(
            x / math.sqrt(1 + sigma**2),
            torch.tensor(700.0),
            side.embedding.expand(2, -1, -1),
            added_cond_kwargs={"text_embeds": side.pooled.expand(2, -1), "time_ids": ids.expand(2, -1)},
        ).sample
        assert small.difference(denoised, x - sigma * predicted) <= small.TOLERANCE


def test_residuals_are_added_as_in_diffusers():
    theirs, ours = reference()
    x, sigma, side = small.noise(1, 4, 8, 8), float(SCHEDULE.sigma(700)), prompt(1)
    added = {"text_embeds": side.pooled, "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]])}
    skips = []
    hooks = [theirs.conv_in.register_forward_hook(lambda module, inputs, out: skips.append(out))]
    hooks += [block.register_forward_hook(lambda module, inputs, out: skips.extend(out[1])) for block in theirs.down_blocks]
    theirs(x / math.sqrt(1 + sigma**2), torch.tensor(700.0), side.embedding, added_cond_kwargs=added)
    for hook in hooks:
        hook.remove()
    residuals = tuple(0.3 * skip.roll(1, -1) for skip in skips)
    middle = 0.2 * skips[-1]

    class Halves:
        """A control that gives half of the residuals."""

        start, end = 0.0, 1.0

        def __call__(self, seen, timesteps, context, added):
            assert torch.equal(seen, x * (1 / math.sqrt(1 + sigma**2)))
            assert (timesteps.tolist(), context.shape, added.shape) == ([700.0], side.embedding.shape, (1, BASE))
            return tuple(residual / 2 for residual in residuals), middle / 2

    denoised = UNetDenoiser(ours, SCHEDULE, [side], controls=[Halves(), Halves()])(x, sigma)
    predicted = theirs(
        x / math.sqrt(1 + sigma**2),
        torch.tensor(700.0),
        side.embedding,
        added_cond_kwargs=added,
        down_block_additional_residuals=residuals,
        mid_block_additional_residual=middle,
    ).sample
    assert small.difference(denoised, x - sigma * predicted) <= small.TOLERANCE


def test_refiner_receives_good_and_bad_scores():
    vectors = []

    class Recorder(torch.nn.Module):
        config = dataclasses.replace(CONFIG, added_dim=REFINER)

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

        def project_context(self, context):
            return context

        def forward(self, x, timesteps, context, added, controls, attention):
            vectors.append(added[:, PROJECTION + 4 * 256 :])
            return x

    recorder = Recorder()
    for sides in ([[prompt()], [prompt()]], [[prompt(aesthetic=4.0)], [prompt(aesthetic=4.0)]]):
        ConditionedUNet(recorder, SCHEDULE, sides)(small.noise(1, 4, 8, 8), 1.0)
    torch.testing.assert_close(vectors[0], SINUSOIDS(torch.tensor([6.0, 2.5])))
    torch.testing.assert_close(vectors[1], SINUSOIDS(torch.tensor([4.0, 4.0])))


@pytest.mark.parametrize(
    ("pooled", "message"), [(None, "a pooled encoding, .* found none"), (torch.zeros(1, 7), "of 24 or 280 .* of 7")]
)
def test_prompt_of_another_model_is_refused(pooled, message):
    with pytest.raises(ValueError, match=message):
        vector_conditioning(Prompt(torch.zeros(1, 8, 4), pooled=pooled), (64, 64), 6.0, BASE)
