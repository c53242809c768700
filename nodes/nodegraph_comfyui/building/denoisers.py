"""Makes a denoiser of a MODEL and its prompts, with everything that they bring with them."""

from __future__ import annotations

from typing import Any

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Cond, Control, Model


def denoiser(call: Call, model: Model, positive: Cond, negative: Cond, cfg: Any) -> Ref:
    """A denoiser with classifier-free guidance, and the other guidance of the model around it."""
    name_prompts(call, {"positive": positive, "negative": negative})
    unet = prepared_unet(call, model, positive, negative)
    inputs = {"unet": unet, "positive": positive.link, "negative": negative.link, "cfg": cfg}
    return guided(call, model, call.add("UNetDenoise", "_denoiser", **inputs))


def guided(call: Call, model: Model, inner: Ref) -> Ref:
    """A denoiser with the guidance of the model around it."""
    for name, options in model.guidance:
        inner = call.add("Guidance", f"_{name}", denoiser=inner, guidance=name, options=dict(options) or None)
    return inner


def prepared_unet(call: Call, model: Model, *conds: Cond) -> Ref:
    """The UNet with the ControlNets and the picture that its prompts bring. Raises RefusedError if the prompts differ in these.

    ComfyUI's simple ControlNet node sets it on one prompt, and applies it to both.
    """
    controls = [cond.controls for cond in conds if cond.controls]
    if any(other != controls[0] for other in controls):
        raise RefusedError(
            "its prompts have different ControlNets. Here they apply to the UNet, and so to all prompts: apply the same to both"
        )
    concats = [cond.concat for cond in conds if cond.concat is not None]
    if any(other != concats[0] for other in concats):
        raise RefusedError("its prompts have different pictures for the UNet, which is not possible here: give both the same one")
    unet = model.unet
    if concats:
        unet = call.add(concats[0].type, "_inpaint", unet=unet, **dict(concats[0].inputs))
    for control in controls[0] if controls else ():
        unet = call.add("ApplyControlNet", "_controlled", unet=unet, **_inputs(control))
    return unet


def _inputs(control: Control) -> dict[str, Any]:
    values = {"control_net": control.net, "image": control.image, "strength": control.strength}
    part = {"start": control.start if control.start != 0 else None, "end": control.end if control.end != 1 else None}
    return values | part


def name_prompts(call: Call, conds: dict[str, Cond]) -> None:
    """Call the prompts by what they are for, unless the user gave them titles."""
    for name, cond in conds.items():
        for step in call.converted.steps.above(cond.link):
            if step.type == "TextEncode" and not step.title and step.name == "prompt":
                step.name = name
