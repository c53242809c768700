"""The UNet equals diffusers' in every dtype, and can be trained."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.networks.unet import UNet, timestep_embedding
from tests.support import small_networks as small
from tests.support.synthetic_checkpoints import read_layout
from tests.support.unet_configs import CONTEXT, PUBLISHED, REFINER, SD2, SDXL, TIMESTEPS


@pytest.mark.parametrize("layout", PUBLISHED)
def test_network_has_the_published_names_and_shapes(layout):
    with torch.device("meta"):
        unet = UNet(PUBLISHED[layout])
    ours = {f"model.diffusion_model.{key}": list(value.shape) for key, value in unet.state_dict().items()}
    assert ours == {key: shape for key, shape in read_layout(layout).items() if key.startswith("model.diffusion_model.")}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"transformer_depth": (0, 1, 1)},
        {"num_res_blocks": 1, "num_heads": 4},
        {"channel_mult": (1, 2), "transformer_depth": (1, 1)},
        {"channel_mult": (1,), "transformer_depth": (1,)},
        {"in_channels": 9},
        {"in_channels": 8},
        SD2,
        SDXL,
        REFINER,
    ],
    ids=lambda changes: ",".join(changes) if isinstance(changes, dict) else "x".join(map(str, changes)),
)
@pytest.mark.parametrize("size", [(13, 10), pytest.param((16, 16), marks=pytest.mark.slow)])
def test_unet_equals_diffusers(changes, size):
    config = dataclasses.replace(small.UNET, **changes)
    reference, unet = small.reference_unet(config), UNet(config)
    weights, table = reference.state_dict(), unet_modules(config)
    unet.load_state_dict({key: weights.pop(rename(key, table)) for key in unet.state_dict()})
    assert not weights

    x, more, added = small.noise(2, config.in_channels, *size), {}, None
    if config.added_dim is not None:
        numbers = torch.tensor([[64.0, 48.0, 0.0, 8.0, 64.0, 64.0], [1024.0, 1024.0, 0.0, 0.0, 512.0, 512.0]])
        pooled = small.noise(2, config.added_dim - 6 * 256)
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": numbers}}
        added = torch.cat([pooled, timestep_embedding(numbers.flatten(), 256).reshape(2, -1)], dim=1)
    expected = reference(x, TIMESTEPS, CONTEXT, **more).sample
    assert small.difference(unet(x, TIMESTEPS, CONTEXT, added), expected) <= small.TOLERANCE


def test_projected_context_works_for_any_batch():
    unet, x = small.our_unet(), small.noise(2, 4, 8, 8)
    context = unet.project_context(CONTEXT)
    assert torch.equal(unet(x, TIMESTEPS, context), unet(x, TIMESTEPS, CONTEXT))

    one = unet.project_context(CONTEXT[:1]).expand(2)
    expected = unet(x, TIMESTEPS, CONTEXT[:1].expand(2, -1, -1))
    assert small.difference(unet(x, TIMESTEPS, one), expected) < small.TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype):
    unet, x = small.our_unet(), small.noise(2, 4, 8, 8)
    expected = unet(x, TIMESTEPS, CONTEXT)
    half = unet.to(dtype)(x.to(dtype), TIMESTEPS, CONTEXT.to(dtype))
    assert half.dtype == dtype
    assert small.difference(half, expected) < small.half_tolerance(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_timestep_is_not_rounded_to_half_precision(dtype):
    unet, x, seen = small.our_unet().to(dtype), small.noise(2, 4, 8, 8).to(dtype), []
    unet.time_embed.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    unet(x, TIMESTEPS, CONTEXT.to(dtype))
    assert torch.equal(seen[0], timestep_embedding(TIMESTEPS, small.UNET.model_channels).to(dtype))


def test_gradients_reach_every_parameter():
    unet = small.our_unet().requires_grad_(True)
    unet(small.noise(2, 4, 8, 8), TIMESTEPS, CONTEXT).square().mean().backward()
    without = [name for name, parameter in unet.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_new_network_starts_at_zero():
    unet = UNet(small.UNET)
    assert not (unet(small.noise(2, 4, 8, 8), TIMESTEPS, CONTEXT) - unet.out[-1].bias[:, None, None]).any()


@pytest.mark.parametrize("changes", [{"num_heads": 5}, {"norm_groups": 7}, {"transformer_depth": (1,)}, {"context_dim": 0}])
def test_impossible_sizes_are_named(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        dataclasses.replace(small.UNET, **changes)
