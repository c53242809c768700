"""Nodes that guide a denoiser otherwise than by two prompts and a scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any

from nodegraph import Choice, Help, OptionsOf, Range, Run, node
from nodegraph_nodes.nodes.sampling import under_prompts
from nodegraph_nodes.types import Conditioning, Denoiser, UNetModel


def _guidance_fits(**given: Any) -> Iterable[str]:
    from nodegraph_diffusion.guidance import GuidanceSpec

    chosen, options = given.get("guidance"), given.get("options")
    if isinstance(chosen, GuidanceSpec) and isinstance(options, dict):
        try:
            chosen.check_values(options)
        except ValueError as error:
            yield str(error)


@node("Guidance", check=_guidance_fits, elsewhere=("RescaleCFG", "PerturbedAttentionGuidance", "SelfAttentionGuidance"))
def guidance(
    denoiser: Denoiser,
    guidance: Annotated[Any, Choice("guidance")],
    options: Annotated[dict[str, Any] | None, OptionsOf("guidance"), Help("'nodegraph guidance NAME' lists them")] = None,
) -> Denoiser:
    """A denoiser with a guidance around it.

    Several are stacked: the last one sees what those before it made.
    """
    from nodegraph_diffusion.denoising.unguided import as_guided
    from nodegraph_diffusion.guidance import GUIDANCE, GuidanceSpec

    if isinstance(guidance, str):
        guidance = GUIDANCE[guidance]
    spec = guidance if isinstance(guidance, GuidanceSpec) else GuidanceSpec(guidance)
    return dataclasses.replace(denoiser, function=spec(as_guided(denoiser.function), **(options or {})))


@node("PerpNeg", numeric=True, elsewhere=("PerpNegGuider",))
def perp_neg(
    unet: UNetModel,
    positive: Conditioning,
    negative: Conditioning,
    empty: Annotated[Conditioning, Help("the prompt that both are seen from, mostly that of no text")],
    cfg: Annotated[float, Range(0, 100), Help("guidance: 1 is none, 3 to 8 are usual")] = 5.0,
    neg_scale: Annotated[float, Range(0, 100), Help("how much the negative prompt counts")] = 1.0,
    run: Run = Run(),
) -> Denoiser:
    """A denoiser under three prompts, whose negative one spares the positive one.

    Armandpour et al. 2023. Away from the negative prompt only where it does not ask for what the positive one does: with p and
    n what the two add to the empty prompt, it sees
    `empty + cfg * (p - neg_scale * (n - p * <n, p> / <p, p>))`.
    """
    from nodegraph_diffusion.guidance import PerpNeg

    toward, away, base = under_prompts(unet, run, positive=positive, negative=negative, empty=empty)
    return Denoiser(PerpNeg(toward, away, base, cfg, neg_scale), unet.part.latent)


@node("DualGuidance", numeric=True, elsewhere=("DualCFGGuider",))
def dual_guidance(
    unet: UNetModel,
    positive: Conditioning,
    middle: Conditioning,
    negative: Conditioning,
    cfg: Annotated[float, Range(0, 100), Help("from the middle prompt to the positive one")] = 7.5,
    cfg_middle: Annotated[float, Range(0, 100), Help("from the negative prompt to the middle one")] = 1.5,
    nested: Annotated[bool, Help("cfg_middle scales the step to the positive prompt, too")] = False,
    unet_negative: Annotated[UNetModel | None, Help("what the negative prompt is for, if another: one without the picture")] = None,
    run: Run = Run(),
) -> Denoiser:
    """A denoiser under three prompts, from negative by middle to positive.

    `negative + cfg_middle * (middle - negative) + cfg * (positive - middle)`.

    Brooks et al. 2023, "InstructPix2Pix", Eq. 3: there the positive prompt is the instruction, the middle and the negative one no
    text, and `unet_negative` the model without `ApplyPix2Pix`.
    """
    from nodegraph_diffusion.guidance import DualGuidance

    if unet_negative is None:
        toward, between, away = under_prompts(unet, run, positive=positive, middle=middle, negative=negative)
    else:
        toward, between = under_prompts(unet, run, positive=positive, middle=middle)
        (away,) = under_prompts(unet_negative, run, negative=negative)
    return Denoiser(DualGuidance(toward, between, away, cfg, cfg_middle, nested), unet.part.latent)
