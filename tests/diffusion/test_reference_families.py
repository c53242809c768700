"""Other full-size model families compute what ComfyUI 0.3.64 computed from the same weights.

Each file (2 to 7 GB of made-up values, tests/synthetic.py) is written, opened by `LoadModel`, used through the pack's nodes, and
removed. Stable Diffusion XL takes 14 GB of memory in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph_nodes.nodes.concat import apply_inpaint, apply_pix2pix
from nodegraph_nodes.nodes.latent import empty_latent, vae_encode
from tests.support import synthetic_checkpoints as synthetic
from tests.support.reference_latents import DATA, ReferenceCase, assert_same

pytestmark = [pytest.mark.slow, pytest.mark.large, pytest.mark.timeout(1800)]

LAYOUTS = ("sd15-inpainting-ldm", "sd15-instruct-pix2pix-ldm", "sd21-ldm", "sdxl-base-ldm")


@pytest.fixture(scope="module", params=LAYOUTS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceCase]:
    path = tmp_path_factory.mktemp("family") / f"{request.param}.safetensors"
    synthetic.write(synthetic.read_layout(request.param), path)
    yield ReferenceCase(path)
    path.unlink()


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(DATA / "comfyui-families.safetensors")


def test_every_reference_has_a_case(reference):
    assert reference.keys() == {
        "sd15-inpainting/plain",
        "ip2p/euler",
        "sd21/euler_normal_eps",
        "sd21/euler_normal_v",
        "sdxl/euler_normal",
        "sdxl/vae_encode",
    }


def test_latents_equal_comfyui(case, reference):
    layout = case.path.stem
    if layout == "sd15-inpainting-ldm":
        model = case.model()
        unet = apply_inpaint(model.unet, model.vae, case.image, case.mask, run=case.run)
        assert_same(case.sample(model, unet, vae_encode(model.vae, case.image, run=case.run)), reference["sd15-inpainting/plain"])
    elif layout == "sd15-instruct-pix2pix-ldm":
        model = case.model()
        seen = vae_encode(model.vae, case.image, run=case.run)
        latent = replace(seen, samples=torch.zeros_like(seen.samples))
        assert_same(case.sample(model, apply_pix2pix(model.unet, seen), latent), reference["ip2p/euler"])
    elif layout == "sd21-ldm":
        for prediction in ("eps", "v"):
            model = case.model(prediction=prediction)
            latent = empty_latent(model.vae, 64, 64)
            assert_same(case.sample(model, model.unet, latent), reference[f"sd21/euler_normal_{prediction}"])
    else:
        model = case.model()
        encoded = vae_encode(model.vae, case.image, run=case.run).samples / model.vae.part.config.scaling_factor
        assert_same(encoded, reference["sdxl/vae_encode"])
        assert_same(case.sample(model, model.unet, empty_latent(model.vae, 64, 64)), reference["sdxl/euler_normal"])
