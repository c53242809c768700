"""A JSON Schema (draft-07) of workflow files that knows the installed node types, for editors that complete and check YAML."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

from nodegraph.node_types.port_types import AnyType, Choices, Class, List, Mapping, PortType, Tuple, Union, parse
from nodegraph.node_types.signature import option_ports
from nodegraph.node_types.spec import NodeSpec, Port
from nodegraph.plugins.manager import Plugins
from nodegraph.plugins.registry import Entry, Registry
from nodegraph.workflow.definitions import EACH, FORMAT, NAME, PARAM_TYPES, REPEAT, SWITCH, TAKES

Schema = dict[str, Any]

_LINK: Final[Schema] = {"$ref": "#/definitions/link"}
_WHOLE_NAME: Final = f"^{NAME.pattern}$"
_WORKFLOW: Final = r"^(#|\.{1,2}/|/)"
_TYPE_TEXT: Final = rf"^(list\[)*([A-Z][A-Za-z0-9_]*|{'|'.join(PARAM_TYPES)})\]*$"
_SEPARATOR: Final = r"[\s_-]+"
_SEPARATORS: Final = r"[\s_-]*"
_SYNTAX: Final = r"\^$.*+?()[]{}|/"
_JSON_TYPES: Final = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    list: "array",
    dict: "object",
}


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
            "nodegraph": {"const": FORMAT, "description": "The version of the file format."},
            "name": {"type": "string", "description": "The value of {workflow} in file names; default: the name of the file."},
            "description": {"type": "string"},
            "params": {"$ref": "#/definitions/params"},
            "nodes": {"$ref": "#/definitions/nodes"},
            "outputs": {"$ref": "#/definitions/outputs"},
            "workflows": {
                "type": "object",
                "description": "Workflows that nodes of this file use as '#name'.",
                "propertyNames": {"pattern": _WHOLE_NAME},
                "additionalProperties": _inner_workflow(),
            },
            "sweep": {"type": "object", "description": "Which values a sweep tries; a run ignores it."},
            "values": {"type": "object", "description": "Values of nodes inside sub-workflows, under the names of --set."},
        },
        "definitions": {
            "link": {"type": "string", "pattern": rf"^\$({NAME.pattern})(\.({NAME.pattern}))?$"},
            "params": _named(_param()),
            "nodes": _named(
                {
                    "type": "object",
                    "required": ["use"],
                    "properties": {"use": _use([*(spec.name for spec in nodes), SWITCH])},
                    "allOf": [*(_node(spec, plugins) for spec in nodes), _switch(), _composed()],
                }
            ),
            "outputs": _named(_output()),
        },
    }


def _named(schema: Schema) -> Schema:
    """A section: a mapping of names to what `schema` describes."""
    return {"type": "object", "propertyNames": {"pattern": _WHOLE_NAME}, "additionalProperties": schema}


def _inner_workflow() -> Schema:
    sections = {name: {"$ref": f"#/definitions/{name}"} for name in ("params", "nodes", "outputs")}
    folder = {"type": "string", "description": "Where relative paths start, from the folder of the file."}
    properties = {"description": {"type": "string"}, "folder": folder, **sections}
    return {"type": "object", "required": ["nodes"], "additionalProperties": False, "properties": properties}


def _use(names: list[str]) -> Schema:
    """A node type, or a workflow. A validator's message, and an editor's menu, list the node types alone."""
    return {"if": {"type": "string", "pattern": _WORKFLOW}, "else": {"enum": names}}


def _switch() -> Schema:
    then = {"required": ["use", "on", "cases"], "properties": {"cases": {"type": "object", "minProperties": 1}}}
    return {"if": {"required": ["use"], "properties": {"use": {"const": SWITCH}}}, "then": then}


def _composed() -> Schema:
    """What says how often a node is used, and how long it takes."""
    names = {"pattern": _WHOLE_NAME}
    each = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": names,
        "description": "By input: the list to map the node over, or a link to one.",
    }
    times = {"type": ["integer", "string"], "minimum": 1, "maximum": 1000}
    repeat = {
        "type": "object",
        "required": ["times", "carry"],
        "additionalProperties": False,
        "properties": {"times": times, "carry": {"type": "object", "description": "By input: the output that feeds it."}},
        "description": "How often to run the workflow, each time fed by the time before.",
    }
    takes = {"type": "string", "description": "How long the node takes, in words, said before a run that has to do it."}
    return {"properties": {EACH: each, REPEAT: repeat, TAKES: takes}}


def _param() -> Schema:
    described = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "default": True,
            "type": {"anyOf": [{"enum": list(PARAM_TYPES)}, {"type": "string", "pattern": _TYPE_TEXT}]},
            "min": {"type": "number"},
            "max": {"type": "number"},
            "help": {"type": "string"},
        },
    }
    return {"if": {"type": "object"}, "then": described, "else": {"type": ["string", "number", "boolean", "null", "array"]}}


def _output() -> Schema:
    file = {"type": "string", "description": "A file name; {workflow}, {output} and {PARAM} are replaced by their values."}
    described = {
        "type": "object",
        "required": ["from"],
        "additionalProperties": False,
        "properties": {
            "from": _LINK,
            "save": {
                "if": {"type": "object"},
                "then": {"required": ["file"], "properties": {"file": file}},
                "else": file,
                "description": "A file name, or a mapping with the name as 'file' and options of the file format.",
            },
        },
    }
    return {"if": {"type": "string"}, "then": _LINK, "else": described}


def _node(spec: NodeSpec, plugins: Plugins) -> Schema:
    """The schema of a node whose `use` is this type."""
    properties: Schema = {"use": {"const": spec.name, "description": spec.doc.partition("\n\n")[0]}}
    properties |= {port.name: _input(port, plugins) for port in spec.inputs}
    properties |= {EACH: True, TAKES: True}
    required = ["use", *(port.name for port in spec.inputs if port.required)]
    then: Schema = {"properties": properties, "additionalProperties": False, **_unless_each(required)}
    chosen = [schema for port in spec.options for schema in _options(spec, port, plugins)]
    if chosen:
        then["allOf"] = chosen
    return {"if": {"required": ["use"], "properties": {"use": {"const": spec.name}}}, "then": then}


def _unless_each(required: list[str]) -> Schema:
    """These inputs are required unless the node has `each`, which may give them."""
    if required == ["use"]:
        return {}
    return {"if": {"required": [EACH]}, "else": {"required": required}}


def _options(spec: NodeSpec, port: Port, plugins: Plugins) -> Iterator[Schema]:
    """The options that `port` takes, for each thing that its other input can name."""
    other = spec.input(port.options_of.input) if port.options_of else None
    registry = plugins.registries.get(other.choice.registry) if other is not None and other.choice is not None else None
    if other is None or registry is None:
        return
    for entry in registry.entries():
        options = {option.name: _input(option, plugins) for option in option_ports(entry.value)}
        taken: Schema = {"type": ["object", "null"], "properties": options, "additionalProperties": False}
        names: Schema = {"anyOf": [{"const": entry.name}, *_aliases(registry, [entry])]}
        absent = other.default == entry.name
        yield {
            "if": {"properties": {other.name: names}} | ({} if absent else {"required": [other.name]}),
            "then": {"properties": {port.name: _link_or([taken])}},
        }


def _input(port: Port, plugins: Plugins) -> Schema:
    schema = _link_or(_literals(port, plugins))
    if port.help:
        schema["description"] = port.help
    if not port.required and isinstance(port.default, str | int | float | None):
        schema["default"] = port.default
    return schema


def _literals(port: Port, plugins: Plugins) -> list[Schema]:
    if port.choice is not None:
        registry = plugins.registries.get(port.choice.registry)
        return [_choice(registry) if registry is not None else {"enum": []}]
    if port.reads is not None:
        nothing = [{"type": "null"}] if parse(port.type).optional else []
        return [{"type": "string"}, *nothing]
    literals = literal_schema(port.type)
    if port.range is not None:
        bounds = {"minimum": port.range.low, "maximum": port.range.high}
        for literal in literals:
            if literal.get("type") in ("integer", "number"):
                literal |= {key: bound for key, bound in bounds.items() if bound is not None}
    return [*literals, {"const": "random"}] if port.seed else literals


def _choice(registry: Registry[Any]) -> Schema:
    """The names in a registry, or an alias in any spelling. A validator's message, and an editor's menu, list the names alone."""
    names: Schema = {"enum": registry.names()}
    aliases = _aliases(registry, registry.entries())
    return {"if": {"anyOf": aliases}, "else": names} if aliases else names


def _aliases(registry: Registry[Any], entries: Iterable[Entry[Any]]) -> list[Schema]:
    """Schemas of the aliases of `entries`: as they are, and in any case and with any separators between their words."""
    chosen = list(entries)
    exact = [alias for entry in chosen for alias in entry.aliases]
    alike = {_SEPARATOR.join(map(_in_any_case, words)) for entry in chosen for words in registry.words_of_aliases(entry.name)}
    patterns = [{"type": "string", "pattern": f"^{_SEPARATORS}({'|'.join(sorted(alike))}){_SEPARATORS}$"}] if alike else []
    return [*([{"enum": exact}] if exact else []), *patterns]


def _in_any_case(word: str) -> str:
    """A pattern for `word`, which is in lower case. Patterns in schemas have no switch for that."""
    return "".join(f"[{c}{c.upper()}]" if c != c.upper() and len(c.upper()) == 1 else _escaped(c) for c in word)


def _escaped(character: str) -> str:
    return f"\\{character}" if character in _SYNTAX else character  # others must not be escaped in the patterns of schemas


def literal_schema(annotation: Any) -> list[Schema]:
    """Schemas of the literals that a port of this type takes, the same that `literals.coerce` takes; [] if it takes only links."""
    return _of_type(parse(annotation))


def _of_type(port_type: PortType) -> list[Schema]:
    if isinstance(port_type, AnyType):
        return [{}]
    if isinstance(port_type, Union):
        return [schema for part in port_type.parts for schema in _of_type(part)]
    if isinstance(port_type, Choices):
        return [{"enum": list(port_type.values)}]
    if isinstance(port_type, List):
        return [{"type": "array", "items": _item(port_type.item)}]
    if isinstance(port_type, Tuple):
        return [_tuple(port_type)]
    if isinstance(port_type, Mapping):
        return [{"type": "object"} | ({"additionalProperties": _item(port_type.value)} if port_type.arguments else {})]
    return _of_class(port_type.cls) if isinstance(port_type, Class) and isinstance(port_type.cls, type) else []


def _of_class(cls: type) -> list[Schema]:
    if issubclass(cls, os.PathLike):
        return [{"type": "string"}]
    if cls in (int, float):  # a boolean, which is an int in Python, is not a number in a workflow
        return [{"type": _JSON_TYPES[cls]}]
    return [{"type": name} for plain, name in _JSON_TYPES.items() if issubclass(plain, cls)]


def _item(port_type: PortType) -> Schema:
    return _link_or(_of_type(port_type))


def _link_or(literals: list[Schema]) -> Schema:
    """A link, or one of these literals.

    There is no `anyOf` if possible: a validator would say only that nothing fits, instead of which names there are.
    """
    if not literals:
        return {"allOf": [_LINK]}
    literal = _merged(literals)
    if "anyOf" in literal:
        return {"anyOf": [_LINK, *literals]}
    if not literal or "string" in _types(literal):
        return literal  # a link is text, too
    return {"if": {"type": "string", "pattern": r"^\$"}, "then": _LINK, "else": literal}


def _merged(literals: list[Schema]) -> Schema:
    """One schema for any of these: words in one `enum`, and types in one `type`, since other keys concern one type each."""
    if {} in literals:
        return {}
    words = [word for schema in literals for word in schema.get("enum", [schema["const"]] if "const" in schema else [])]
    typed = [schema for schema in literals if not {"enum", "const"} & schema.keys()]
    keys = [key for schema in typed for key in schema if key != "type"]
    types = [kind for schema in typed for kind in _types(schema)]
    text_only = all(isinstance(word, str) for word in words)
    if len(keys) != len(set(keys)) or not (text_only or types in ([], ["null"])):
        return {"anyOf": literals}
    rest = {key: value for schema in typed for key, value in schema.items()}
    if types:
        rest["type"] = types if len(types) > 1 else types[0]
    if not words or "string" in types:
        return rest
    if types in ([], ["null"]):
        return {"enum": [*words, *([None] if types else [])]}
    return {"if": {"type": "string"}, "then": {"enum": words}, "else": rest}


def _types(schema: Schema) -> list[str]:
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _tuple(port_type: Tuple) -> Schema:
    if port_type.length is None:
        return {"type": "array", "items": _item(port_type.item(0))}
    items = [_item(port_type.item(index)) for index in range(port_type.length)]
    return {"type": "array", "items": items, "minItems": port_type.length, "maxItems": port_type.length}
