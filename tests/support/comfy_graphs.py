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
}

Api = dict[str, dict[str, Any]]


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
