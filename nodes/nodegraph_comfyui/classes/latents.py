"""Classes that make and change latents."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Latents
from nodegraph_comfyui.classes.images import input_file, save_name
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.renaming import renamed

_METHODS: Final = {name: name for name in ("bilinear", "area", "bicubic", "bislerp")} | {"nearest-exact": "nearest"}


def _empty(call: Call) -> Latents:
    vae = call.converted.vaes.get(call.node.id)
    if vae is None:
        raise RefusedError("an empty latent needs a VAE here, and the graph has none. Add a loader of one in ComfyUI")
    batch = call.setting("batch_size", "batch") if call.literal("batch_size") != 1 else None
    link = call.add("EmptyLatent", "latent", vae=vae, width=call.setting("width"), height=call.setting("height"), batch=batch)
    return Latents(link=link)


def _load(call: Call) -> Latents:
    vae = call.converted.vaes.get(call.node.id)
    return Latents(link=call.add("LoadLatent", "latent", path=input_file(call, "latent"), vae=vae))


def _save(call: Call) -> None:
    call.output("latent", call.get("samples", Latents).link, f"{save_name(call.literal('filename_prefix'))}.latent")


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


def _resized(call: Call, **size: Any) -> Latents:
    latents = call.get("samples", Latents)
    method = call.choice("upscale_method", _METHODS)
    return dataclasses.replace(latents, link=call.add("ResizeLatent", "resized", latent=latents.link, method=method, **size))


def _rebatch(call: Call) -> Latents:
    """A list of batches: the nodes below run once for each."""
    latents = call.get("latents", Latents)
    link = latents.link if call.converted.steps.is_list(latents.link) else [latents.link]
    return dataclasses.replace(latents, link=call.add_list("Rebatch", "rebatched", latents=link, count=call["batch_size"]))


def _join(call: Call) -> Latents:
    first, second = call.get("samples1", Latents), call.get("samples2", Latents)
    return dataclasses.replace(first, link=call.add("JoinLatents", "joined", latents=[first.link, second.link]))


_TILES: Final = "tile_size:INT=512>- overlap:INT=64>- temporal_size:INT=64>- temporal_overlap:INT=8>-"

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
    renamed(
        "VAEDecode",
        "VAE Decode",
        "samples:LATENT>latent vae:VAE",
        "VAEDecode image IMAGE",
        differs="sides that are not multiples of 8 are padded, not cropped",
    ),
    renamed(
        "VAEEncode",
        "VAE Encode",
        "pixels:IMAGE>image vae:VAE",
        "VAEEncode encoded LATENT",
        always={"fit": "crop"},
        differs="sides that are not multiples of 8 are padded; `fit: crop` crops them, as ComfyUI does",
    ),
    renamed(
        "VAEDecodeTiled",
        "VAE Decode (Tiled)",
        f"samples:LATENT>latent vae:VAE {_TILES}",
        "VAEDecode image IMAGE",
        note="the picture is decoded in one piece, not in tiles",
        differs="decodes in one piece",
    ),
    renamed(
        "VAEEncodeTiled",
        "VAE Encode (Tiled)",
        f"pixels:IMAGE>image vae:VAE {_TILES}",
        "VAEEncode encoded LATENT",
        always={"fit": "crop"},
        note="the picture is encoded in one piece, not in tiles",
        differs="encodes in one piece",
    ),
    NodeClass(
        name="LoadLatent",
        title="Load Latent",
        inputs="latent:COMBO",
        outputs=("LATENT",),
        convert=_load,
        here=("LoadLatent",),
        renamed="latent: `path`",
        differs="needs the VAE, and knows the scale of the latent from it",
    ),
    NodeClass(
        name="SaveLatent",
        title="Save Latent",
        inputs="samples:LATENT filename_prefix:STRING=latents/ComfyUI",
        convert=_save,
        renamed="`outputs:` of the workflow",
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
    renamed(
        "LatentUpscaleBy",
        "Upscale Latent By",
        "samples:LATENT>latent upscale_method:COMBO=nearest-exact>method scale_by:FLOAT=1.5>scale",
        "ResizeLatent resized LATENT",
        values={"upscale_method": _METHODS},
    ),
    renamed(
        "LatentComposite",
        "Latent Composite",
        "samples_to:LATENT>original samples_from:LATENT>latent x:INT=0 y:INT=0 feather:INT=0",
        "CompositeLatent composite LATENT",
        differs="x and y inside the original",
    ),
    renamed(
        "LatentCompositeMasked",
        "LatentCompositeMasked",
        "destination:LATENT>original source:LATENT>latent x:INT=0 y:INT=0 resize_source:BOOLEAN=false>stretch mask:MASK?",
        "CompositeLatent composite LATENT",
        differs="x and y inside the original",
    ),
    renamed(
        "LatentFlip",
        "Flip Latent",
        "samples:LATENT>latent flip_method:COMBO>direction",
        "FlipLatent flipped LATENT",
        values={"flip_method": {"x-axis: vertically": "up_down", "y-axis: horizontally": "left_right"}},
    ),
    renamed(
        "LatentRotate",
        "Rotate Latent",
        "samples:LATENT>latent rotation:COMBO=none>turns",
        "RotateLatent turned LATENT",
        values={"rotation": {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}},
    ),
    renamed(
        "LatentCrop",
        "Crop Latent",
        "samples:LATENT>latent width:INT=512 height:INT=512 x:INT=0 y:INT=0",
        "CropLatent part LATENT",
    ),
    renamed("LatentAdd", "LatentAdd", "samples1:LATENT>latent samples2:LATENT>other", "AddLatents sum LATENT"),
    renamed(
        "LatentSubtract", "LatentSubtract", "samples1:LATENT>latent samples2:LATENT>other", "SubtractLatents difference LATENT"
    ),
    renamed(
        "LatentMultiply", "LatentMultiply", "samples:LATENT>latent multiplier:FLOAT=1.0>factor", "MultiplyLatent multiplied LATENT"
    ),
    renamed(
        "LatentBlend",
        "Latent Blend",
        "samples1:LATENT>latent samples2:LATENT>other blend_factor:FLOAT=0.5>share",
        "BlendLatents blended LATENT",
    ),
    renamed(
        "LatentInterpolate",
        "LatentInterpolate",
        "samples1:LATENT>latent samples2:LATENT>other ratio:FLOAT=1.0>share",
        "InterpolateLatents between LATENT",
        differs="batches, too: ComfyUI has single latents",
    ),
    renamed("RepeatLatentBatch", "Repeat Latent Batch", "samples:LATENT>latent amount:INT=1>times", "RepeatLatent repeated LATENT"),
    renamed(
        "LatentFromBatch",
        "Latent From Batch",
        "samples:LATENT>latent batch_index:INT=0>index length:INT=1>count",
        "FromBatch taken LATENT",
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
        name="RebatchLatents",
        title="Rebatch Latents",
        inputs="latents:LATENT batch_size:INT=1",
        outputs=("LATENT",),
        convert=_rebatch,
        here=("Rebatch",),
        renamed="batch_size: `count`",
        differs="the nodes below have `each`. A mask is not divided: give a single one",
    ),
    renamed(
        "LatentBatchSeedBehavior",
        "LatentBatchSeedBehavior",
        "samples:LATENT>latent seed_behavior:COMBO=fixed>noise",
        "BatchNoise batch LATENT",
        values={"seed_behavior": {"fixed": "same", "random": "different"}},
    ),
)
