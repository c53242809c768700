"""YAML text to a Workflow and back, with file, line and column kept for every value.

Scalars are read by the core rules of YAML 1.2: `no` is text, `1e-4` is a number, `16:9` is text. A whole scalar `$node` or
`$node.port` is a link and `$params.name` a param; `$$node` is the text `$node`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.registry import did_you_mean
from nodegraph.spec import MISSING
from nodegraph.workflow import Link, NodeDef, OutputDef, ParamDef, ParamRef, Workflow

FORMAT: Final = 1
PARAM_TYPES: Final = ("text", "int", "float", "bool", "path", "seed")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_REFERENCE = re.compile(rf"\$({_NAME.pattern})(?:\.({_NAME.pattern}))?")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_VALUES: Final = 1_000_000  # a few aliases of aliases would otherwise fill the memory


def read(path: Path) -> Workflow:
    """Read a workflow file; the workflow is called after it. Raises WorkflowError with every mistake in its form."""
    shown = _shown(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise WorkflowError([Problem("E100", f"there is no workflow file {shown}", hint="Check the path.")]) from None
    except UnicodeDecodeError as error:
        hint = "Save it as UTF-8 text; a picture or a checkpoint is no workflow."
        raise WorkflowError([Problem("E100", f"{shown} is not UTF-8 text (byte {error.start})", hint=hint)]) from None
    except OSError as error:
        raise WorkflowError([Problem("E100", f"{shown} cannot be read: {error.strerror}")]) from None
    return parse(text, file=shown, base=path.resolve().parent, name=path.stem)


def parse(text: str, *, file: str = "<text>", base: Path | None = None, name: str = "workflow") -> Workflow:
    """Read a workflow from text; `file` is what errors call it. Raises WorkflowError with every mistake in its form."""
    return _Reader(file).workflow(_compose(text, file), Workflow(name, base=base))


def parse_scalar(text: str) -> Any:
    """A value as `--set` takes it: YAML in one line. Raises ValueError if it is not well-formed."""
    reader = _Reader("--set")
    try:
        value = reader.plain(_compose(text, "--set"))
    except WorkflowError as error:
        raise ValueError(error.problems[0].message) from None
    if reader.problems:
        raise ValueError(reader.problems[0].message)
    return value


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Location(file, mark.line + 1, mark.column + 1) if mark else None
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise WorkflowError([Problem("E100", f"this is not well-formed YAML: {said}", where)]) from None
    except yaml.YAMLError as error:
        said = str(error).replace("\n", " ")
        raise WorkflowError([Problem("E100", f"{file} is not well-formed YAML: {said}")]) from None
    except RecursionError:
        raise WorkflowError([Problem("E100", f"{file} is nested too deeply", hint="Flatten it.")]) from None
    return node


class _Reader:
    """Walks composed YAML, collecting problems instead of stopping at the first."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._left = _MOST_VALUES

    def workflow(self, root: yaml.Node | None, workflow: Workflow) -> Workflow:
        if not isinstance(root, yaml.MappingNode):
            where = self.where(root) if root else Location(self.file, 1, 1)
            hint = "Begin with 'nodegraph: 1' and a mapping 'nodes:'."
            raise WorkflowError([Problem("E101", "a workflow is a mapping", where, hint)])
        sections: dict[str, Callable[[yaml.Node], None]] = {
            "nodegraph": self._format,
            "name": lambda node: self._text(node, "name", lambda text: setattr(workflow, "name", text)),
            "description": lambda node: self._text(node, "description", lambda text: setattr(workflow, "description", text)),
            "params": lambda node: self._params(node, workflow),
            "nodes": lambda node: self._nodes(node, workflow),
            "outputs": lambda node: self._outputs(node, workflow),
        }
        try:
            seen = {key for key, _, node in self._fields(root, "the workflow", sections) if sections[key](node) or True}
        except RecursionError:
            raise WorkflowError([Problem("E100", f"{self.file} is nested too deeply", hint="Flatten it.")]) from None
        for needed, hint in (("nodegraph", "Begin with 'nodegraph: 1'."), ("nodes", "Add a mapping 'nodes:'.")):
            if needed not in seen:
                self._problem("E101", f"the workflow has no '{needed}'", root, hint)
        if self.problems:
            raise WorkflowError(self.problems)
        return workflow

    def where(self, node: yaml.Node) -> Location:
        return Location(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def plain(self, node: yaml.Node | None) -> Any:
        """A YAML value as Python's, references among them."""
        self._left -= 1
        if self._left < 0:
            raise WorkflowError(
                [Problem("E100", f"{self.file} holds over {_MOST_VALUES:,} values", hint="Are these aliases meant?")]
            )
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item) for item in node.value]
        return {key: self.plain(value) for key, _, value in self._fields(node, "this mapping")}

    # --- sections

    def _format(self, node: yaml.Node) -> None:
        version = self.plain(node)
        if version != FORMAT or isinstance(version, bool):
            self._problem("E101", f"format {version!r} is not known: this nodegraph reads format {FORMAT}", node)

    def _params(self, node: yaml.Node, workflow: Workflow) -> None:
        for name, key, value in self._fields(node, "'params'"):
            if not self._is_name(name, key):
                continue
            said: dict[str, Any] = {"default": MISSING}
            if isinstance(value, yaml.MappingNode):
                known = ("default", "type", "min", "max", "help")
                said |= {field: self._param_field(field, n) for field, _, n in self._fields(value, f"param '{name}'", known)}
            else:
                said["default"] = self.plain(value)
            if isinstance(said["default"], Link | ParamRef):
                self._problem("E114", f"the default of param '{name}' is a reference; expected a value", value)
                continue
            workflow.params[name] = ParamDef(name=name, where=self.where(value), **said)

    def _param_field(self, field: str, node: yaml.Node) -> Any:
        value = self.plain(node)
        if field == "type" and value not in PARAM_TYPES:
            hint = did_you_mean(str(value), PARAM_TYPES) or f"The types are {', '.join(PARAM_TYPES)}."
            self._problem("E114", f"there is no param type {value!r}", node, hint)
            return None
        if field in ("min", "max") and (isinstance(value, bool) or not isinstance(value, int | float)):
            self._problem("E114", f"'{field}' of a param is a number, not {value!r}", node)
            return None
        return str(value) if field == "help" else value

    def _nodes(self, node: yaml.Node, workflow: Workflow) -> None:
        for name, key, value in self._fields(node, "'nodes'"):
            if not self._is_name(name, key):
                continue
            if name == "params":
                self._problem("E101", "a node cannot be called 'params'", key, "'$params.x' is a param; use another name.")
                continue
            if not isinstance(value, yaml.MappingNode):
                self._problem("E101", f"node '{name}' is no mapping", value, f"Write '{name}: {{use: TYPE, ...}}'.")
                continue
            use, inputs, places = None, {}, {}
            for input, input_key, input_node in self._fields(value, f"node '{name}'"):
                if input == "use":
                    use = self.plain(input_node)
                else:
                    inputs[input] = self.plain(input_node)
                places[input], places[f"{input} key"] = self.where(input_node), self.where(input_key)
            if not isinstance(use, str):
                self._problem("E101", f"node '{name}' does not say which type it is", key, "Add 'use: TYPE'.")
                continue
            workflow.nodes[name] = NodeDef(name, use, inputs, self.where(key), places)

    def _outputs(self, node: yaml.Node, workflow: Workflow) -> None:
        for name, key, value in self._fields(node, "'outputs'"):
            if not self._is_name(name, key):
                continue
            said: dict[str, Any] = {}
            if isinstance(value, yaml.MappingNode):
                said = {field: self.plain(n) for field, _, n in self._fields(value, f"output '{name}'", ("from", "save"))}
            else:
                said["from"] = self.plain(value)
            link, save = said.get("from"), said.get("save")
            if not isinstance(link, Link):
                self._problem("E115", f"output '{name}' names no node", value, f"Write '{name}: {{from: $NODE}}'.")
            elif save is not None and not isinstance(save, str):
                self._problem("E115", f"'save' of output '{name}' is a file name, not {save!r}", value)
            else:
                workflow.outputs[name] = OutputDef(name, link, save, self.where(value))

    # --- pieces

    def _fields(self, node: yaml.Node, what: str, known: Any = None) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Key, its node and its value's node, of a mapping; what is no mapping, twice there or unknown is a problem."""
        if not isinstance(node, yaml.MappingNode):
            self._problem("E101", f"{what} is a mapping of names", node)
            return
        seen: dict[str, Location] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self._problem("E101", f"a key in {what} is no name", key_node)
            elif key in seen:
                self._problem(
                    "E102",
                    f"'{key}' is twice in {what}; the first is at line {seen[key].line}",
                    key_node,
                    "Remove one.",
                )
            elif known is not None and key not in known:
                hint = did_you_mean(key, known) or f"It has {', '.join(known)}."
                self._problem("E101", f"{what} has no '{key}'", key_node, hint)
            else:
                seen[key] = self.where(key_node)
                yield key, key_node, value_node

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        reference = _REFERENCE.fullmatch(text)
        if reference:
            owner, port = reference.groups()
            return ParamRef(port) if owner == "params" and port else Link(owner, port)
        if text.startswith("$$") and _REFERENCE.fullmatch(text[1:]):
            return text[1:]
        if node.style:  # quoted or a block: text, whatever it looks like
            return text
        try:
            return core_value(text)
        except ValueError:
            self._problem("E110", f"a number of {len(text)} digits is too long", node)
            return 0

    def _text(self, node: yaml.Node, what: str, take: Callable[[str], None]) -> None:
        value = self.plain(node)
        if isinstance(value, str):
            take(value)
        else:
            self._problem("E101", f"'{what}' is text, not {value!r}", node, "Put it in quotes.")

    def _is_name(self, name: str, node: yaml.Node) -> bool:
        good = _NAME.fullmatch(name) is not None
        if not good:
            self._problem("E101", f"'{name}' is no name", node, "Names are letters, digits, '_' and '-', and begin with a letter.")
        return good

    def _problem(self, code: str, message: str, node: yaml.Node, hint: str = "") -> None:
        self.problems.append(Problem(code, message, self.where(node), hint))


