"""Variants of the families (guidance-distilled, few-step, zero SNR) are detected and compute correctly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph_diffusion.checkpoint import CheckpointError, describe, load_unet, verify
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.networks.unet import guidance_embedding
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.sampling import sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_nodes.models.find import find_model
from nodegraph_nodes.nodes.models import load_model
from nodegraph_nodes.nodes.sampling import unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from tests.support import small_model
from tests.support import small_networks as small
from tests.support.families import FAMILIES
from tests.support.recording_run import RecordingRun
from tests.support.unet_configs import CONTEXT, TIMESTEPS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LCM = dataclasses.replace(small.UNET, guidance_dim=24)


@pytest.fixture(scope="module")
def lcm(tmp_path_factory):
    """A model distilled with guidance, and the folder that diffusers saved it in."""
    folder = tmp_path_factory.mktemp("lcm")
    unet = small.reference_unet(LCM)
    for layer in (unet.time_embedding.cond_proj, unet.time_embedding.linear_1, unet.time_embedding.linear_2):
        layer.weight.mul_(10)  # so that it has an effect
    reference = small.pipeline(folder, diffusers.LatentConsistencyModelPipeline, unet, small.scheduler(diffusers.LCMScheduler))
    reference.save_pretrained(folder / "model")
    return reference, folder / "model"


@pytest.mark.parametrize("width", [24, 25, 256])
def test_guidance_embedding_equals_diffusers(lcm, width):
    expected = lcm[0].get_guidance_scale_embedding(torch.tensor([7.0]), width)
    assert torch.allclose(guidance_embedding(7.0, width), expected, atol=1e-3)  # sines of thousands in float32
    assert torch.allclose(guidance_embedding(0.004, width), lcm[0].get_guidance_scale_embedding(torch.tensor([0.004]), width))


def test_distilled_network_equals_diffusers(lcm):
    reference, folder = lcm
    found = describe(folder).model()
    verify(found)
    assert (found.kind, found.unet.config) == ("sd1", LCM)
    unet, scale = load_unet(found.unet, "cpu", torch.float32), small.noise(2, 24)
    x = small.noise(2, 4, 8, 8)
    expected = reference.unet(x, TIMESTEPS, CONTEXT, timestep_cond=scale).sample
    assert small.difference(unet(x, TIMESTEPS, CONTEXT, guidance=scale), expected) <= small.TOLERANCE
    assert small.difference(unet(x, TIMESTEPS, CONTEXT), reference.unet(x, TIMESTEPS, CONTEXT).sample) <= small.TOLERANCE
    assert small.difference(unet(x, TIMESTEPS, CONTEXT), expected) > 0.05


def test_consistency_step_of_diffusers_is_one_denoiser_call(lcm):
    """At cfg 8, the network receives 7 and does not compute the negative prompt."""
    reference, folder = lcm
    noise = small.noise(1, 4, 8, 8)
    expected = reference(
        "a red house", num_inference_steps=1, guidance_scale=8.0, latents=noise, output_type="latent", height=32, width=32
    ).images
    model = load_model(find_model(str(folder), Path()).value)
    positive, negative = (text_encode(model.text_encoder, text) for text in ("a red house", "a blue boat"))
    denoiser = unet_denoise(model.unet, positive, negative, 8.0, run=(run := RecordingRun())).function
    assert run.notices == [
        "the model was distilled with guidance: it receives cfg as an input, and the negative prompt is not used"
    ]
    sigma = denoiser.noise_schedule.sigma_max
    x = noise * (1 + sigma**2) ** 0.5
    assert small.difference(denoiser(x, sigma), expected) <= small.TOLERANCE
    other = unet_denoise(model.unet, positive, positive, 8.0).function
    assert torch.equal(other(x, sigma), denoiser(x, sigma))
    assert small.difference(unet_denoise(model.unet, positive, negative, 2.0).function(x, sigma), expected) > 0.01


def test_single_file_uses_the_converters_key_name(tmp_path, lcm):
    file = small_model.save_single_file(tmp_path / "model.safetensors")
    plain = describe(file).model()
    weight = {"model.diffusion_model.time_embedding.cond_proj.weight": small.noise(plain.unet.config.model_channels, 24)}
    save_file({**load_file(file), **weight}, file)
    found = describe(file).model()
    verify(found)
    assert found.unet.config == dataclasses.replace(plain.unet.config, guidance_dim=24)
    assert rename("time_embedding.cond_proj.weight", unet_modules(found.unet.config)) == "time_embedding.cond_proj.weight"


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("changes", [{}, {"rescale_betas_zero_snr": True}], ids=["turbo", "zero-snr"])
def test_few_step_models_use_the_trailing_schedule(steps, changes):
    """SD-Turbo, SDXL-Turbo and Lightning were trained at these noise levels: the last step is always visited."""
    reference = small.scheduler(timestep_spacing="trailing", **changes)
    reference.set_timesteps(steps)
    schedule = NoiseSchedule(zero_snr=bool(changes))
    ours = sigmas_for(SCHEDULES["trailing"], schedule, steps)
    known = slice(1 if changes else 0, None)  # without any signal sigma is infinite: each library has its own large number
    torch.testing.assert_close(ours[known], reference.sigmas[known], rtol=1e-4, atol=1e-6)
    assert ours[0] > 4000 or not changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"timestep_spacing": "trailing"}, ("eps", False)),
        ({"prediction_type": "v_prediction"}, ("v", False)),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, ("v", True)),
    ],
    ids=["lightning", "v", "zero-snr"],
)
def test_fine_tune_follows_its_scheduler_config(tmp_path, changes, expected):
    reference = small.pipeline(tmp_path, diffusers.StableDiffusionPipeline, small.reference_unet(), small.scheduler(**changes))
    reference.save_pretrained(tmp_path / "model")
    found = describe(tmp_path / "model").model()
    assert (found.noise_schedule.prediction, found.noise_schedule.zero_snr) == expected
    embedding = reference.encode_prompt("a red house", "cpu", 1, False)[0]
    x, sigma = small.noise(1, 4, 8, 8) * 3, 3.0
    timestep = found.noise_schedule.timestep(sigma).round()
    predicted = reference.unet(x / (1 + sigma**2) ** 0.5, timestep, embedding).sample
    clean = reference.scheduler
    clean.set_timesteps(1)
    clean.sigmas, clean._step_index = torch.tensor([sigma, 0.0]), 0
    denoised = clean.step(predicted, clean.timesteps[0], x).pred_original_sample
    ours = UNetDenoiser(load_unet(found.unet, "cpu", torch.float32), found.noise_schedule, embedding)(x, sigma)
    assert small.difference(ours, denoised) <= small.TOLERANCE


@pytest.mark.parametrize(
    ("marks", "expected"),
    [(("v_pred",), ("v", False)), (("v_pred", "ztsnr"), ("v", True)), ((), ("eps", False))],
)
def test_marks_in_a_single_file_set_the_prediction(tmp_path, marks, expected):
    file = small_model.save_single_file(tmp_path / "model.safetensors")
    save_file({**load_file(file), **{mark: torch.zeros(0) for mark in marks}}, file)
    found = describe(file).model()
    assert (found.noise_schedule.prediction, found.noise_schedule.zero_snr) == expected


@pytest.mark.parametrize("mark", ["edm_mean", "edm_std", "edm_vpred.sigma_max"])
def test_models_with_other_noise_levels_are_refused(tmp_path, mark):
    file = small_model.save_single_file(tmp_path / "model.safetensors")
    save_file({**load_file(file), mark: torch.zeros(4)}, file)
    with pytest.raises(CheckpointError, match=f"found the mark '{mark}'.*Playground 2.5, CosXL"):
        describe(file).model()


def test_playground_scheduler_is_refused(tmp_path):
    reference = FAMILIES["sdxl"](tmp_path)
    reference.scheduler = diffusers.EDMDPMSolverMultistepScheduler()
    reference.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"scheduler_config\.json: expected a config of Stable Diffusion"):
        describe(tmp_path / "model").model()
