"""Whole pipelines of diffusers and the same through our nodes: the same start noise gives the same latent.

Where the two have different conventions, the settings are such that both mean the same; docs/models.md describes them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.checkpoint.layouts.controlnet import controlnet_modules
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.networks.config import VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.sampling import sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_nodes.models.find import find_model
from nodegraph_nodes.nodes.adapters import apply_control_net, load_control_net
from nodegraph_nodes.nodes.concat import apply_inpaint, apply_pix2pix
from nodegraph_nodes.nodes.latent import empty_latent, vae_encode
from nodegraph_nodes.nodes.models import Model, load_model
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Image, Mask, Noise, UNetModel
from tests.support import small_networks as small
from tests.support.control_nets import our_control
from tests.support.control_nets import theirs as their_control

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

SIDE, STEPS, CFG = 64, 4, 3.0
NOISE = small.noise(1, 4, SIDE // 8, SIDE // 8)
# With this spacing diffusers starts from sigma * noise, we as ComfyUI does, from sqrt(1 + sigma^2) * noise.
START = NOISE * (1 + NoiseSchedule().sigma_max ** -2) ** 0.5
PICTURE = small.noise(1, SIDE, SIDE, 3).sigmoid()
POSITIVE, NEGATIVE = "a red house", "a boat"
TOLD = {
    "prompt": POSITIVE,
    "negative_prompt": NEGATIVE,
    "num_inference_steps": STEPS,
    "guidance_scale": CFG,
    "output_type": "latent",
    "height": SIDE,
    "width": SIDE,
}


def vae() -> diffusers.AutoencoderKL:
    """An autoencoder with 8 pixels per cell whose samples are its means, because diffusers samples and we do not."""
    network = small.reference_vae(VAEConfig(channels=32, channel_mult=(1, 1, 2, 2)))
    with torch.no_grad():
        network.quant_conv.weight[4:] = 0
        network.quant_conv.bias[4:] = -60  # of the logarithm of the variance
    return network


def saved(folder: Path, kind: type[diffusers.DiffusionPipeline], channels: int = 4, **more: Any) -> tuple[Any, Model]:
    """A pipeline, and the model that we find in the folder that it writes."""
    unet = small.reference_unet(dataclasses.replace(small.UNET, in_channels=channels))
    unet.register_to_config(sample_size=64)
    made = small.pipeline(folder, kind, unet, small.scheduler(timestep_spacing="trailing"), vae=vae(), **more)
    made.save_pretrained(folder / "model")
    return made, load_model(find_model(str(folder / "model"), Path()).value)


def ours(model: Model, unet: UNetModel, cfg: float = CFG) -> Tensor:
    """The result of our nodes for the noise, with the same settings."""
    positive, negative = (text_encode(model.text_encoder, text) for text in (POSITIVE, NEGATIVE))
    latent = empty_latent(model.vae, SIDE, SIDE)
    denoiser = unet_denoise(unet, positive, negative, cfg)
    return sampler(denoiser, latent, Noise(NOISE, 0), sampler="euler", schedule="simple", steps=STEPS).samples


def theirs(pipeline: Any, **overrides: Any) -> Tensor:
    return pipeline(**TOLD | overrides, latents=START.clone()).images


def test_plain_model_equals_diffusers(tmp_path):
    pipeline, model = saved(tmp_path, diffusers.StableDiffusionPipeline)
    assert small.difference(ours(model, model.unet), theirs(pipeline)) <= small.TOLERANCE


@pytest.mark.parametrize("grey", [1.0, 0.9], ids=["black and white", "grey"])
def test_inpainting_equals_diffusers(tmp_path, grey):
    """The mask has its edges between cells, so that the way of resizing does not matter, and both sides round it."""
    pipeline, model = saved(tmp_path, diffusers.StableDiffusionInpaintPipeline, 9)
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 16:48, 8:40] = grey
    mask[:, :8, :8] = 1 - grey
    expected = theirs(pipeline, image=PICTURE.movedim(-1, 1), mask_image=mask[:, None].clone(), strength=1.0)
    unet = apply_inpaint(model.unet, model.vae, Image(PICTURE), Mask(mask))
    assert small.difference(ours(model, unet), expected) <= small.TOLERANCE
    assert small.difference(ours(model, model.unet), expected) > 0.05


def test_instruct_pix2pix_equals_diffusers(tmp_path):
    """Diffusers' image_guidance_scale 1 is what we compute: both sides receive the picture."""
    pipeline, model = saved(tmp_path, diffusers.StableDiffusionInstructPix2PixPipeline, 8)
    options = {"image": PICTURE.movedim(-1, 1), "image_guidance_scale": 1.0}
    without_size = {name: value for name, value in TOLD.items() if name not in ("height", "width")}
    expected = pipeline(**without_size, **options, latents=START.clone()).images
    unet = apply_pix2pix(model.unet, vae_encode(model.vae, Image(PICTURE)))
    assert small.difference(ours(model, unet), expected) <= small.TOLERANCE
    assert small.difference(ours(model, model.unet), expected) > 0.05


def control(salt: float) -> diffusers.ControlNetModel:
    network = their_control(small.UNET)
    with torch.no_grad():
        for block in (*network.controlnet_down_blocks, network.controlnet_mid_block):
            block.weight.mul_(salt)
    return network