def core_value(text: str) -> Any:
    """A plain scalar by YAML 1.2's core rules. Raises ValueError for a number that is too long to read."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def dump(workflow: Workflow) -> str:
    """The workflow as YAML. Reading it back gives a workflow of the same meaning."""
    lines = [f"nodegraph: {FORMAT}", f"name: {_written(workflow.name)}"]
    if workflow.description:
        lines.append(f"description: {_written(workflow.description)}")
    if workflow.params:
        lines.append("params:")
        lines += [f"  {param.name}: {_written(_param(param))}" for param in workflow.params.values()]
    lines.append("nodes:")
    for node in workflow.nodes.values():
        lines += _block(node.name, {"use": node.type, **node.inputs})
    if workflow.outputs:
        lines.append("outputs:")
        for output in workflow.outputs.values():
            said = {"from": output.link} | ({"save": output.save} if output.save is not None else {})
            lines.append(f"  {output.name}: {_written(said)}")
    return "\n".join(lines) + "\n"


def _param(param: ParamDef) -> Any:
    said = {"type": param.type, "min": param.min, "max": param.max, "help": param.help or None}
    said = {key: value for key, value in said.items() if value is not None}
    if not said and not isinstance(param.default, dict):
        return param.default
    return ({} if param.default is MISSING else {"default": param.default}) | said


def _block(name: str, fields: dict[str, Any]) -> list[str]:
    """A node on one line where it fits, else a line for each input."""
    line = f"  {name}: {_written(fields)}"
    if len(line) <= 120:
        return [line]
    return [f"  {name}:", *(f"    {key}: {_written(value)}" for key, value in fields.items())]


def _written(value: Any) -> str:
    """One value in YAML's flow style."""
    if isinstance(value, Link | ParamRef):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written_text(str(key))}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, str | os.PathLike):
        return _written_text(os.fspath(value) if isinstance(value, str) else Path(value).as_posix())
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    return "null" if value is None else repr(value).lower() if isinstance(value, bool) else repr(value)


_UNPRINTABLE = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff]")
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*(?:[ :][A-Za-z0-9_./+-]+)*")


def _written_text(text: str) -> str:
    if _REFERENCE.fullmatch(text) or (text.startswith("$$") and _REFERENCE.fullmatch(text[1:])):
        text = "$" + text
    if _BARE.fullmatch(text) and text not in _WORDS:
        return text
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _shown(path: Path) -> str:
    """The path as a person would type it from here."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative
