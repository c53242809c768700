"""Nodes for guidance beyond two prompts and a scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any

from nodegraph import Choice, Help, OptionsOf, Range, Run, node
from nodegraph_nodes.models.denoisers import load_denoisers
from nodegraph_nodes.types import Conditioning, Denoiser, UNetModel


def _check_options(**literals: Any) -> Iterable[str]:
    from nodegraph_diffusion.guidance import GuidanceSpec

    guidance, options = literals.get("guidance"), literals.get("options")
    if isinstance(guidance, GuidanceSpec) and isinstance(options, dict):
        try:
            guidance.check_values(options)
        except ValueError as error:
            yield str(error)


@node("Guidance", check=_check_options, foreign_names=("RescaleCFG", "PerturbedAttentionGuidance", "SelfAttentionGuidance"))
def guidance(
    denoiser: Denoiser,
    guidance: Annotated[Any, Choice("guidance")],
    options: Annotated[dict[str, Any] | None, OptionsOf("guidance"), Help("'nodegraph guidance NAME' lists them")] = None,
) -> Denoiser:
    """Add a guidance method to a denoiser.

    To use several, chain the nodes: the last one is outermost and sees the results of those before it.
    """
    from nodegraph_diffusion.denoising.unguided import as_guided
    from nodegraph_diffusion.guidance import GUIDANCE, GuidanceSpec

    if isinstance(guidance, str):
        guidance = GUIDANCE[guidance]
    spec = guidance if isinstance(guidance, GuidanceSpec) else GuidanceSpec(guidance)
    return dataclasses.replace(denoiser, function=spec(as_guided(denoiser.function), **(options or {})))


@node("PerpNeg", numeric=True, foreign_names=("PerpNegGuider",))
def perp_neg(
    unet: UNetModel,
    positive: Conditioning,
    negative: Conditioning,
    empty: Annotated[Conditioning, Help("the prompt that the other two are compared with, usually an empty text")],
    cfg: Annotated[float, Range(0, 100), Help("guidance scale; 1 turns guidance off, 3 to 8 are usual")] = 5.0,
    neg_scale: Annotated[float, Range(0, 100), Help("strength of the negative prompt")] = 1.0,
    run: Run = Run(),
) -> Denoiser:
    """Make a denoiser with a negative prompt that does not weaken the positive one.

    `empty + cfg * (p - neg_scale * (n - p * <n, p> / <p, p>))`, where p and n are what the positive and the negative prompt add
    to the prediction under the empty one. Only the part of n that is perpendicular to p is subtracted (Armandpour et al. 2023).
    """
    from nodegraph_diffusion.guidance import PerpNeg

    denoisers = load_denoisers(unet, run, positive=positive, negative=negative, empty=empty)
    function = PerpNeg(denoisers["positive"], denoisers["negative"], denoisers["empty"], cfg=cfg, neg_scale=neg_scale)
    return Denoiser(function, unet.part.latent)


@node("DualGuidance", numeric=True, foreign_names=("DualCFGGuider",))
def dual_guidance(
    unet: UNetModel,
    positive: Conditioning,
    middle: Conditioning,
    negative: Conditioning,
    cfg: Annotated[float, Range(0, 100), Help("scale of the step from the middle prompt to the positive one")] = 7.5,
    cfg_middle: Annotated[float, Range(0, 100), Help("scale of the step from the negative prompt to the middle one")] = 1.5,
    nested: Annotated[bool, Help("cfg_middle also scales the step to the positive prompt")] = False,
    unet_negative: Annotated[
        UNetModel | None, Help("the UNet for the negative prompt, such as one without the picture; default: 'unet'")
    ] = None,
    run: Run = Run(),
) -> Denoiser:
    """Make a denoiser from three prompts, guided in two steps.

    `negative + cfg_middle * (middle - negative) + cfg * (positive - middle)` (Brooks et al. 2023, "InstructPix2Pix", Eq. 3). In
    that paper the positive prompt is the instruction, the other two are empty, and `unet_negative` is the UNet without
    `ApplyPix2Pix`.
    """
    from nodegraph_diffusion.guidance import DualGuidance

    if unet_negative is None:
        denoisers = load_denoisers(unet, run, positive=positive, middle=middle, negative=negative)
    else:
        denoisers = load_denoisers(unet, run, positive=positive, middle=middle)
        denoisers |= load_denoisers(unet_negative, run, negative=negative)
    function = DualGuidance(
        denoisers["positive"], denoisers["middle"], denoisers["negative"], cfg=cfg, cfg_middle=cfg_middle, nested=nested
    )
    return Denoiser(function, unet.part.latent)
