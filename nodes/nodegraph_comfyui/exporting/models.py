"""How the node types that open models, and that change UNets, are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nodegraph_comfyui.exporting.graph import Export, InexpressibleError, Write, with_guide


def _model(node: Export) -> None:
    node.require(kind="auto")
    id = node.add("CheckpointLoaderSimple", ckpt_name=file_name(node, "model"))
    model = [id, 0]
    if node["prediction"] != "auto" or node["zero_snr"] is not None:
        sampling = {"auto": "eps", "eps": "eps", "v": "v_prediction"}[node["prediction"]]
        model = [node.add("ModelSamplingDiscrete", model=model, sampling=sampling, zsnr=bool(node["zero_snr"])), 0]
    node.give(unet=model, text_encoder=[id, 1], vae=[id, 2])


def file_name(node: Export, name: str) -> str:
    """The name of a file. Raises InexpressibleError for a path that is not in one of ComfyUI's folders."""
    text = str(node[name])
    if text.startswith(("/", "~", "hf://", "../")) or ":\\" in text:
        raise InexpressibleError(f"'{name}' is {text}; ComfyUI knows files by their names in its folders")
    return text


def _vae(node: Export) -> None:
    if node.inputs.get("like") is not None or node["scaling"] is not None:
        node.note("ComfyUI takes the scale of the latents from the model, not from 'like' or 'scaling'")
    node.give(output=[node.add("VAELoader", vae_name=file_name(node, "vae")), 0])


def _unet(node: Export) -> None:
    node.require(prediction="auto", zero_snr=None)
    node.give(output=[node.add("UNETLoader", unet_name=file_name(node, "unet"), weight_dtype="default"), 0])


def _text_encoder(node: Export) -> None:
    first = file_name(node, "text_encoder")
    if node["text_encoder_2"] is not None:
        id = node.add(
            "DualCLIPLoader", clip_name1=first, clip_name2=file_name(node, "text_encoder_2"), type="sdxl", device="default"
        )
    else:
        kind = {"auto": "stable_diffusion", "sdxl": "sdxl"}.get(node["kind"])
        if kind is None:
            raise InexpressibleError(f"'kind' is {node['kind']}, which ComfyUI's CLIPLoader does not have")
        id = node.add("CLIPLoader", clip_name=first, type=kind, device="default")
    node.give(output=[id, 0])


def _embedding(node: Export) -> None:
    if file_name(node, "file") != node["word"].replace("\\", "/"):
        raise InexpressibleError("'word' is not the name of the file; in ComfyUI it is")
    node.give(output=node.slot("text_encoder"))


def _control_net(node: Export) -> None:
    node.require(global_pool=None)
    if node.inputs.get("unet") is not None:
        id = node.add("DiffControlNetLoader", model=node.unet().model, control_net_name=file_name(node, "file"))
    else:
        id = node.add("ControlNetLoader", control_net_name=file_name(node, "file"))
    node.give(output=[id, 0])


def _apply_control_net(node: Export) -> None:
    added = {"control_net": node.slot("control_net"), "image": node.slot("image"), "strength": node["strength"]}
    added |= {"start_percent": node["start"], "end_percent": node["end"]}
    node.give(output=with_guide(node.unet(), "ControlNetApplyAdvanced", added))


def _apply_inpaint(node: Export) -> None:
    picture = {there: node.slot(here) for here, there in (("vae", "vae"), ("image", "pixels"), ("mask", "mask"))}
    node.give(output=with_guide(node.unet(), "InpaintModelConditioning", picture | {"noise_mask": False}))


def _apply_pix2pix(node: Export) -> None:
    source = node.latent().source
    if source is None:
        raise InexpressibleError("'latent' is not one that VAEEncode made with 'fit: crop'")
    node.give(output=with_guide(node.unet(), "InstructPixToPixConditioning", {"vae": source[0], "pixels": source[1]}))


def _apply_gligen(node: Export) -> None:
    node.require(unit="pixels")
    place = {name: int(node[name]) for name in ("width", "height", "x", "y")}
    links = {"clip": node.slot("text_encoder"), "gligen_textbox_model": node.slot("gligen")}
    node.give(output=with_guide(node.unet(), "GLIGENTextBoxApply", {**links, "text": node["text"], **place}))


MODELS: Final[Mapping[str, Write]] = {
    "LoadModel": _model,
    "LoadVAE": _vae,
    "LoadUNet": _unet,
    "LoadTextEncoder": _text_encoder,
    "LoadEmbedding": _embedding,
    "LoadControlNet": _control_net,
    "ApplyControlNet": _apply_control_net,
    "ApplyInpaint": _apply_inpaint,
    "ApplyPix2Pix": _apply_pix2pix,
    "ApplyGligen": _apply_gligen,
}
