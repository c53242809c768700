"""Classes that make and change latents."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Latents, Value
from nodegraph_comfyui.classes.images import save_name
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
    return Latents(link=call.add("VAEEncode", "encoded", vae=call.link("vae"), image=call.link("pixels"), fit="crop"))


def _decode_in_tiles(call: Call) -> Value:
    call.note("the picture is decoded in one piece, not in tiles")
    return _decode(call)


def _encode_in_tiles(call: Call) -> Latents:
    call.note("the picture is encoded in one piece, not in tiles")
    return _encode(call)


def _save(call: Call) -> None:
    call.output("latent", call.get("samples", Latents).link, f"{save_name(call.literal('filename_prefix'))}.safetensors")


def _encode_to_inpaint(call: Call) -> Latents:
    vae, grow = call.link("vae"), call["grow_mask_by"]
    hidden = call.add("HideMasked", "_hidden", image=call.link("pixels"), mask=call.link("mask"), grow=grow, multiple=8)
    encoded = call.add("VAEEncode", "encoded", vae=vae, image=Ref(hidden.step, "image"), fit="crop")
    return Latents(link=encoded, mask=Ref(hidden.step, "mask"))


def _noise_mask(call: Call) -> Latents:
    return dataclasses.replace(call.get("samples", Latents), mask=call.link("mask"))


def _upscale(call: Call) -> Latents:
    width, height = call.literal("width"), call.literal("height")
    if width == 0 and height == 0:
        return call.get("samples", Latents)
    crop = call.choice("crop", {"disabled": None, "center": True}) if width and height else None
    size: dict[str, Any] = {"width": call.setting("width") if width else None, "height": call.setting("height") if height else None}
    return _resized(call, **size, crop=crop)


def _upscale_by(call: Call) -> Latents:
    return _resized(call, scale=call["scale_by"])


def _resized(call: Call, **size: Any) -> Latents:
    latents = call.get("samples", Latents)
    method = call.choice("upscale_method", _METHODS)
    return dataclasses.replace(latents, link=call.add("ResizeLatent", "resized", latent=latents.link, method=method, **size))


def _composite(call: Call) -> Latents:
    below, above = call.get("samples_to", Latents), call.get("samples_from", Latents)
    place = {name: call[name] for name in ("x", "y", "feather")}
    return dataclasses.replace(
        below, link=call.add("CompositeLatent", "composite", latent=above.link, original=below.link, **place)
    )


def _composite_masked(call: Call) -> Latents:
    below, above = call.get("destination", Latents), call.get("source", Latents)
    if call.literal("resize_source"):
        raise RefusedError("'resize_source' is on, which does not exist here: resize the source before in ComfyUI")
    mask = call.link("mask") if call.has("mask") else None
    place = {name: call[name] for name in ("x", "y")}
    link = call.add("CompositeLatent", "composite", latent=above.link, original=below.link, mask=mask, **place)
    return dataclasses.replace(below, link=link)


def _repeat(call: Call) -> Latents:
    latents = call.get("samples", Latents)
    return dataclasses.replace(latents, link=call.add("RepeatLatent", "repeated", latent=latents.link, times=call["amount"]))


def _take(call: Call) -> Latents:
    latents = call.get("samples", Latents)
    taken = call.add("FromBatch", "taken", latent=latents.link, index=call["batch_index"], count=call["length"])
    return dataclasses.replace(latents, link=taken)


def _join(call: Call) -> Latents:
    first, second = call.get("samples1", Latents), call.get("samples2", Latents)
    return dataclasses.replace(first, link=call.add("JoinLatents", "joined", latents=[first.link, second.link]))


def _same_noise(call: Call) -> Latents:
    latents, noise = call.get("samples", Latents), call.choice("seed_behavior", {"fixed": "same", "random": "different"})
    return dataclasses.replace(latents, link=call.add("BatchNoise", "batch", latent=latents.link, noise=noise))


_TILES: Final = "tile_size:INT=512 overlap:INT=64 temporal_size:INT=64 temporal_overlap:INT=8"

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
        differs="sides that are not multiples of 8 are padded; `fit: crop` crops them, as ComfyUI does",
    ),
    NodeClass(
        name="VAEDecodeTiled",
        title="VAE Decode (Tiled)",
        inputs=f"samples:LATENT vae:VAE {_TILES}",
        outputs=("IMAGE",),
        convert=_decode_in_tiles,
        here=("VAEDecode",),
        renamed="samples: `latent`",
        differs="decodes in one piece",
    ),
    NodeClass(
        name="VAEEncodeTiled",
        title="VAE Encode (Tiled)",
        inputs=f"pixels:IMAGE vae:VAE {_TILES}",
        outputs=("LATENT",),
        convert=_encode_in_tiles,
        here=("VAEEncode",),
        renamed="pixels: `image`",
        differs="encodes in one piece",
    ),
    NodeClass(
        name="SaveLatent",
        title="Save Latent",
        inputs="samples:LATENT filename_prefix:STRING=latents/ComfyUI",
        convert=_save,
        renamed="`outputs:` of the workflow",
        differs="as `.safetensors`, not ComfyUI's `.latent`",
        is_end=True,
    ),
    NodeClass(
        name="VAEEncodeForInpaint",
        title="VAE Encode (for Inpainting)",
        inputs="pixels:IMAGE vae:VAE mask:MASK grow_mask_by:INT=6",
        outputs=("LATENT",),
        convert=_encode_to_inpaint,
        here=("HideMasked", "VAEEncode", "Sampler"),
        renamed="pixels: `image`; grow_mask_by: `grow` of `HideMasked`; mask: `mask` of `Sampler`",
        differs="`HideMasked` makes the picture and the mask for these; `multiple: 8` crops both, as ComfyUI does",
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
        renamed="upscale_method: `method`; crop center: `crop: true`",
        differs=(
            "the same five methods; nearest-exact is `nearest`; `width` and `height` in pixels. `Resize` between `VAEDecode` and "
            "`VAEEncode` resizes the picture instead"
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
    NodeClass(
        name="LatentComposite",
        title="Latent Composite",
        inputs="samples_to:LATENT samples_from:LATENT x:INT=0 y:INT=0 feather:INT=0",
        outputs=("LATENT",),
        convert=_composite,
        here=("CompositeLatent",),
        renamed="samples_to: `original`; samples_from: `latent`; `x`, `y`, `feather`",
        differs="x and y from 0",
    ),
    NodeClass(
        name="LatentCompositeMasked",
        title="LatentCompositeMasked",
        inputs="destination:LATENT source:LATENT x:INT=0 y:INT=0 resize_source:BOOLEAN=false mask:MASK?",
        outputs=("LATENT",),
        convert=_composite_masked,
        here=("CompositeLatent",),
        renamed="destination: `original`; source: `latent`; `x`, `y`, `mask`",
        differs="x and y from 0; resize_source: `ResizeLatent`",
    ),
    NodeClass(
        name="RepeatLatentBatch",
        title="Repeat Latent Batch",
        inputs="samples:LATENT amount:INT=1",
        outputs=("LATENT",),
        convert=_repeat,
        here=("RepeatLatent",),
        renamed="amount: `times`",
    ),
    NodeClass(
        name="LatentFromBatch",
        title="Latent From Batch",
        inputs="samples:LATENT batch_index:INT=0 length:INT=1",
        outputs=("LATENT",),
        convert=_take,
        here=("FromBatch",),
        renamed="samples: `latent`; batch_index: `index`; length: `count`",
        differs="too large a number is an error. `Noise` for them is that of the batch, as in ComfyUI",
    ),
    NodeClass(
        name="LatentBatch",
        title="LatentBatch",
        inputs="samples1:LATENT samples2:LATENT",
        outputs=("LATENT",),
        convert=_join,
        here=("JoinLatents",),
        renamed="samples1, samples2: `latents: [$a, $b]`",
        differs="any number of them",
    ),
    NodeClass(
        name="LatentBatchSeedBehavior",
        title="LatentBatchSeedBehavior",
        inputs="samples:LATENT seed_behavior:COMBO=fixed",
        outputs=("LATENT",),
        convert=_same_noise,
        here=("BatchNoise",),
        renamed="seed_behavior fixed, random: `noise: same`, `noise: different`",
    ),
)
