"""ControlNets equal those of diffusers, load from every layout, and guide a UNet with the given strength."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import CheckpointError, describe, load_controlnet
from nodegraph_diffusion.checkpoint.layouts.controlnet import controlnet_modules
from nodegraph_diffusion.checkpoint.layouts.modules import rename
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.networks.config import UNetConfig
from nodegraph_diffusion.networks.controlnet import ControlNet, ControlNetGuide, fitted
from nodegraph_diffusion.networks.unet import timestep_embedding
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic
from tests.support.control_nets import our_control, theirs
from tests.support.unet_configs import CONTEXT, SD2, TIMESTEPS

X, HINT = small.noise(2, 4, 8, 8), small.noise(2, 64, 64, 3).sigmoid()


def write(folder: Path, state: dict[str, Tensor], prefix: str = "control_model.") -> Path:
    file = folder / "control.safetensors"
    save_file({prefix + key: value.contiguous() for key, value in state.items()}, file)
    return file


def assert_close(ours: tuple[tuple[Tensor, ...], Tensor], skips: list[Tensor], middle: Tensor) -> None:
    for result, expected in zip((*ours[0], ours[1]), (*skips, middle), strict=True):
        assert small.difference(result, expected) <= small.TOLERANCE


@pytest.mark.parametrize("changes", [{}, SD2], ids=["sd1", "sd2"])
def test_folder_of_diffusers_opens_here(tmp_path, changes):
    reference = theirs(dataclasses.replace(small.UNET, **changes))
    reference.save_pretrained(tmp_path / "control")
    found = describe(tmp_path / "control").controlnet()
    assert (found.layout, found.difference) == ("diffusers", False)
    network = load_controlnet(found, "cpu", torch.float32)
    expected = reference(X, TIMESTEPS, CONTEXT, controlnet_cond=HINT.movedim(-1, 1), return_dict=False)
    assert_close(network(X, HINT.movedim(-1, 1), TIMESTEPS, CONTEXT), *expected)


NO_ATTENTION, ATTENTION = "DownBlock2D", "CrossAttnDownBlock2D"
SMALLER_XL = {  # as diffusers publishes them for SDXL, with thinner layers
    "small": {"down_block_types": [NO_ATTENTION] * 3, "mid_block_type": "UNetMidBlock2D"},
    "mid": {"down_block_types": [NO_ATTENTION, ATTENTION, ATTENTION], "transformer_layers_per_block": [1, 1, 1]},
    "other depths": {"down_block_types": [NO_ATTENTION, ATTENTION, ATTENTION], "transformer_layers_per_block": [1, 2, 3]},
    "other maps of the hint": {"down_block_types": [NO_ATTENTION] * 3, "conditioning_embedding_out_channels": [8, 24, 40, 48]},
    "fewer maps of the hint": {"down_block_types": [NO_ATTENTION] * 3, "conditioning_embedding_out_channels": [8, 24]},
}


@pytest.mark.parametrize("kind", SMALLER_XL)
def test_smaller_controlnets_of_sdxl_open_from_folders_and_single_files(tmp_path, kind):
    reference = diffusers.ControlNetModel(
        block_out_channels=[64, 128, 128],
        cross_attention_dim=2048,
        attention_head_dim=[1, 2, 2],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        **SMALLER_XL[kind],
    )
    synthetic.fill(reference)
    reference.eval().requires_grad_(False).save_pretrained(tmp_path / "control")
    pooled, sizes, context = small.noise(2, 1280), torch.arange(12.0).reshape(2, 6) * 64, small.noise(2, 5, 2048)
    hint = HINT.movedim(-1, 1)
    hint = hint if kind != "fewer maps of the hint" else hint[:, :, ::4, ::4]  # one halving: 2 pixels for a cell, not 8
    conditions = {"text_embeds": pooled, "time_ids": sizes}
    expected = reference(
        X, TIMESTEPS, context, controlnet_cond=hint, added_cond_kwargs=conditions, return_dict=False, conditioning_scale=1.0
    )
    added = torch.cat([pooled, timestep_embedding(sizes.flatten(), 256).reshape(2, -1)], dim=1)
    single_file = tmp_path / "alone.safetensors"
    shutil.copy(tmp_path / "control" / "diffusion_pytorch_model.safetensors", single_file)
    files = [tmp_path / "control", single_file]
    configs = []
    for path in files:
        found = describe(path).controlnet()
        network = load_controlnet(found, "cpu", torch.float32)
        assert_close(network(X, hint, TIMESTEPS, context, added), *expected)
        guided = ControlNetGuide(network, hint.movedim(1, -1), 1.0)(X, TIMESTEPS, context, added)
        assert_close(guided, *expected)
        configs.append(dataclasses.replace(found.config, num_heads=None, head_channels=64, up_depth=None))
    assert configs[0] == configs[1]


def test_the_hint_of_the_authors_layout_may_have_other_maps(tmp_path):
    network = ControlNet(small.UNET, hint_widths=(8, 24, 40))
    synthetic.fill(network)
    found = describe(write(tmp_path, network.state_dict())).controlnet()
    assert (found.hint_widths, found.config) == ((8, 24, 40), small.UNET)
    assert load_controlnet(found, "cpu", torch.float32).state_dict().keys() == network.state_dict().keys()


def test_a_hint_with_channels_in_another_order_is_refused(tmp_path):
    reference = theirs(small.UNET)
    reference.register_to_config(controlnet_conditioning_channel_order="bgr")
    reference.save_pretrained(tmp_path / "control")
    with pytest.raises(CheckpointError, match="controlnet_conditioning_channel_order is 'bgr', not 'rgb'"):
        describe(tmp_path / "control").controlnet()


@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_file_in_the_authors_layout_is_loaded_exactly(tmp_path, prefix):
    found = describe(write(tmp_path, our_control().state_dict(), prefix)).controlnet()
    assert found.config == small.UNET
    loaded, expected = load_controlnet(found, "cpu", torch.float32).state_dict(), our_control().state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())


def test_published_layout_matches_every_key():
    with torch.device("meta"):
        network = ControlNet(UNetConfig())
    ours = {f"control_model.{key}": list(value.shape) for key, value in network.state_dict().items()}
    assert ours == synthetic.read_layout("controlnet-sd15-ldm")


def test_every_tensor_of_diffusers_has_a_name():
    table = controlnet_modules(small.UNET)
    assert {rename(key, table) for key in our_control().state_dict()} == theirs(small.UNET).state_dict().keys()


def test_differences_are_added_to_their_unet(tmp_path):
    unet, whole = small.our_unet(), our_control().state_dict()
    base = unet.state_dict()
    state = {key: value - base[key] if key in base else value for key, value in whole.items()}
    found = describe(write(tmp_path, {**state, "difference": torch.ones(())}, "")).controlnet()
    assert found.difference
    network = load_controlnet(found, "cpu", torch.float32, unet)
    assert all(torch.allclose(value, whole[key], atol=1e-6) for key, value in network.state_dict().items())
    assert all(torch.equal(value, base[key]) for key, value in small.our_unet().state_dict().items())
    with pytest.raises(ValueError, match="holds differences from a UNet: give the UNet"):
        load_controlnet(found, "cpu", torch.float32)


def test_guided_unet_equals_diffusers():
    reference, unet = small.reference_unet(), small.our_unet()
    from nodegraph_diffusion.checkpoint.layouts.modules import unet_modules

    weights, table = reference.state_dict(), unet_modules(small.UNET)
    unet.load_state_dict({key: weights[rename(key, table)] for key in unet.state_dict()})
    skips, middle = our_control()(X, HINT.movedim(-1, 1), TIMESTEPS, CONTEXT)
    expected = reference(
        X, TIMESTEPS, CONTEXT, down_block_additional_residuals=list(skips), mid_block_additional_residual=middle
    ).sample
    assert small.difference(unet(X, TIMESTEPS, CONTEXT, None, (skips, middle)), expected) <= small.TOLERANCE


@pytest.mark.parametrize(("start", "end", "counts"), [(0.0, 1.0, True), (0.0, 0.1, False), (0.9, 1.0, False)])
def test_controlnet_acts_only_between_start_and_end(start, end, counts):
    unet, schedule = small.our_unet(), NoiseSchedule()
    guide = ControlNetGuide(our_control(), HINT[:1], 1.0, start=start, end=end)
    sigma = float(schedule.sigma(500))
    plain = UNetDenoiser(unet, schedule, CONTEXT[:1])(X, sigma)
    guided = UNetDenoiser(unet, schedule, CONTEXT[:1], controls=[guide])(X, sigma)
    assert torch.equal(plain, guided) is not counts


def test_strength_scales_the_residuals_and_several_add_up():
    once = ControlNetGuide(our_control(), HINT, 1.0)(X, TIMESTEPS, CONTEXT, None)
    half = ControlNetGuide(our_control(), HINT, 0.5)(X, TIMESTEPS, CONTEXT, None)
    assert_close(half, [skip / 2 for skip in once[0]], once[1] / 2)
    unet, schedule, network = small.our_unet(), NoiseSchedule(), our_control()
    halves = [ControlNetGuide(network, HINT, 0.5) for _ in range(2)]
    both = UNetDenoiser(unet, schedule, CONTEXT, controls=halves)(X, 3.0)
    assert (
        small.difference(both, UNetDenoiser(unet, schedule, CONTEXT, controls=[ControlNetGuide(network, HINT, 1.0)])(X, 3.0)) < 1e-4
    )


@pytest.mark.parametrize("name", ["control", "control/diffusion_pytorch_model.safetensors"])
def test_residuals_are_averaged_if_the_config_says_so(tmp_path, name):
    """The config is also read beside a single file."""
    reference = theirs(small.UNET)
    reference.register_to_config(global_pool_conditions=True)
    reference.save_pretrained(tmp_path / "control")
    found = describe(tmp_path / name).controlnet()
    assert found.global_pool
    assert tmp_path / "control" / "config.json" in found.files
    hint = HINT.movedim(-1, 1)
    skips, middle = reference(X, TIMESTEPS, CONTEXT, controlnet_cond=hint, conditioning_scale=0.5, return_dict=False)
    network = load_controlnet(found, "cpu", torch.float32)
    guided = ControlNetGuide(network, HINT, 0.5, global_pool=found.global_pool)(X, TIMESTEPS, CONTEXT, None)
    assert middle.shape[-2:] == (1, 1)
    assert_close(guided, [skip.expand_as(ours) for skip, ours in zip(skips, guided[0], strict=True)], middle.expand_as(guided[1]))
    assert not torch.equal(ControlNetGuide(network, HINT, 0.5)(X, TIMESTEPS, CONTEXT, None)[1], guided[1])


def test_a_folder_without_a_config_is_described_by_its_shapes(tmp_path):
    theirs(small.UNET).save_pretrained(tmp_path / "control")
    (tmp_path / "control/config.json").unlink()
    found = describe(tmp_path / "control")
    assert found.content == "controlnet"
    assert found.controlnet().files == (tmp_path / "control/diffusion_pytorch_model.safetensors",)
    assert found.controlnet().config == small.UNET


def test_a_config_that_does_not_say_whether_to_average_is_refused(tmp_path):
    reference = theirs(small.UNET)
    reference.register_to_config(global_pool_conditions="sometimes")
    reference.save_pretrained(tmp_path / "control")
    with pytest.raises(CheckpointError, match="global_pool_conditions is 'sometimes', not true or false"):
        describe(tmp_path / "control").controlnet()


def test_hint_is_cropped_to_the_centre_and_resized():
    wide = torch.arange(12.0).reshape(1, 1, 12, 1).expand(1, 4, 12, 3)
    assert fitted(wide, (4, 4))[0, 0, 0].tolist() == [4, 5, 6, 7]
    assert fitted(wide, (8, 8))[0, 0, 0].tolist() == [4, 4, 5, 5, 6, 6, 7, 7]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, "found a LoRA."),
        ({"input_hint_block.0.weight": torch.ones(16, 3, 3, 3)}, "expected a tensor 'input_blocks.0.0.weight'"),
        ({}, "no tensor"),
    ],
)
def test_other_files_are_named(tmp_path, state, message):
    with pytest.raises(CheckpointError, match=r"control\.safetensors: expected ") as caught:
        describe(write(tmp_path, state, "")).controlnet()
    assert message in str(caught.value)


def test_file_without_a_tensor_is_named(tmp_path):
    state = our_control().state_dict()
    del state["middle_block_out.0.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing \(middle_block_out.0.bias\)"):
        load_controlnet(describe(write(tmp_path, state)).controlnet(), "cpu", torch.float32)
