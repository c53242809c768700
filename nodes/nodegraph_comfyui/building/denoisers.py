"""Makes a denoiser of a MODEL and its prompts, with everything that they bring with them."""

from __future__ import annotations

from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Cond, Model

PICTURES: Final = ("ApplyInpaint", "ApplyPix2Pix")
_KINDS: Final = ((("ApplyControlNet",), "ControlNets"), (("ApplyGligen",), "boxes of GLIGEN"), (PICTURES, "pictures for the UNet"))
"""What prompts bring for the UNet: the node types, and what people call it."""


def denoiser(call: Call, model: Model, positive: Cond, negative: Cond, *, cfg: Any) -> Ref:
    """A denoiser with classifier-free guidance or PerpNeg, and the other guidance of the model around it."""
    if model.empty is not None:
        conds = {"positive": positive, "negative": negative, "empty": model.empty[0]}
        return perp_neg(call, model, conds, cfg=cfg, neg_scale=model.empty[1])
    name_prompts(call, {"positive": positive, "negative": negative})
    unet = prepared_unet(call, model, positive, negative)
    inputs = {"unet": unet, "positive": positive.link, "negative": negative.link, "cfg": cfg}
    return guided(call, model, call.add("UNetDenoise", "_denoiser", **inputs))


def perp_neg(call: Call, model: Model, conds: dict[str, Cond], *, cfg: Any, neg_scale: Any) -> Ref:
    """A denoiser with PerpNeg for a positive, a negative and an empty prompt."""
    name_prompts(call, conds)
    links = {name: cond.link for name, cond in conds.items()}
    unet = prepared_unet(call, model, *conds.values())
    return guided(call, model, call.add("PerpNeg", "_denoiser", unet=unet, **links, cfg=cfg, neg_scale=neg_scale))


def guided(call: Call, model: Model, inner: Ref) -> Ref:
    """A denoiser with the guidance of the model around it."""
    for name, options in model.guidance:
        inner = call.add("Guidance", f"_{name}", denoiser=inner, guidance=name, options=dict(options) or None)
    return inner


def prepared_unet(call: Call, model: Model, *conds: Cond) -> Ref:
    """The UNet with everything that its prompts bring, the positive one first. Raises RefusedError if they differ in it."""
    positive, *others = conds
    for types, what in _KINDS:
        first, *rest = ([guide for guide in cond.guides if guide.type in types] for cond in (positive, *others))
        if any(found != first and (found or not all(guide.spreads for guide in first)) for found in rest):
            raise RefusedError(
                f"its prompts have different {what}. Here they apply to the UNet, and so to all prompts: apply the same to all"
            )
    unet = model.unet
    for guide in positive.guides:
        unet = call.add(guide.type, guide.name, unet=unet, **dict(guide.inputs))
    return unet


def name_prompts(call: Call, conds: dict[str, Cond]) -> None:
    """Call the prompts by what they are for, unless the user gave them titles."""
    for name, cond in conds.items():
        for step in call.converted.steps.above(cond.link):
            if step.type == "TextEncode" and not step.title and step.name == "prompt":
                step.name = name
