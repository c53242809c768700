"""UNets under prompts, as functions that denoise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_nodes.models.control_nets import load_control
from nodegraph_nodes.models.extra_channels import extra_channels
from nodegraph_nodes.models.parts import unet_on_demand
from nodegraph_nodes.types import Conditioning, UNetModel

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
    from nodegraph_diffusion.networks.config import UNetConfig


def load_denoisers(unet: UNetModel, run: Run, guidance: float = 0.0, **prompts: Conditioning) -> dict[str, UNetDenoiser]:
    """The UNet under each of `prompts`, by the same names. It is loaded when the first of them is called.

    A UNet that was distilled with guidance receives `guidance`, the w of its paper. Raises ValueError for prompts that were
    encoded for another model.
    """
    from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser

    part = unet.part
    for name, conditioning in prompts.items():
        for prompt in conditioning.prompts:
            _require_same_model(name, prompt, part.config)
        if len(terms_of(conditioning)) > 1:
            raise ValueError(
                f"{name}: expected one prompt, found several with AND, which only the positive one of UNetDenoise can be"
            )
    network, channels = unet_on_demand(unet, run), extra_channels(unet)
    controls = [load_control(control, run) for control in unet.controls]
    return {
        name: UNetDenoiser(
            network,
            part.noise_schedule,
            conditioning.prompts,
            controls=controls,
            cell=part.latent.factor,
            guidance=guidance,
            **channels,
        )
        for name, conditioning in prompts.items()
    }


def terms_of(conditioning: Conditioning) -> list[tuple[float, tuple[Prompt, ...]]]:
    """The prompts of each term of an `AND`, with its weight; one term if there is no `AND`."""
    terms: dict[int, list[Prompt]] = {}
    for prompt in conditioning.prompts:
        terms.setdefault(prompt.term, []).append(prompt)
    return [(prompts[0].term_weight, tuple(prompts)) for prompts in terms.values()]


def _require_same_model(name: str, prompt: Prompt, config: UNetConfig) -> None:
    """Raise ValueError if the prompt was encoded for another model."""
    width = prompt.embedding.shape[-1]
    if width != config.prompt_width:
        if config.labels is not None:
            raise ValueError(
                f"{name}: expected labels, which this UNet attends to, found a text; give it those of LabelCondition or NoCondition"
            )
        raise ValueError(
            f"{name}: expected a prompt of width {config.prompt_width}, which this UNet attends to, found {width}; "
            f"encode it with the text encoder of the same model"
        )
    if config.added_dim is not None and prompt.pooled is None:
        raise ValueError(
            f"{name}: expected a prompt with a pooled encoding, which this UNet needs, found a prompt without one; "
            f"encode it with the text encoders of the same model"
        )
