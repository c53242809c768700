"""Classes that hold a value, or compute one from others."""

from __future__ import annotations

from typing import Any, Final

from nodegraph_comfyui.building.call import Call
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.reading.graph import Shared


def _value(call: Call) -> Any:
    value = call["value"]
    return Shared(value, call.node.id, call.title) if not hasattr(value, "owner") else value


def _joined(call: Call) -> str:
    return str(call.literal("delimiter")).join(str(call.literal(name)) for name in ("string_a", "string_b"))


def _primitive(kind: str, title: str, type: str) -> NodeClass:
    return NodeClass(
        name=kind,
        title=title,
        inputs=f"value:{type}",
        outputs=(type.rstrip("!"),),
        convert=_value,
        renamed="`params:`",
    )


CLASSES: Final = (
    _primitive("PrimitiveInt", "Int", "INT!"),
    _primitive("PrimitiveFloat", "Float", "FLOAT"),
    _primitive("PrimitiveString", "String", "STRING"),
    _primitive("PrimitiveStringMultiline", "String (Multiline)", "STRING"),
    _primitive("PrimitiveBoolean", "Boolean", "BOOLEAN"),
    NodeClass(
        name="StringConcatenate",
        title="Concatenate",
        inputs="string_a:STRING= string_b:STRING= delimiter:STRING=",
        outputs=("STRING",),
        convert=_joined,
        renamed="the text that results",
    ),
)
