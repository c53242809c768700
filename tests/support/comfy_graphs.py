"""ComfyUI graphs for tests, in both formats. What is known of the classes is written down here again, apart from the importer."""

from __future__ import annotations

import copy
import struct
import zlib
from typing import Any

ORDER: dict[str, list[str]] = {
    "CheckpointLoaderSimple": ["ckpt_name"],
    "CLIPTextEncode": ["text"],
    "EmptyLatentImage": ["width", "height", "batch_size"],
    "KSampler": ["seed", "*", "steps", "cfg", "sampler_name", "scheduler", "denoise"],
    "VAEDecode": [],
    "SaveImage": ["filename_prefix"],
    "LoraLoader": ["lora_name", "strength_model", "strength_clip"],
    "LoadImage": ["image", "*"],
    "PrimitiveInt": ["value", "*"],
}
"""The values of some classes in the order of the editor's lists; `*` is a value of the editor itself."""

OUTPUTS: dict[str, list[str]] = {
    "CheckpointLoaderSimple": ["MODEL", "CLIP", "VAE"],
    "CLIPTextEncode": ["CONDITIONING"],
    "EmptyLatentImage": ["LATENT"],
    "KSampler": ["LATENT"],
    "VAEDecode": ["IMAGE"],
    "SaveImage": [],
    "LoraLoader": ["MODEL", "CLIP"],
    "LoadImage": ["IMAGE", "MASK"],
    "PrimitiveInt": ["INT"],
}

Api = dict[str, dict[str, Any]]

BY_HAND = """
nodegraph: 1
nodes:
  model: {use: LoadModel, model: "builtin:tiny"}
  positive: {use: TextEncode, text_encoder: $model.text_encoder, text: a red house}
  negative: {use: TextEncode, text_encoder: $model.text_encoder, text: ""}
  latent: {use: EmptyLatent, vae: $model.vae, width: 64, height: 64}
  noise: {use: Noise, like: $latent, seed: 8, draw: sequential}
  denoiser: {use: UNetDenoise, unet: $model.unet, positive: $positive, negative: $negative, cfg: 3}
  sampled:
    use: Sampler
    denoiser: $denoiser
    latent: $latent
    noise: $noise
    sampler: euler
    schedule: normal
    steps: 2
    step_noise: comfyui
  image: {use: VAEDecode, vae: $model.vae, latent: $sampled}
outputs:
  image: {from: $image, save: x.png}
"""
"""The workflow that the graph of `txt2img` stands for, written by hand."""


def txt2img(**changes: Any) -> Api:
    """A graph that paints a small picture of two steps; `changes` are values of its sampler."""
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name="builtin:tiny"),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("CLIPTextEncode", text="a red house", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "3": node(
            "KSampler",
            **{"seed": 8, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, **changes},
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    }


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def as_editor(api: Api, *, version: float = 0.4, mapping: bool = False) -> dict[str, Any]:
    """The same graph as the editor saves it: `version` 1 has links as mappings; with `mapping`, values have their names."""
    links: list[Any] = []
    nodes = []
    for id, part in api.items():
        kind, inputs = part["class_type"], part["inputs"]
        slots: list[dict[str, Any]] = []
        for name, value in inputs.items():
            if isinstance(value, list):
                links.append([len(links) + 1, int(value[0]), value[1], int(id), len(slots), "*"])
                slots.append({"name": name, "type": _type(api, value), "link": len(links)})
                if name in ORDER[kind]:
                    slots[-1]["widget"] = {"name": name}
        values = [{"*": "randomize"}.get(name, _literal(inputs.get(name))) for name in ORDER[kind]]
        named = {name: inputs[name] for name in ORDER[kind] if name in inputs and not isinstance(inputs[name], list)}
        nodes.append(
            {
                "id": int(id),
                "type": kind,
                "mode": 0,
                "inputs": slots,
                "outputs": [{"name": type, "type": type} for type in OUTPUTS[kind]],
                "widgets_values": named if mapping else values,
            }
        )
    if version == 1:
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        links = [dict(zip(names, link, strict=True)) for link in links]
    return {"last_node_id": 99, "nodes": nodes, "links": links, "groups": [], "version": version}


def _type(api: Api, link: list[Any]) -> str:
    return OUTPUTS[api[link[0]]["class_type"]][link[1]]


def _literal(value: Any) -> Any:
    return None if isinstance(value, list) else value


def editor_node(graph: dict[str, Any], id: int) -> dict[str, Any]:
    """The node with this id."""
    return next(part for part in graph["nodes"] if part["id"] == id)


def changed(api: Api, id: str, **inputs: Any) -> Api:
    """A copy with other values of a node."""
    found = copy.deepcopy(api)
    found[id]["inputs"].update(inputs)
    return found


def picture(**texts: str) -> bytes:
    """A PNG file of one pixel with these texts inside."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
    chunks += [(b"tEXt", key.encode() + b"\0" + text.encode("latin-1")) for key, text in texts.items()]
    chunks += [(b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def with_subgraph(name="Sampling"):
    """The graph with its sampler and decoder in a subgraph."""
    graph = as_editor(txt2img())
    inside = [node for node in graph["nodes"] if node["id"] in (3, 8)]
    outside = [node for node in graph["nodes"] if node["id"] not in (3, 8)]
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    inner_links, outer_links, inputs = [], [], []
    for link in graph["links"]:
        source, target = link[1] in (3, 8), link[3] in (3, 8)
        if source and target:
            inner_links.append(dict(zip(names, link, strict=False)))
        elif target:
            slot = len(inputs)
            inputs.append({"name": f"in_{slot}", "type": "*", "link": link[0]})
            inner_links.append(dict(zip(names, [100 + slot, -10, slot, link[3], link[4]], strict=True)))
            next(node for node in inside if node["id"] == link[3])["inputs"][link[4]]["link"] = 100 + slot
            outer_links.append([link[0], link[1], link[2], 80, slot, "*"])
        elif source:
            inner_links.append(dict(zip(names, [200, link[1], link[2], -20, 0], strict=True)))
            outer_links.append([link[0], 80, 0, link[3], link[4], "*"])
        else:
            outer_links.append(link)
    ends = {"inputs": [{"name": slot["name"], "type": "*"} for slot in inputs], "outputs": [{"name": "image", "type": "IMAGE"}]}
    use = {"id": 80, "type": "uuid-1", "mode": 0, "inputs": inputs, "outputs": [{"name": "image", "type": "IMAGE"}]}
    graph["nodes"], graph["links"] = [*outside, use], outer_links
    graph["definitions"] = {"subgraphs": [{"id": "uuid-1", "name": name, "nodes": inside, "links": inner_links, **ends}]}
    return graph


def nested():
    """The same with that subgraph inside another one, called Outer."""
    graph = with_subgraph()
    (inner,) = graph["definitions"]["subgraphs"]
    use = editor_node(graph, 80)
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    slots = range(len(use["inputs"]))
    links = [dict(zip(names, [300 + slot, -10, slot, 80, slot], strict=True)) for slot in slots]
    links.append(dict(zip(names, [400, 80, 0, -20, 0], strict=True)))
    inside = {**use, "inputs": [{**use["inputs"][slot], "link": 300 + slot} for slot in slots]}
    ends = {"inputs": inner["inputs"], "outputs": inner["outputs"]}
    graph["definitions"]["subgraphs"].append({"id": "uuid-2", "name": "Outer", "nodes": [inside], "links": links, **ends})
    use |= {"id": 90, "type": "uuid-2"}
    for link in graph["links"]:
        link[1:4:2] = [90 if end == 80 else end for end in link[1:4:2]]
    return graph
