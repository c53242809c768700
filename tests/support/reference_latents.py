"""Full-size models with synthetic weights, and the latents that ComfyUI 0.3.64 computed from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from nodegraph import Run
from nodegraph_diffusion.checkpoint import describe
from nodegraph_nodes.nodes.image import load_image
from nodegraph_nodes.nodes.latent import noise
from nodegraph_nodes.nodes.models import Model, load_model
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Latent, UNetModel

DATA = Path(__file__).parent.parent / "data" / "reference"


PROMPT = "a photo of an astronaut riding a horse on mars"


NEGATIVE = "blurry, low quality"


class KeepingRun(Run):
    """A run on the CPU that keeps loaded networks."""

    dtype = "float32"

    def __init__(self) -> None:
        self.networks: dict[Any, Any] = {}

    def resident(self, key: Any, make: Callable[[], Any], *, size: int = 0) -> Any:
        if key not in self.networks:
            self.networks[key] = make()
        return self.networks[key]


class ReferenceCase:
    """A model of one layout, and the picture that some cases use."""

    def __init__(self, path: Path) -> None:
        self.path, self.run = path, KeepingRun()
        self.image, self.mask = load_image(DATA / "ref_photo.png")

    def model(self, **overrides: Any) -> Model:
        return load_model(describe(self.path), **overrides)

    def sample(self, model: Model, unet: UNetModel, latent: Latent, steps: int = 4) -> Tensor:
        """Four steps of euler, normal, cfg 3, seed 7: unscaled, as ComfyUI saves it."""
        positive, negative = (text_encode(model.text_encoder, text, run=self.run) for text in (PROMPT, NEGATIVE))
        denoiser = unet_denoise(unet, positive, negative, cfg=3.0, run=self.run)
        drawn = noise(latent, 7, "sequential")
        done = sampler(denoiser, latent, drawn, sampler="euler", schedule="normal", steps=steps, run=self.run)
        return done.samples / model.vae.part.config.scaling_factor


def assert_same(ours: Tensor, expected: Tensor) -> None:
    difference = ((ours - expected).abs().max() / expected.std()).item()
    print(f"largest difference: {difference:.1e} standard deviations")
    assert ours.shape == expected.shape
    assert difference < 1e-4
