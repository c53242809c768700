"""A LoRA, a ControlNet and a mixed prompt on the full-size Stable Diffusion 1.5 compute what ComfyUI 0.3.64 computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import describe
from nodegraph_nodes.nodes.adapters import apply_control_net, load_control_net, load_lora
from nodegraph_nodes.nodes.conditioning import average_conditioning
from nodegraph_nodes.nodes.latent import empty_latent, noise
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Conditioning, TextEncoder, UNetModel
from tests.support import synthetic_checkpoints as synthetic
from tests.support.reference_latents import DATA, NEGATIVE, PROMPT, ReferenceCase, assert_same

pytestmark = [pytest.mark.slow, pytest.mark.large, pytest.mark.timeout(1800)]


def write(folder: Path, layout: str) -> Path:
    path = folder / f"{layout}.safetensors"
    synthetic.write(synthetic.read_layout(layout), path)
    return path


@pytest.fixture(scope="module")
def case(sd15_file):
    return ReferenceCase(sd15_file)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(DATA / "comfyui-adapters.safetensors")


def encode(case: ReferenceCase, text_encoder: TextEncoder) -> tuple[Conditioning, Conditioning]:
    positive, negative = (text_encode(text_encoder, text, run=case.run) for text in (PROMPT, NEGATIVE))
    return positive, negative


def sample(case: ReferenceCase, unet: UNetModel, prompts: tuple[Conditioning, Conditioning], steps: int) -> Tensor:
    latent = empty_latent(case.model().vae, 64, 64)
    denoiser = unet_denoise(unet, *prompts, cfg=3.0, run=case.run)
    drawn = noise(latent, 7, "sequential")
    return sampler(denoiser, latent, drawn, sampler="euler", schedule="normal", steps=steps, run=case.run).samples / 0.18215


def test_every_reference_has_a_case(reference):
    assert reference.keys() == {"lora/0.8_0.6", "controlnet/1.0", "conditioning/average"}


def test_lora_equals_comfyui_and_off_restores(case, reference, tmp_path):
    model = case.model()
    before = sample(case, model.unet, encode(case, model.text_encoder), 1)
    file = write(tmp_path, "lora-kohya-sd15")
    adapted = load_lora(model.unet, model.text_encoder, describe(file).lora(), 0.8, strength_text=0.6, run=case.run)
    assert_same(sample(case, adapted.unet, encode(case, adapted.text_encoder), 3), reference["lora/0.8_0.6"])
    assert torch.equal(sample(case, model.unet, encode(case, model.text_encoder), 1), before)


def test_controlnet_equals_comfyui(case, reference, tmp_path):
    model = case.model()
    control = load_control_net(describe(write(tmp_path, "controlnet-sd15-ldm")).controlnet())
    unet = apply_control_net(model.unet, control, case.image, 1.0)
    assert_same(sample(case, unet, encode(case, model.text_encoder), 4), reference["controlnet/1.0"])


def test_averaged_prompt_equals_comfyui(case, reference):
    model = case.model()
    positive, negative = encode(case, model.text_encoder)
    mixed = average_conditioning(positive, negative, 0.6)
    assert_same(sample(case, model.unet, (mixed, negative), 3), reference["conditioning/average"])
