"""Classes that are one node here, under other names: each is a line of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Clip, Cond, Latents, Model, Value
from nodegraph_comfyui.classes.node_class import ClassInput, NodeClass, Renaming, read_inputs

_CARRIERS: Final[Mapping[str, tuple[type, str]]] = {
    "CLIP": (Clip, "encoder"),
    "CONDITIONING": (Cond, "link"),
    "LATENT": (Latents, "link"),
    "MODEL": (Model, "unet"),
}
"""The types that carry more than one link here, and which of them our nodes take."""


def renamed(
    name: str,
    title: str,
    inputs: str,
    here: str,
    *,
    values: Mapping[str, Mapping[str, Any]] | None = None,
    always: Mapping[str, Any] | None = None,
    note: str = "",
    differs: str = "",
    is_loader: bool = False,
) -> NodeClass:
    """A class that is one node here.

    `inputs` is written as in NodeClass. `here` is our node type, the name that the node gets, and the kind of its output, or
    `port:KIND` for each of several: "FromBatch taken LATENT".
    """
    type, called, *outputs = here.split()
    ports = tuple((port or None, kind) for port, _, kind in (output.rpartition(":") for output in outputs))
    renaming = Renaming(type=type, name=called, outputs=ports, values=values or {}, always=always or {}, note=note)
    known = read_inputs(inputs)
    return NodeClass(
        name=name,
        title=title,
        inputs=inputs,
        outputs=tuple(kind for _, kind in ports),
        convert=partial(_convert, renaming=renaming, known=known),
        here=(type,),
        renamed="; ".join(_explained(known.values())),
        differs=differs,
        is_loader=is_loader,
        renaming=renaming,
    )


def _convert(call: Call, renaming: Renaming, known: Mapping[str, ClassInput]) -> Any:
    inputs = {port.here: _input(call, port, renaming) for port in known.values() if port.here}
    if renaming.note:
        call.note(renaming.note)
    made = call.add(renaming.type, renaming.name, **inputs, **renaming.always)
    results = tuple(_output(call, known, kind, Ref(made.step, port)) for port, kind in renaming.outputs)
    return results if len(results) > 1 else results[0]


def _input(call: Call, port: ClassInput, renaming: Renaming) -> Any:
    if port.folder:
        return call.file(port.name, port.folder, renaming.name)
    if port.is_value:
        meanings = renaming.values.get(port.name)
        return call[port.name] if meanings is None else call.choice(port.name, meanings)
    if port.optional and not call.has(port.name):
        return None
    if port.kind not in _CARRIERS:
        return call.link(port.name)
    kind, part = _CARRIERS[port.kind]
    return getattr(call.get(port.name, kind), part)


def _output(call: Call, known: Mapping[str, ClassInput], kind: str, link: Ref) -> Any:
    """An output, with everything that the first input of its kind carries. A model is no longer as its loader made it."""
    if kind not in _CARRIERS:
        return Value(kind, link)
    carrier, part = _CARRIERS[kind]
    sources: list[Any] = [call.get(port.name, carrier) for port in known.values() if port.kind == kind]
    if carrier is Cond and any(source.guides != sources[0].guides for source in sources):
        raise RefusedError(
            "one of its prompts has a ControlNet, a picture or a box that the other one does not have. Here they apply to the "
            "UNet, and so to all prompts: apply them after this node in ComfyUI"
        )
    changes = {part: link, "loader": None} if carrier is Model else {part: link}
    return dataclasses.replace(sources[0], **changes) if sources else carrier(**{part: link})


def _explained(ports: Iterable[ClassInput]) -> Iterator[str]:
    """What the inputs are called here; several whose names are the same, together."""
    same: list[str] = []
    for port in (port for port in ports if port.here):
        if port.here == port.name:
            same.append(f"`{port.name}`")
            continue
        if same:
            yield ", ".join(same)
            same = []
        yield f"{port.name}: `{port.here}`"
    if same:
        yield ", ".join(same)
