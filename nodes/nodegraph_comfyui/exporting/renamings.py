"""How the node types are written that are one node in ComfyUI, too, under other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nodegraph_comfyui.classes.node_class import ClassInput, NodeClass, Renaming
from nodegraph_comfyui.classes.table import TABLE
from nodegraph_comfyui.exporting.graph import Export, InexpressibleError, Latent, Write, with_model
from nodegraph_comfyui.exporting.models import file_name


def _write(found: NodeClass, renaming: Renaming) -> Write:
    ports = [port for port in found.known.values() if port.here]
    model = next((port.here for port in ports if port.kind == "MODEL"), "")
    latent = next((port.here for port in ports if port.kind == "LATENT"), "")

    def write(node: Export) -> None:
        node.require(**renaming.always)
        inputs = {port.name: _input(node, port, renaming) for port in ports if not _is_missing(node, port)}
        id = node.add(found.name, **inputs)
        for number, (port, kind) in enumerate(renaming.outputs):
            slot: Any = [id, number]
            if kind == "LATENT":
                slot = Latent(slot=slot, mask=node.latent(latent).mask if latent else None)
            node.give(**{port or "output": with_model(node.unet(model), slot) if kind == "MODEL" and model else slot})

    return write


def _is_missing(node: Export, port: ClassInput) -> bool:
    return not port.is_value and node.inputs.get(port.here) is None


def _input(node: Export, port: ClassInput, renaming: Renaming) -> Any:
    if port.folder:
        return file_name(node, port.here).removeprefix("input/")
    if port.kind == "MODEL":
        return node.unet(port.here).model
    if not port.is_value:
        return node.slot(port.here)
    value = node[port.here]
    if port.name not in renaming.values:
        return value
    theirs = {ours: name for name, ours in renaming.values[port.name].items()}
    if value not in theirs:
        raise InexpressibleError(f"'{port.here}' is {value!r}; ComfyUI has {', '.join(map(str, theirs))}")
    return theirs[value]


RENAMINGS: Final[Mapping[str, Write]] = {
    found.renaming.type: _write(found, found.renaming) for found in reversed([*TABLE.values()]) if found.renaming is not None
}
"""The node types by the first class of the table that is each of them."""
