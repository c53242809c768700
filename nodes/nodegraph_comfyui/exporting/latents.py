"""How the node types that make and change latents are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nodegraph_comfyui.exporting.graph import Export, Hidden, InexpressibleError, Latent, Write, method_name, renamed, sides


def _empty(node: Export) -> None:
    size = {"width": node["width"], "height": node["height"]}
    if any(side is None or side % 8 for side in size.values()):
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
        node.give(output=Latent(slot=[node.add("VAEEncode", pixels=node.slot("image"), vae=vae), 0]))


def _hide(node: Export) -> None:
    node.require(multiple=8)
    hidden = Hidden(image=node.slot("image"), mask=node.slot("mask"), grow=node["grow"])
    node.give(image=hidden, mask=hidden)


def _decode(node: Export) -> None:
    node.give(output=[node.add("VAEDecode", samples=node.slot("latent"), vae=node.slot("vae")), 0])


def _resize_latent(node: Export) -> None:
    inputs = {"samples": node.slot("latent"), "upscale_method": method_name(node)}
    if node["scale"] is not None:
        id = node.add("LatentUpscaleBy", **inputs, scale_by=node["scale"])
    else:
        id = node.add("LatentUpscale", **inputs, **sides(node))
    node.give(output=Latent(slot=[id, 0]))


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


LATENTS: Final[Mapping[str, Write]] = {
    "EmptyLatent": _empty,
    "VAEEncode": _encode,
    "VAEDecode": _decode,
    "HideMasked": _hide,
    "ResizeLatent": _resize_latent,
    "RepeatLatent": renamed("RepeatLatentBatch", {"latent": "samples"}, {"times": "amount"}, latent=True),
    "FromBatch": renamed("LatentFromBatch", {"latent": "samples"}, {"index": "batch_index", "count": "length"}, latent=True),
    "JoinLatents": _join,
    "BatchNoise": _noise_of_batch,
}
