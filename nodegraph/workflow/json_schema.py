"""A JSON Schema (draft-07) of workflow files with everything that is installed, for editors that complete and check YAML."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Final

from nodegraph.node_types.signature import option_ports
from nodegraph.node_types.spec import NodeSpec, Port
from nodegraph.plugins.manager import Plugins
from nodegraph.workflow.definitions import NAME, PARAM_TYPES
from nodegraph.workflow.document import FORMAT

Schema = dict[str, Any]

_LINK: Final[Schema] = {"$ref": "#/definitions/link"}
_WHOLE_NAME: Final = f"^{NAME.pattern}$"
_PLAIN: Final = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def workflow_schema(plugins: Plugins) -> Schema:
    """The schema of a workflow file, its node types those of `plugins`."""
    nodes = [entry.value for entry in plugins.nodes.entries()]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "nodegraph workflow",
        "type": "object",
        "required": ["nodegraph", "nodes"],
        "additionalProperties": False,
        "properties": {
            "nodegraph": {"const": FORMAT, "description": "The format of the file."},
            "name": {"type": "string", "description": "What {workflow} stands for; without it, the file's name."},
            "description": {"type": "string"},
            "params": {"type": "object", "propertyNames": {"pattern": _WHOLE_NAME}, "additionalProperties": _param()},
            "nodes": {
                "type": "object",
                "propertyNames": {"pattern": _WHOLE_NAME},
                "additionalProperties": {
                    "type": "object",
                    "required": ["use"],
                    "properties": {"use": {"enum": [spec.name for spec in nodes]}},
                    "allOf": [_node(spec, plugins) for spec in nodes],
                },
            },
            "outputs": {"type": "object", "propertyNames": {"pattern": _WHOLE_NAME}, "additionalProperties": _output()},
        },
        "definitions": {"link": {"type": "string", "pattern": rf"^\$({NAME.pattern})(\.({NAME.pattern}))?$"}},
    }


def _param() -> Schema:
    described = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "default": True,
            "type": {"enum": list(PARAM_TYPES)},
            "min": {"type": "number"},
            "max": {"type": "number"},
            "help": {"type": "string"},
        },
    }
    return {"anyOf": [{"type": ["string", "number", "boolean", "null", "array"]}, described]}


def _output() -> Schema:
    described = {
        "type": "object",
        "required": ["from"],
        "additionalProperties": False,
        "properties": {
            "from": _LINK,
            "save": {"type": "string", "description": "A file name; {workflow}, {seed} stand for values."},
        },
    }
    return {"anyOf": [_LINK, described]}


def _node(spec: NodeSpec, plugins: Plugins) -> Schema:
    """What holds for a node where `use` says this type."""
    properties: Schema = {"use": {"const": spec.name, "description": spec.doc.partition("\n\n")[0]}}
    properties |= {port.name: _input(port, plugins) for port in spec.inputs}
    required = ["use", *(port.name for port in spec.inputs if port.required)]
    then: Schema = {"properties": properties, "required": required, "additionalProperties": False}
    chosen = [schema for port in spec.options for schema in _options(spec, port, plugins)]
    if chosen:
        then["allOf"] = chosen
    return {"if": {"required": ["use"], "properties": {"use": {"const": spec.name}}}, "then": then}


def _options(spec: NodeSpec, port: Port, plugins: Plugins) -> Iterator[Schema]:
    """What `port` takes, for each thing that the input which it is about can name."""
    other = spec.input(port.options_of.input) if port.options_of else None
    registry = plugins.registries.get(other.choice.registry) if other is not None and other.choice is not None else None
    if other is None or registry is None:
        return
    for entry in registry.entries():
        options = {option.name: _input(option, plugins) for option in option_ports(entry.value)}
        taken: Schema = {"type": ["object", "null"], "properties": options, "additionalProperties": False}
        names: Schema = {"enum": [entry.name, *entry.aliases]}
        absent = other.default == entry.name
        yield {
            "if": {"properties": {other.name: names}} | ({} if absent else {"required": [other.name]}),
            "then": {"properties": {port.name: {"anyOf": [_LINK, taken]}}},
        }


def _input(port: Port, plugins: Plugins) -> Schema:
    schema: Schema = {"anyOf": [_LINK, *_literals(port, plugins)]}
    if port.help:
        schema["description"] = port.help
    if not port.required and isinstance(port.default, str | int | float | None):
        schema["default"] = port.default
    return schema


def _literals(port: Port, plugins: Plugins) -> list[Schema]:
    if port.choice is not None:
        registry = plugins.registries.get(port.choice.registry)
        return [{"enum": [*registry.names(), *registry.aliases()] if registry is not None else []}]
    if port.reads is not None:
        nothing = [{"type": "null"}] if type(None) in typing.get_args(port.type) else []
        return [{"type": "string"}, *nothing]
    literals = _of_type(port.type)
    if port.range is not None:
        bounds = {"minimum": port.range.low, "maximum": port.range.high}
        for literal in literals:
            if literal.get("type") in ("integer", "number"):
                literal |= {key: bound for key, bound in bounds.items() if bound is not None}
    return [*literals, {"const": "random"}] if port.seed else literals


def _of_type(kind: Any) -> list[Schema]:
    """The literals that a type takes; none for a type that is another node's to give."""
    if kind is Any:
        return [{}]
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return [schema for part in arguments for schema in _of_type(part)]
    if origin is typing.Literal:
        return [{"enum": list(arguments)}]
    if origin in _PLAIN:
        return [{"type": _PLAIN[origin]}]
    if origin is list:
        return [{"type": "array", "items": {"anyOf": [_LINK, *_of_type((*arguments, Any)[0])]}}]
    return [{"type": "object"}] if origin is dict else []