@pytest.mark.parametrize(
    ("strengths", "starts", "ends"),
    [
        ((1.0,), (0.0,), (1.0,)),
        pytest.param((0.5, 1.5), (0.0, 0.0), (1.0, 1.0), marks=pytest.mark.slow),
        pytest.param((1.0, 0.7), (0.5, 0.0), (1.0, 0.5), marks=pytest.mark.slow),
        ((1.0, 0.7), (0.25, 0.0), (0.75, 1.0)),
    ],
    ids=["one", "two", "one after another", "over one another"],
)
def test_controlnets_equal_diffusers(tmp_path, strengths, starts, ends):
    """Diffusers counts steps, we count timesteps: of steps that are spaced evenly, quarters of both are the same."""
    controls = [control(salt) for salt in (1.0, -0.6)[: len(strengths)]]
    for i, network in enumerate(controls):
        network.save_pretrained(tmp_path / f"control-{i}")
    pipeline, model = saved(tmp_path, diffusers.StableDiffusionControlNetPipeline, controlnet=controls)
    hints = [PICTURE.flip(i) for i in range(len(controls))]
    expected = theirs(
        pipeline,
        image=[hint.movedim(-1, 1) for hint in hints],
        controlnet_conditioning_scale=list(strengths),
        control_guidance_start=list(starts),
        control_guidance_end=list(ends),
    )
    unet = model.unet
    for i, (hint, *settings) in enumerate(zip(hints, strengths, starts, ends, strict=True)):
        unet = apply_control_net(unet, load_control_net(describe(tmp_path / f"control-{i}").controlnet()), Image(hint), *settings)
    assert small.difference(ours(model, unet), expected) <= small.TOLERANCE
    assert small.difference(ours(model, model.unet), expected) > 0.05


def test_difference_file_equals_the_whole_controlnet(tmp_path):
    network = control(1.0)
    pipeline, model = saved(tmp_path, diffusers.StableDiffusionControlNetPipeline, controlnet=[network])
    table, base_table = controlnet_modules(small.UNET), unet_modules(small.UNET)
    whole, base = network.state_dict(), pipeline.unet.state_dict()
    state = {key: whole[rename(key, table)] for key in our_control().state_dict()}
    for key, value in state.items():
        if (shared := rename(key, base_table)) in base:
            state[key] = value - base[shared]
    save_file({**state, "difference": torch.zeros(())}, tmp_path / "difference.safetensors")
    expected = theirs(pipeline, image=[PICTURE.movedim(-1, 1)], controlnet_conditioning_scale=[1.0])
    opened = load_control_net(describe(tmp_path / "difference.safetensors").controlnet(), model.unet)
    assert small.difference(ours(model, apply_control_net(model.unet, opened, Image(PICTURE))), expected) <= small.TOLERANCE


# --- where diffusers' pipelines mean something else, as docs/models.md says


def test_clip_skip_of_diffusers_applies_to_the_positive_prompt_alone(tmp_path, monkeypatch):
    pipeline, model = saved(tmp_path, diffusers.StableDiffusionPipeline)
    encoder = type(pipeline.text_encoder)
    if not hasattr(pipeline.text_encoder, "text_model"):  # transformers 5 removed it, and diffusers reads its last norm there
        monkeypatch.setattr(encoder, "text_model", property(lambda self: self), raising=False)
    expected = theirs(pipeline, clip_skip=1)
    latent = empty_latent(model.vae, SIDE, SIDE)

    def result(of_negative: int | None) -> Tensor:
        positive = text_encode(model.text_encoder, POSITIVE, clip_skip=2)
        negative = text_encode(model.text_encoder, NEGATIVE, clip_skip=of_negative)
        denoiser = unet_denoise(model.unet, positive, negative, CFG)
        return sampler(denoiser, latent, Noise(NOISE, 0), sampler="euler", schedule="simple", steps=STEPS).samples

    assert small.difference(result(None), expected) <= small.TOLERANCE
    assert small.difference(result(2), expected) > small.TOLERANCE * 10


def test_strength_of_diffusers_takes_steps_away(tmp_path):
    """10 steps at strength 0.5 are 5 steps there; here they are 10 of a schedule of 20. `steps: 5` here is the same run."""
    pipeline, _ = saved(tmp_path, diffusers.StableDiffusionPipeline)
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components)
    pipeline.scheduler.set_timesteps(10)
    timesteps, count = pipeline.get_timesteps(10, 0.5, "cpu")
    assert len(timesteps) == count == 5
    ours_of_5, ours_of_10 = (sigmas_for(SCHEDULES["simple"], NoiseSchedule(), steps, strength=0.5) for steps in (5, 10))
    assert torch.allclose(ours_of_5, pipeline.scheduler.sigmas[5:], rtol=1e-4)
    assert len(ours_of_10) == 11


def test_inpainting_of_diffusers_starts_without_the_picture_at_strength_1(tmp_path):
    """With a white mask, another picture changes nothing there; here the latent under the noise is that of the picture."""
    pipeline, model = saved(tmp_path, diffusers.StableDiffusionInpaintPipeline, 4)
    white = torch.ones(1, 1, SIDE, SIDE)

    def painted(picture: Tensor, strength: float) -> Tensor:
        settings = {**TOLD, "generator": torch.Generator().manual_seed(1), "strength": strength}
        return pipeline(**settings, image=picture.movedim(-1, 1), mask_image=white.clone()).images

    def sampled(picture: Tensor) -> Tensor:
        denoiser = unet_denoise(model.unet, *(text_encode(model.text_encoder, text) for text in (POSITIVE, NEGATIVE)), CFG)
        latent = vae_encode(model.vae, Image(picture))
        return sampler(
            denoiser, latent, Noise(NOISE, 0), mask=Mask(white[0]), sampler="euler", schedule="simple", steps=STEPS
        ).samples

    other = 1 - PICTURE
    assert torch.equal(painted(PICTURE, 1.0), painted(other, 1.0))
    assert not torch.allclose(painted(PICTURE, 0.99), painted(other, 0.99))
    assert not torch.allclose(sampled(PICTURE), sampled(other))
