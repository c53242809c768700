"""Full-size Stable Diffusion 1.5 computes what ComfyUI 0.3.64 computed from the same weights.

The weights are made up, the latents of ComfyUI lie in data/reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_diffusion.text.encode import encode_prompt
from nodegraph_diffusion.text.tokenizer import Tokenizer, load_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.large, pytest.mark.timeout(1800)]  # seconds each, unless the machine is busy

DATA = Path(__file__).parent.parent / "data" / "reference"
SCALE = 0.18215
PROMPT = "a photo of an astronaut riding a horse on mars"
NEGATIVE = "blurry, low quality"
WEIGHTED = r"a (red fox:1.4) in [deep] ((snow)), \(detailed\)"
LONG = " ".join(["a wide painting of a harbour at dusk with many boats, gulls and lanterns;"] * 9)


@dataclass(frozen=True)
class Model:
    """Stable Diffusion 1.5 in float32 on the CPU."""

    unet: UNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: Tokenizer
    noise_schedule: NoiseSchedule


@dataclass(frozen=True)
class Case:
    """One set of latents: what differs from the common settings."""

    name: str
    sampler: str = "euler"
    schedule: str = "normal"
    steps: int = 5
    cfg: float = 3.0
    prompt: str = PROMPT
    clip_skip: int = 1
    batch: int = 1
    of_picture: bool = False
    masked: bool = False
    strength: float = 1.0
    tolerance: float = 1e-4


CASES = [
    *(Case(f"euler/{schedule}", "euler", schedule) for schedule in ("normal", "karras", "simple")),
    Case("heun/karras", "heun", "karras"),
    Case("dpmpp_2m/karras", "dpmpp_2m", "karras"),
    Case("dpmpp_2m/normal", "dpmpp_2m", "normal"),
    Case("ddim/normal", "ddim", "normal"),
    Case("euler_ancestral/karras", "euler_ancestral", "karras", tolerance=1e-3),
    Case("prompt/weighted", steps=2, cfg=5.0, prompt=WEIGHTED),
    Case("prompt/long", steps=2, cfg=5.0, prompt=LONG),
    Case("clip_skip2", steps=2, clip_skip=2),
    Case("img2img/0.5", "dpmpp_2m", "karras", steps=6, of_picture=True, strength=0.5),
    Case("inpaint/1.0", "dpmpp_2m", "karras", steps=6, of_picture=True, masked=True),
    Case("batch3", steps=3, batch=3),
]


@pytest.fixture(scope="module")
def model(sd15_file) -> Model:
    checkpoint = describe(sd15_file).model()
    on = ("cpu", torch.float32)
    return Model(
        load_unet(checkpoint.unet, *on),
        load_vae(checkpoint.vae, *on),
        load_text_encoder(checkpoint.text.parts[0], *on),
        load_tokenizer(checkpoint.text.parts[0].tokenizer),
        checkpoint.noise_schedule,
    )


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(DATA / "comfyui-sd15.safetensors")


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """ref_photo.png, (1, 4, H, W) in [0, 1]."""
    with Image.open(DATA / "ref_photo.png") as image:
        pixels = numpy.asarray(image.convert("RGBA"), dtype=numpy.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def picture_latent(model: Model, picture: Tensor) -> Tensor:
    """The mean that the autoencoder finds for the picture, unscaled, (1, 4, 8, 8)."""
    with torch.no_grad():
        return model.vae.encode(picture[:, :3] * 2 - 1)[0]


def assert_same(ours: Tensor, reference: Tensor, tolerance: float, record_property) -> None:
    """Compare in standard deviations of the reference; the difference goes into the test report."""
    assert ours.shape == reference.shape
    difference = ((ours - reference).abs().max() / reference.std()).item()
    record_property("largest_difference", difference)
    print(f"largest difference: {difference:.1e} standard deviations")
    assert math.isfinite(difference)
    assert difference < tolerance


def test_every_reference_has_a_case(reference):
    assert {case.name for case in CASES} | {"vae_encode"} == reference.keys()


def test_vae_encoding_equals_comfyui(picture_latent, reference, record_property):
    assert_same(picture_latent, reference["vae_encode"], 1e-4, record_property)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_latents_equal_comfyui(case, model, picture, picture_latent, reference, record_property):
    positive, negative = (
        UNetDenoiser(model.unet, model.noise_schedule, encode_prompt(model.text_encoder, model.tokenizer, text, case.clip_skip))
        for text in (case.prompt, NEGATIVE)
    )
    noise = draw_noise((case.batch, 4, 8, 8), seed=7, draw="sequential")
    sampled = sample(
        ClassifierFreeGuidance(positive, negative, case.cfg),
        picture_latent * SCALE if case.of_picture else torch.zeros_like(noise),
        noise,
        SAMPLERS[case.sampler],
        sigmas=sigmas_for(SCHEDULES[case.schedule], model.noise_schedule, case.steps, case.strength),
        mask=1 - picture[:, 3] if case.masked else None,
        step_noise="comfyui",
        seed=7,
    )
    assert_same(sampled / SCALE, reference[case.name], case.tolerance, record_property)
