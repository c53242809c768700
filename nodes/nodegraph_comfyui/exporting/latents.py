"""How the node types that make and change latents are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nodegraph_comfyui.exporting.graph import Export, Hidden, InexpressibleError, Latent, Write, Zeros, method_name, sides
from nodegraph_comfyui.exporting.models import file_name


def _empty(node: Export) -> None:
    if node.inputs.get("like") is not None:
        source = node.latent("like").source
        if source is None:
            raise InexpressibleError("'like' is not a latent that VAEEncode made with 'fit: crop'")
        node.give(output=Zeros(source))
        return
    size = {"width": node["width"], "height": node["height"]}
    if None in size.values():
        raise InexpressibleError("ComfyUI knows no native size of a model: give 'width' and 'height'")
    if any(side % 8 for side in size.values()):
        raise InexpressibleError("'width' and 'height' must be multiples of 8 in ComfyUI")
    node.give(output=Latent(slot=[node.add("EmptyLatentImage", **size, batch_size=node["batch"]), 0]))


def _encode(node: Export) -> None:
    node.require(sample=False)
    if node["fit"] == "pad":
        node.note("ComfyUI crops pictures whose sides are not multiples of 8, as 'fit: crop' does")
    image, vae = node.linked("image"), node.slot("vae")
    if isinstance(image, Hidden):
        inputs = {"pixels": image.image, "vae": vae, "mask": image.mask, "grow_mask_by": image.grow}
        node.give(output=Latent(slot=[node.add("VAEEncodeForInpaint", **inputs), 0], mask=image))
    else:
        pixels = node.slot("image")
        source = (vae, pixels) if node["fit"] == "crop" else None
        node.give(output=Latent(slot=[node.add("VAEEncode", pixels=pixels, vae=vae), 0], source=source))


def _hide(node: Export) -> None:
    node.require(multiple=8)
    hidden = Hidden(image=node.slot("image"), mask=node.slot("mask"), grow=node["grow"])
    node.give(image=hidden, mask=hidden)


def _resize(node: Export) -> None:
    latent = node.latent()
    inputs = {"samples": latent.slot, "upscale_method": method_name(node)}
    if node["scale"] is not None:
        node.give_latent("LatentUpscaleBy", latent, **inputs, scale_by=node["scale"])
    else:
        node.give_latent("LatentUpscale", latent, **inputs, **sides(node))


def _composite(node: Export) -> None:
    below, above = node.latent("original"), node.latent()
    place = {name: node[name] for name in ("x", "y")}
    if node.inputs.get("mask") is None and not node["stretch"]:
        inputs = {"samples_to": below.slot, "samples_from": above.slot, **place, "feather": node["feather"]}
        node.give_latent("LatentComposite", below, **inputs)
        return
    node.require(feather=0)
    inputs = {"destination": below.slot, "source": above.slot, **place, "resize_source": node["stretch"]}
    if node.inputs.get("mask") is not None:
        inputs["mask"] = node.slot("mask")
    node.give_latent("LatentCompositeMasked", below, **inputs)


def _join(node: Export) -> None:
    links = node.inputs["latents"]
    found = [node.written.values.get((link.node, link.port)) for link in links]
    latents = [latent for latent in found if isinstance(latent, Latent)]
    if len(links) != 2 or len(latents) != 2:
        raise InexpressibleError("'latents' must be two latents in ComfyUI")
    node.give_latent("LatentBatch", latents[0], samples1=latents[0].slot, samples2=latents[1].slot)


def _load(node: Export) -> None:
    name = file_name(node, "path").removeprefix("input/")
    if not name.endswith(".latent"):
        raise InexpressibleError(f"'path' is {name}; ComfyUI reads '.latent' files")
    node.give(output=Latent(slot=[node.add("LoadLatent", latent=name), 0]))


LATENTS: Final[Mapping[str, Write]] = {
    "EmptyLatent": _empty,
    "LoadLatent": _load,
    "VAEEncode": _encode,
    "HideMasked": _hide,
    "ResizeLatent": _resize,
    "CompositeLatent": _composite,
    "JoinLatents": _join,
}
