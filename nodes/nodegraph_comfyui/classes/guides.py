"""Classes that give prompts something for the UNet: ControlNets, pictures, and boxes of GLIGEN; and pictures as prompts."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from nodegraph_comfyui.building.call import Call
from nodegraph_comfyui.building.denoisers import PICTURES
from nodegraph_comfyui.building.steps import SamplingSeed
from nodegraph_comfyui.building.values import Clip, Cond, Guide, Latents
from nodegraph_comfyui.classes.conditioning import with_embeddings
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.renaming import renamed


def _control(call: Call) -> Cond:
    return _with(call.get("conditioning", Cond), *_controls(call, spreads=True))


def _controls(call: Call, start: Any = 0.0, end: Any = 1.0, *, spreads: bool) -> tuple[Guide, ...]:
    """The ControlNet that a node applies; none if its strength is 0, as in ComfyUI."""
    inputs = {"control_net": call.link("control_net"), "image": call.link("image"), "strength": call["strength"]}
    if call.literal("strength") == 0:
        return ()
    inputs |= {name: value for name, value, usual in (("start", start, 0), ("end", end, 1)) if value != usual}
    return (Guide(type="ApplyControlNet", name="_controlled", inputs=(*inputs.items(),), spreads=spreads),)


def _control_both(call: Call) -> tuple[Cond, Cond]:
    return _on_both(call, *_controls(call, call["start_percent"], call["end_percent"], spreads=False))


def _on_both(call: Call, *guides: Guide) -> tuple[Cond, Cond]:
    return _with(call.get("positive", Cond), *guides), _with(call.get("negative", Cond), *guides)


def _with(cond: Cond, *guides: Guide) -> Cond:
    """A prompt that brings more. There is only one picture for the UNet, the last one."""
    replaced = PICTURES if any(guide.type in PICTURES for guide in guides) else ()
    others = (guide for guide in cond.guides if guide.type not in replaced)
    return dataclasses.replace(cond, guides=(*others, *guides))


def _inpaint(call: Call) -> tuple[Cond, Cond, Latents]:
    vae, pixels, mask = (call.link(name) for name in ("vae", "pixels", "mask"))
    inputs = (("vae", vae), ("image", pixels), ("mask", mask))
    latent = call.add("VAEEncode", "encoded", vae=vae, image=pixels, fit="crop")
    conds = _on_both(call, Guide(type="ApplyInpaint", name="_inpaint", inputs=inputs, spreads=False))
    return *conds, Latents(link=latent, mask=mask if call.literal("noise_mask") else None)


def _pix2pix(call: Call) -> tuple[Cond, Cond, Latents]:
    vae = call.link("vae")
    encoded = call.add("VAEEncode", "encoded", vae=vae, image=call.link("pixels"), fit="crop")
    conds = _on_both(call, Guide(type="ApplyPix2Pix", name="_changed", inputs=(("latent", encoded),), spreads=False))
    return *conds, Latents(link=call.add("EmptyLatent", "latent", vae=vae, like=encoded))


def _box(call: Call) -> Cond:
    encoder = with_embeddings(call, call.get("clip", Clip), call.literal("text"))
    place = {name: call[name] for name in ("width", "height", "x", "y")}
    links = {"gligen": call.link("gligen_textbox_model"), "text_encoder": encoder}
    inputs = {**links, "text": call.setting("text"), **place}
    return _with(call.get("conditioning_to", Cond), Guide(type="ApplyGligen", name="_box", inputs=(*inputs.items(),)))


def _picture_prompt(call: Call) -> Cond:
    cond, seen = call.get("conditioning", Cond), call.link("clip_vision_output")
    if call.literal("strength") == 0:
        return cond
    inputs = {"strength": call["strength"], "noise": call["noise_augmentation"], "seed": SamplingSeed()}
    link = call.add("ImageCondition", "_pictures", conditioning=cond.link, embedding=seen, **inputs)
    return dataclasses.replace(cond, link=link)


_APPLIED: Final = "changes the UNet and applies to both sides, as the advanced node does; it cannot apply to a single prompt"

CLASSES: Final = (
    NodeClass(
        name="ControlNetApply",
        title="Apply ControlNet (OLD)",
        inputs="conditioning:CONDITIONING control_net:CONTROL_NET image:IMAGE strength:FLOAT=1.0",
        outputs=("CONDITIONING",),
        convert=_control,
        here=("ApplyControlNet",),
        renamed="`control_net`, `image`, `strength`",
        differs=_APPLIED,
    ),
    NodeClass(
        name="ControlNetApplyAdvanced",
        title="Apply ControlNet",
        inputs=(
            "positive:CONDITIONING negative:CONDITIONING control_net:CONTROL_NET image:IMAGE strength:FLOAT=1.0 "
            "start_percent:FLOAT=0.0 end_percent:FLOAT=1.0 vae:VAE?"
        ),
        outputs=("CONDITIONING", "CONDITIONING"),
        convert=_control_both,
        here=("ApplyControlNet",),
        renamed="`control_net`, `image`, `strength`; start_percent, end_percent: `start`, `end`",
        differs=_APPLIED,
    ),
    NodeClass(
        name="InpaintModelConditioning",
        title="InpaintModelConditioning",
        inputs="positive:CONDITIONING negative:CONDITIONING vae:VAE pixels:IMAGE mask:MASK noise_mask:BOOLEAN=true",
        outputs=("CONDITIONING", "CONDITIONING", "LATENT"),
        convert=_inpaint,
        here=("ApplyInpaint",),
        renamed="pixels: `image`; `mask`, `vae`",
        differs="changes the UNet, not the prompts; noise_mask: give the mask to `Sampler` as well",
    ),
    NodeClass(
        name="InstructPixToPixConditioning",
        title="InstructPixToPixConditioning",
        inputs="positive:CONDITIONING negative:CONDITIONING vae:VAE pixels:IMAGE",
        outputs=("CONDITIONING", "CONDITIONING", "LATENT"),
        convert=_pix2pix,
        here=("ApplyPix2Pix",),
        renamed="pixels: `latent` of `VAEEncode`",
        differs="changes the UNet, not the prompts; its latent is `EmptyLatent` with `like`",
    ),
    NodeClass(
        name="GLIGENTextBoxApply",
        title="GLIGENTextBoxApply",
        inputs=(
            "conditioning_to:CONDITIONING clip:CLIP gligen_textbox_model:GLIGEN text:STRING= width:INT=64 height:INT=64 x:INT=0 "
            "y:INT=0"
        ),
        outputs=("CONDITIONING",),
        convert=_box,
        here=("ApplyGligen",),
        renamed="clip: `text_encoder`; gligen_textbox_model: `gligen`; `text`, `width`, `height`, `x`, `y`",
        differs="changes the UNet and applies to both sides, as in ComfyUI; `unit: fraction` counts in sides of the picture",
    ),
    renamed(
        "CLIPVisionEncode",
        "CLIP Vision Encode",
        "clip_vision:CLIP_VISION>image_encoder image:IMAGE crop:COMBO=center>fit",
        "ImageEncode seen CLIP_VISION_OUTPUT",
        values={"crop": {"center": "crop", "none": "stretch"}},
        differs="crop center, none: `fit: crop`, `fit: stretch`",
    ),
    NodeClass(
        name="unCLIPConditioning",
        title="unCLIPConditioning",
        inputs="conditioning:CONDITIONING clip_vision_output:CLIP_VISION_OUTPUT strength:FLOAT=1.0 noise_augmentation:FLOAT=0.0",
        outputs=("CONDITIONING",),
        convert=_picture_prompt,
        here=("ImageCondition",),
        renamed="clip_vision_output: `embedding`; `strength`; noise_augmentation: `noise`",
        differs='for SDXL ("revision"); give the seed of the sampling as `seed`. Models of the unCLIP family are not read',
    ),
)
