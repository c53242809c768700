"""How each of our node types is written, except those of sampling."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from nodegraph_comfyui.exporting.graph import Export, Hidden, InexpressibleError, Latent, with_model
from nodegraph_comfyui.exporting.sampling import SAMPLING

_METHODS: Final = {"nearest": "nearest-exact"}


def _model(node: Export) -> None:
    node.require(kind="auto")
    id = node.add("CheckpointLoaderSimple", ckpt_name=_file(node, "model"))
    model = [id, 0]
    if node["prediction"] != "auto" or node["zero_snr"] is not None:
        sampling = {"auto": "eps", "eps": "eps", "v": "v_prediction"}[node["prediction"]]
        model = [node.add("ModelSamplingDiscrete", model=model, sampling=sampling, zsnr=bool(node["zero_snr"])), 0]
    node.give(unet=model, text_encoder=[id, 1], vae=[id, 2])


def _file(node: Export, name: str) -> str:
    text = str(node[name])
    if text.startswith(("/", "~", "hf://", "../")) or ":\\" in text:
        raise InexpressibleError(f"'{name}' is {text}; ComfyUI knows files by their names in its folders")
    return text


def _vae(node: Export) -> None:
    if node.inputs.get("like") is not None or node["scaling"] is not None:
        node.note("ComfyUI takes the scale of the latents from the model, not from 'like' or 'scaling'")
    node.give(output=[node.add("VAELoader", vae_name=_file(node, "vae")), 0])


def _unet(node: Export) -> None:
    node.require(prediction="auto", zero_snr=None)
    node.give(output=[node.add("UNETLoader", unet_name=_file(node, "unet"), weight_dtype="default"), 0])


def _text_encoder(node: Export) -> None:
    first = _file(node, "text_encoder")
    if node["text_encoder_2"] is not None:
        id = node.add("DualCLIPLoader", clip_name1=first, clip_name2=_file(node, "text_encoder_2"), type="sdxl", device="default")
    else:
        kind = {"auto": "stable_diffusion", "sdxl": "sdxl"}.get(node["kind"])
        if kind is None:
            raise InexpressibleError(f"'kind' is {node['kind']}, which ComfyUI's CLIPLoader does not have")
        id = node.add("CLIPLoader", clip_name=first, type=kind, device="default")
    node.give(output=[id, 0])


def _lora(node: Export) -> None:
    unet = node.unet()
    strengths = {"strength_model": node["strength_unet"], "strength_clip": node["strength_text"]}
    id = node.add("LoraLoader", model=unet.model, clip=node.slot("text_encoder"), lora_name=_file(node, "file"), **strengths)
    node.give(unet=with_model(unet, [id, 0]), text_encoder=[id, 1])


def _embedding(node: Export) -> None:
    if _file(node, "file") != node["word"]:
        raise InexpressibleError("'word' is not the name of the file; in ComfyUI it is")
    node.give(output=node.slot("text_encoder"))


def _control_net(node: Export) -> None:
    node.require(global_pool=None)
    if node.inputs.get("unet") is not None:
        id = node.add("DiffControlNetLoader", model=node.unet().model, control_net_name=_file(node, "file"))
    else:
        id = node.add("ControlNetLoader", control_net_name=_file(node, "file"))
    node.give(output=[id, 0])


def _apply_control_net(node: Export) -> None:
    unet = node.unet()
    added = {"control_net": node.slot("control_net"), "image": node.slot("image"), "strength": node["strength"]}
    added |= {"start_percent": node["start"], "end_percent": node["end"]}
    node.give(output=dataclasses.replace(unet, controls=(*unet.controls, added)))


def _apply_inpaint(node: Export) -> None:
    picture = {name: node.slot(name) for name in ("vae", "image", "mask")}
    node.give(output=dataclasses.replace(node.unet(), inpaint=picture))


def _text(node: Export) -> None:
    node.require(syntax="comfyui", text_2=None)
    clip = node.slot("text_encoder")
    if node["clip_skip"] is not None:
        clip = [node.add("CLIPSetLastLayer", f"{node.name} layer", clip=clip, stop_at_clip_layer=-node["clip_skip"]), 0]
    node.give(output=[node.add("CLIPTextEncode", text=node["text"], clip=clip), 0])


def _area(node: Export) -> None:
    kind = "ConditioningSetArea" if node["unit"] == "pixels" else "ConditioningSetAreaPercentage"
    numbers = {name: int(node[name]) if node["unit"] == "pixels" else node[name] for name in ("width", "height", "x", "y")}
    node.give(output=[node.add(kind, conditioning=node.slot("conditioning"), **numbers, strength=node["strength"]), 0])


def _masked(node: Export) -> None:
    bounds = "mask bounds" if node["mask_bounds"] else "default"
    links = {"conditioning": node.slot("conditioning"), "mask": node.slot("mask")}
    node.give(output=[node.add("ConditioningSetMask", **links, strength=node["strength"], set_cond_area=bounds), 0])


def _empty(node: Export) -> None:
    sides = {"width": node["width"], "height": node["height"]}
    if any(side is None or side % 8 for side in sides.values()):
        raise InexpressibleError("'width' and 'height' must be multiples of 8 in ComfyUI")
    node.give(output=Latent(slot=[node.add("EmptyLatentImage", **sides, batch_size=node["batch"]), 0]))


def _encode(node: Export) -> None:
    node.require(sample=False)
    if node["fit"] == "pad":
        node.note("ComfyUI crops pictures whose sides are not multiples of 8, as 'fit: crop' does")
    image, vae = node.linked("image"), node.slot("vae")
    if isinstance(image, Hidden):
        inputs = {"pixels": image.image, "vae": vae, "mask": image.mask, "grow_mask_by": image.grow}
        node.give(output=Latent(slot=[node.add("VAEEncodeForInpaint", **inputs), 0], mask=image))
    else:
        node.give(output=Latent(slot=[node.add("VAEEncode", pixels=node.slot("image"), vae=vae), 0]))


def _hide(node: Export) -> None:
    node.require(multiple=8)
    hidden = Hidden(image=node.slot("image"), mask=node.slot("mask"), grow=node["grow"])
    node.give(image=hidden, mask=hidden)


def _decode(node: Export) -> None:
    node.give(output=[node.add("VAEDecode", samples=node.slot("latent"), vae=node.slot("vae")), 0])


def _resize_latent(node: Export) -> None:
    inputs = {"samples": node.slot("latent"), "upscale_method": _METHODS.get(node["method"], node["method"])}
    if node["scale"] is not None:
        id = node.add("LatentUpscaleBy", **inputs, scale_by=node["scale"])
    else:
        id = node.add("LatentUpscale", **inputs, **_sides(node))
    node.give(output=Latent(slot=[id, 0]))


def _sides(node: Export) -> dict[str, Any]:
    sides = {name: node[name] or 0 for name in ("width", "height")}
    return {**sides, "crop": "center" if node["crop"] else "disabled"}


def _resize(node: Export) -> None:
    method = node["method"]
    if method in ("bilinear", "bicubic") and node["antialias"]:
        node.note("ComfyUI resizes as 'antialias: false' does")
    inputs = {"image": node.slot("image"), "upscale_method": _METHODS.get(method, method)}
    if node["megapixels"] is not None:
        id = node.add("ImageScaleToTotalPixels", **inputs, megapixels=node["megapixels"])
    elif node["scale"] is not None:
        id = node.add("ImageScaleBy", **inputs, scale_by=node["scale"])
    else:
        id = node.add("ImageScale", **inputs, **_sides(node))
    node.give(output=[id, 0])


def _load_image(node: Export) -> None:
    id = node.add("LoadImage", image=_file(node, "path").removeprefix("input/"))
    node.give(image=[id, 0], mask=[id, 1])


def _mask(node: Export) -> None:
    node.require(grow=0, blur=0)
    if node.inputs.get("path") is not None:
        channel = node["channel"]
        if channel == "luminance":
            raise InexpressibleError("'channel' is luminance; ComfyUI reads alpha, red, green or blue")
        found = [node.add("LoadImageMask", image=_file(node, "path").removeprefix("input/"), channel=channel), 0]
    elif node.inputs.get("image") is not None:
        if node["channel"] == "luminance":
            raise InexpressibleError("'channel' is luminance; ComfyUI reads red, green or blue")
        found = [node.add("ImageToMask", image=node.slot("image"), channel=node["channel"]), 0]
    else:
        found = node.slot("mask")
    if node["invert"]:
        found = [node.add("InvertMask", mask=found), 0]
    if node["threshold"] is not None:
        found = [node.add("ThresholdMask", mask=found, value=node["threshold"]), 0]
    node.give(output=found)


def _pad(node: Export) -> None:
    margins = {name: node[name] for name in ("left", "top", "right", "bottom")}
    id = node.add("ImagePadForOutpaint", image=node.slot("image"), **margins, feathering=node["feather"])
    node.give(image=[id, 0], mask=[id, 1])


def _join(node: Export) -> None:
    links = node.inputs["latents"]
    found = [node.written.values.get((link.node, link.port)) for link in links]
    if len(links) != 2 or not all(isinstance(latent, Latent) for latent in found):
        raise InexpressibleError("'latents' must be two latents in ComfyUI")
    first, second = (latent.slot for latent in found if isinstance(latent, Latent))
    node.give(output=Latent(slot=[node.add("LatentBatch", samples1=first, samples2=second), 0]))


def _noise_of_batch(node: Export) -> None:
    behaviour = {"same": "fixed", "different": "random"}[node["noise"]]
    id = node.add("LatentBatchSeedBehavior", samples=node.slot("latent"), seed_behavior=behaviour)
    node.give(output=Latent(slot=[id, 0]))


def _renamed(kind: str, links: Mapping[str, str], numbers: Mapping[str, str] | None = None, *, latent: bool = False) -> Write:
    """How a node is written that is one node there, too: the names of its links and values here and there."""

    def write(node: Export) -> None:
        inputs = {there: node.slot(here) for here, there in links.items() if node.inputs.get(here) is not None}
        slot = [node.add(kind, **inputs, **{there: node[here] for here, there in (numbers or {}).items()}), 0]
        node.give(output=Latent(slot=slot) if latent else slot)

    return write


Write = Callable[[Export], None]

_SAME: Final = {name: name for name in ("conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from")}
_CONDITIONING: Final = {"conditioning": "conditioning"}

WRITE: Final[Mapping[str, Write]] = {
    "LoadModel": _model,
    "LoadVAE": _vae,
    "LoadUNet": _unet,
    "LoadTextEncoder": _text_encoder,
    "LoadLora": _lora,
    "LoadEmbedding": _embedding,
    "LoadControlNet": _control_net,
    "ApplyControlNet": _apply_control_net,
    "ApplyInpaint": _apply_inpaint,
    "TextEncode": _text,
    "CombineConditioning": _renamed("ConditioningCombine", _SAME),
    "ConcatConditioning": _renamed("ConditioningConcat", _SAME),
    "AverageConditioning": _renamed("ConditioningAverage", _SAME, {"conditioning_to_strength": "conditioning_to_strength"}),
    "SetArea": _area,
    "SetMask": _masked,
    "SetRange": _renamed("ConditioningSetTimestepRange", _CONDITIONING, {"start": "start", "end": "end"}),
    "ZeroOut": _renamed("ConditioningZeroOut", _CONDITIONING),
    "EmptyLatent": _empty,
    "VAEEncode": _encode,
    "VAEDecode": _decode,
    "HideMasked": _hide,
    "ResizeLatent": _resize_latent,
    "RepeatLatent": _renamed("RepeatLatentBatch", {"latent": "samples"}, {"times": "amount"}, latent=True),
    "FromBatch": _renamed("LatentFromBatch", {"latent": "samples"}, {"index": "batch_index", "count": "length"}, latent=True),
    "JoinLatents": _join,
    "BatchNoise": _noise_of_batch,
    "LoadImage": _load_image,
    "Mask": _mask,
    "Pad": _pad,
    "Resize": _resize,
    "Canny": _renamed("Canny", {"image": "image"}, {"low": "low_threshold", "high": "high_threshold"}),
    "RepeatImage": _renamed("RepeatImageBatch", {"image": "image"}, {"times": "amount"}),
    "ImageFromBatch": _renamed("ImageFromBatch", {"image": "image"}, {"index": "batch_index", "count": "length"}),
    **SAMPLING,
}
"""How each node type is written; those that are not here have no counterpart."""
