"""Classes that make and change latents."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.values import Latents, Value
from nodegraph_comfyui.classes.node_class import NodeClass

_METHODS: Final = {name: name for name in ("bilinear", "area", "bicubic", "bislerp")} | {"nearest-exact": "nearest"}


def _empty(call: Call) -> Latents:
    vae = call.converted.vaes.get(call.node.id)
    if vae is None:
        raise RefusedError("an empty latent needs a VAE here, and the graph has none. Add a loader of one in ComfyUI")
    batch = call.setting("batch_size", "batch") if call.literal("batch_size") != 1 else None
    link = call.add("EmptyLatent", "latent", vae=vae, width=call.setting("width"), height=call.setting("height"), batch=batch)
    return Latents(link=link)


def _decode(call: Call) -> Value:
    return Value("IMAGE", call.add("VAEDecode", "image", vae=call.link("vae"), latent=call.get("samples", Latents).link))


def _encode(call: Call) -> Latents:
    return Latents(link=call.add("VAEEncode", "encoded", vae=call.link("vae"), image=call.link("pixels")))


def _noise_mask(call: Call) -> Latents:
    return dataclasses.replace(call.get("samples", Latents), mask=call.link("mask"))


def _upscale(call: Call) -> Latents:
    width, height = call.literal("width"), call.literal("height")
    if width == 0 and height == 0:
        return call.get("samples", Latents)
    if call.choice("crop", {"disabled": False, "center": True}) and width and height:
        raise RefusedError("'crop' is 'center', which does not exist here for latents: crop the picture instead")
    size = {"width": call.setting("width") if width else None, "height": call.setting("height") if height else None}
    return _resized(call, **size)


def _upscale_by(call: Call) -> Latents:
    return _resized(call, scale=call["scale_by"])


def _resized(call: Call, **size: Any) -> Latents:
    latents = call.get("samples", Latents)
    method = call.choice("upscale_method", _METHODS)
    return dataclasses.replace(latents, link=call.add("ResizeLatent", "resized", latent=latents.link, method=method, **size))


CLASSES: Final = (
    NodeClass(
        name="EmptyLatentImage",
        title="Empty Latent Image",
        inputs="width:INT=512 height:INT=512 batch_size:INT=1",
        outputs=("LATENT",),
        convert=_empty,
        here=("EmptyLatent",),
        renamed="`width`, `height`; batch_size: `batch`",
        differs=(
            "needs the VAE, and knows the model's native size from it. Sides need not be multiples of 8: they are padded, and "
            "cropped again"
        ),
    ),
    NodeClass(
        name="VAEDecode",
        title="VAE Decode",
        inputs="samples:LATENT vae:VAE",
        outputs=("IMAGE",),
        convert=_decode,
        here=("VAEDecode",),
        renamed="samples: `latent`",
        differs="sides that are not multiples of 8 are padded, not cropped",
    ),
    NodeClass(
        name="VAEEncode",
        title="VAE Encode",
        inputs="pixels:IMAGE vae:VAE",
        outputs=("LATENT",),
        convert=_encode,
        here=("VAEEncode",),
        renamed="pixels: `image`",
        differs="sides that are not multiples of 8 are padded, not cropped",
    ),
    NodeClass(
        name="SetLatentNoiseMask",
        title="Set Latent Noise Mask",
        inputs="samples:LATENT mask:MASK",
        outputs=("LATENT",),
        convert=_noise_mask,
        here=("Sampler",),
        renamed="samples, mask: `latent`, `mask`",
        differs="an input of the sampler",
    ),
    NodeClass(
        name="LatentUpscale",
        title="Upscale Latent",
        inputs="samples:LATENT upscale_method:COMBO=nearest-exact width:INT=512 height:INT=512 crop:COMBO=disabled",
        outputs=("LATENT",),
        convert=_upscale,
        here=("ResizeLatent",),
        renamed="upscale_method: `method`",
        differs=(
            "the same five methods; `width` and `height` in pixels; no crop. `Resize` between `VAEDecode` and `VAEEncode` resizes "
            "the picture instead"
        ),
    ),
    NodeClass(
        name="LatentUpscaleBy",
        title="Upscale Latent By",
        inputs="samples:LATENT upscale_method:COMBO=nearest-exact scale_by:FLOAT=1.5",
        outputs=("LATENT",),
        convert=_upscale_by,
        here=("ResizeLatent",),
        renamed="upscale_method: `method`; scale_by: `scale`",
    ),
)
