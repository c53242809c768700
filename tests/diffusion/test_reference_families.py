"""Other families of models, at their full size, compute what ComfyUI 0.3.64 computed from the same weights.

Each file (2 to 7 GB of made-up values, tests/synthetic.py) is written, opened by `LoadModel`, used through the pack's nodes, and
removed. Stable Diffusion XL takes 14 GB of memory in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph import Run
from nodegraph_diffusion.checkpoint import describe
from nodegraph_nodes.nodes.concat import apply_inpaint, apply_pix2pix
from nodegraph_nodes.nodes.image import load_image
from nodegraph_nodes.nodes.latent import empty_latent, noise, vae_encode
from nodegraph_nodes.nodes.models import Model, load_model
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Latent, UNetModel
from tests import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DATA = Path(__file__).parent.parent / "data" / "reference"
PROMPT = "a photo of an astronaut riding a horse on mars"
NEGATIVE = "blurry, low quality"
LAYOUTS = ("sd15-inpainting-ldm", "sd15-instruct-pix2pix-ldm", "sd21-ldm", "sdxl-base-ldm")


class Kept(Run):
    """A run on the CPU that keeps what is loaded."""

    dtype = "float32"

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    def resident(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


class Place:
    """A model of one layout, and the picture that some cases look at."""

    def __init__(self, path: Path) -> None:
        self.path, self.run = path, Kept()
        self.image, self.mask = load_image(DATA / "ref_photo.png")

    def model(self, **overrides: Any) -> Model:
        return load_model(describe(self.path).model(), **overrides)

    def sample(self, model: Model, unet: UNetModel, latent: Latent, steps: int = 4) -> Tensor:
        """Four steps of euler, normal, cfg 3, seed 7: unscaled, as ComfyUI saves it."""
        positive, negative = (text_encode(model.text_encoder, text, run=self.run) for text in (PROMPT, NEGATIVE))
        denoiser = unet_denoise(unet, positive, negative, cfg=3.0, run=self.run)
        drawn = noise(latent, 7, "sequential")
        done = sampler(denoiser, latent, drawn, sampler="euler", schedule="normal", steps=steps, run=self.run)
        return done.samples / model.vae.part.config.scaling_factor


@pytest.fixture(scope="module", params=LAYOUTS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    path = tmp_path_factory.mktemp("family") / f"{request.param}.safetensors"
    synthetic.write(synthetic.read_layout(request.param), path)
    yield Place(path)
    path.unlink()


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    return load_file(DATA / "comfyui-families.safetensors")


def assert_same(ours: Tensor, expected: Tensor) -> None:
    difference = ((ours - expected).abs().max() / expected.std()).item()
    print(f"largest difference: {difference:.1e} standard deviations")
    assert ours.shape == expected.shape
    assert difference < 1e-4


def test_every_reference_has_its_case(reference):
    assert reference.keys() == {
        "sd15-inpainting/plain",
        "ip2p/euler",
        "sd21/euler_normal_eps",
        "sd21/euler_normal_v",
        "sdxl/euler_normal",
        "sdxl/vae_encode",
    }


def test_latents_are_comfyuis(place, reference):
    layout = place.path.stem
    if layout == "sd15-inpainting-ldm":
        model = place.model()
        unet = apply_inpaint(model.unet, model.vae, place.image, place.mask, place.run)
        assert_same(
            place.sample(model, unet, vae_encode(model.vae, place.image, run=place.run)), reference["sd15-inpainting/plain"]
        )
    elif layout == "sd15-instruct-pix2pix-ldm":
        model = place.model()
        seen = vae_encode(model.vae, place.image, run=place.run)
        latent = replace(seen, samples=torch.zeros_like(seen.samples))
        assert_same(place.sample(model, apply_pix2pix(model.unet, seen), latent), reference["ip2p/euler"])
    elif layout == "sd21-ldm":
        for prediction in ("eps", "v"):
            model = place.model(prediction=prediction)
            latent = empty_latent(model.vae, 64, 64)
            assert_same(place.sample(model, model.unet, latent), reference[f"sd21/euler_normal_{prediction}"])
    else:
        model = place.model()
        encoded = vae_encode(model.vae, place.image, run=place.run).samples / model.vae.part.config.scaling_factor
        assert_same(encoded, reference["sdxl/vae_encode"])
        assert_same(place.sample(model, model.unet, empty_latent(model.vae, 64, 64)), reference["sdxl/euler_normal"])
