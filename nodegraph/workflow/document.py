"""YAML text to a Workflow and back, with file, line and column kept for every value. How single values read: `scalars.py`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.node_types.spec import MISSING
from nodegraph.text import did_you_mean, shown
from nodegraph.workflow.scalars import is_null, read_scalar, written
from nodegraph.workflow.workflow import NAME, NAME_RULE, PARAMS, Link, NodeDef, OutputDef, ParamDef, Workflow, references
from nodegraph.workflow.yaml_tree import Mapping, Part, Scalar, Sequence, read_tree

FORMAT: Final = 1
PARAM_TYPES: Final = ("text", "int", "float", "bool", "path", "seed")

_LARGEST: Final = 16 << 20  # bytes of a workflow file
_BEGINNING: Final = "Begin with 'nodegraph: 1' and a mapping 'nodes:'."


def read(path: Path) -> Workflow:
    """Read a workflow file; the workflow is called after it. Raises WorkflowError with every mistake in its form."""
    file = shown(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)  # a large file given by mistake is not read whole
        if len(data) > _LARGEST:
            hint = "A workflow is text of some kilobytes. Check the path."
            raise _unreadable(f"{file} holds over {_LARGEST >> 20} MiB", hint)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise _unreadable(f"there is no workflow file {file}", "Check the path.") from None
    except UnicodeDecodeError as error:
        hint = "A workflow is a text file in UTF-8."
        raise _unreadable(f"{file} is not UTF-8 text (byte {error.start})", hint) from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise _unreadable(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}", "Check the path.") from None
    return parse(text, file=file, base=path.resolve().parent, name=path.stem)


def parse(text: str, *, file: str = "<text>", base: Path | None = None, name: str = "workflow") -> Workflow:
    """Read a workflow from text; `file` is what errors call it. Raises WorkflowError with every mistake in its form."""
    return _Reader(file).workflow(read_tree(text, file), Workflow(name, base=base))


def parse_value(text: str) -> Any:
    """A value as `--set` takes it: YAML in one line. Raises ValueError if it is not well-formed."""
    reader = _Reader("--set")
    try:
        value = reader.plain(read_tree(text, "--set"))
    except WorkflowError as error:
        raise ValueError(error.problems[0].message) from None
    if reader.problems:
        raise ValueError(reader.problems[0].message)
    return value


def dump(workflow: Workflow) -> str:
    """The workflow as YAML. Reading it back gives a workflow of the same meaning."""
    lines = [f"nodegraph: {FORMAT}", f"name: {written(workflow.name)}"]
    if workflow.description:
        lines.append(f"description: {written(workflow.description)}")
    if workflow.params:
        lines.append("params:")
        lines += [f"  {param.name}: {written(_param(param))}" for param in workflow.params.values()]
    lines.append("nodes:" if workflow.nodes else "nodes: {}")
    for node in workflow.nodes.values():
        lines += _block(node.name, {"use": node.type, **node.inputs})
    if workflow.outputs:
        lines.append("outputs:")
        for output in workflow.outputs.values():
            said = {"from": output.link} | ({"save": output.save} if output.save is not None else {})
            lines.append(f"  {output.name}: {written(said)}")
    return "\n".join(lines) + "\n"


def _param(param: ParamDef) -> Any:
    said = {"type": param.type, "min": param.min, "max": param.max, "help": param.help or None}
    said = {key: value for key, value in said.items() if value is not None}
    if not said and param.default is not MISSING and not isinstance(param.default, dict):
        return param.default
    return ({} if param.default is MISSING else {"default": param.default}) | said


def _block(name: str, fields: dict[str, Any]) -> list[str]:
    """A node on one line where it fits, else a line for each input."""
    line = f"  {name}: {written(fields)}"
    if len(line) <= 120:
        return [line]
    return [f"  {name}:", *(f"    {key}: {written(value)}" for key, value in fields.items())]


class _Reader:
    """Walks the tree of a workflow, collecting problems instead of stopping at the first."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def workflow(self, root: Part | None, workflow: Workflow) -> Workflow:
        if not isinstance(root, Mapping):
            found = "nothing" if root is None or _is_null(root) else "a list" if isinstance(root, Sequence) else "text"
            where = root.where if root else Location(self.file, 1, 1)
            raise WorkflowError([Problem("E101", f"a workflow is a mapping; {self.file} holds {found}", where, _BEGINNING)])
        sections: dict[str, Callable[[Part], None]] = {
            "nodegraph": self._format,
            "name": lambda part: self._text(part, "name", lambda text: setattr(workflow, "name", text)),
            "description": lambda part: self._text(part, "description", lambda text: setattr(workflow, "description", text)),
            "params": lambda part: self._params(part, workflow),
            "nodes": lambda part: self._nodes(part, workflow),
            "outputs": lambda part: self._outputs(part, workflow),
        }
        seen = set()
        for section, _, part in self._fields(root, "the workflow", sections):
            seen.add(section)
            sections[section](part)
        for needed, hint in (("nodegraph", "Begin with 'nodegraph: 1'."), ("nodes", "Add a mapping 'nodes:'.")):
            if needed not in seen:
                self._problem("E101", f"the workflow has no '{needed}'", root, hint)
        if self.problems:
            raise WorkflowError(self.problems)
        return workflow

    def plain(self, part: Part | None) -> Any:
        """A value as Python's, references among them."""
        if isinstance(part, Scalar):
            try:
                return read_scalar(part.text, quoted=part.quoted)
            except ValueError as error:
                self._problem("E110", str(error), part)
        if isinstance(part, Sequence):
            return [self.plain(item) for item in part.items]
        if isinstance(part, Mapping):
            return {key: self.plain(value) for key, _, value in self._fields(part, "this mapping")}
        return None

    # --- sections

    def _format(self, part: Part) -> None:
        version = self.plain(part)
        if version != FORMAT or isinstance(version, bool):
            hint = f"This nodegraph reads format {FORMAT}."
            self._problem("E101", f"'nodegraph' is the format's number, and {written(version)} is none that is known", part, hint)

    def _params(self, section: Part, workflow: Workflow) -> None:
        for name, _, part in self._named(section, "params"):
            said: dict[str, Any] = {"default": MISSING}
            where = part.where
            if isinstance(part, Mapping):
                for field, _, field_part in self._fields(part, f"param '{name}'", ("default", "type", "min", "max", "help")):
                    said[field] = self._param_field(field, field_part)
                    where = field_part.where if field == "default" else where
            else:
                said["default"] = self.plain(part)
            reference = next(references(said["default"]), None)
            if reference is not None:
                message = f"the default of param '{name}' refers to {reference}. Expected a value"
                self._problem("E114", message, part, f"'${reference}' is the text '{reference}'.", where)
            elif said.get("min") is not None and said.get("max") is not None and said["min"] > said["max"]:
                self._problem("E114", f"param '{name}' has a 'min' above its 'max'", part)
            else:
                workflow.params[name] = ParamDef(name=name, where=where, **said)

    def _param_field(self, field: str, part: Part) -> Any:
        value = self.plain(part)
        if field == "type" and value not in PARAM_TYPES:
            hint = did_you_mean(str(value), PARAM_TYPES) or f"The types are {', '.join(PARAM_TYPES)}."
            self._problem("E114", f"there is no param type '{value}'", part, hint)
            return None
        if field in ("min", "max") and (isinstance(value, bool) or not isinstance(value, int | float)):
            self._problem("E114", f"'{field}' of a param is a number, not {written(value)}", part)
            return None
        if field == "help":
            return "" if value is None else str(value)
        return value

    def _nodes(self, section: Part, workflow: Workflow) -> None:
        for name, key, part in self._named(section, "nodes"):
            if name == PARAMS:
                self._problem("E101", "a node cannot be called 'params'", key, "'$params.x' is a param; use another name.")
                continue
            if not isinstance(part, Mapping):
                self._problem("E101", f"node '{name}' is no mapping", part, f"Write '{name}: {{use: TYPE, ...}}'.")
                continue
            inputs, places = {}, {}
            for input, input_key, input_part in self._fields(part, f"node '{name}'"):
                inputs[input] = self.plain(input_part)
                places[input] = input_key.where, input_part.where
            use = inputs.pop("use", None)
            if isinstance(use, str):
                workflow.nodes[name] = NodeDef(name, use, inputs, key.where, places)
            elif use is None:
                self._problem("E101", f"node '{name}' does not say which type it is", key, "Add 'use: TYPE'.")
            else:
                message = f"'use' of node '{name}' is the name of a node type, not {written(use)}"
                self._problem("E101", message, part, "Write 'use: TYPE'.", places["use"][1])

    def _outputs(self, section: Part, workflow: Workflow) -> None:
        for name, _, part in self._named(section, "outputs"):
            parts = {"from": part}
            if isinstance(part, Mapping):
                parts = {field: p for field, _, p in self._fields(part, f"output '{name}'", ("from", "save"))}
            link, save = self.plain(parts.get("from")), self.plain(parts.get("save"))
            if not isinstance(link, Link):
                self._problem("E115", f"output '{name}' names no node", part, f"Write '{name}: {{from: $NODE}}'.")
            elif save is not None and not isinstance(save, str):
                self._problem(
                    "E115", f"'save' of output '{name}' is a file name, not {written(save)}", parts["save"], "Put it in quotes."
                )
            else:
                workflow.outputs[name] = OutputDef(name, link, save, parts["from"].where)

    # --- pieces

    def _named(self, section: Part, what: str) -> Iterator[tuple[str, Part, Part]]:
        """Name, key and value of what a section holds; a section that holds nothing yet may be left empty."""
        if _is_null(section):
            return
        for name, key, part in self._fields(section, f"'{what}'"):
            if NAME.fullmatch(name):
                yield name, key, part
            else:
                self._problem("E101", f"'{name}' in '{what}' is no name", key, NAME_RULE)

    def _fields(self, part: Part, what: str, known: Collection[str] | None = None) -> Iterator[tuple[str, Part, Part]]:
        """Name, key and value in a mapping; what is no mapping, twice there or unknown is a problem."""
        if not isinstance(part, Mapping):
            self._problem("E101", f"{what} is a mapping of names", part)
            return
        seen: dict[str, Part] = {}
        for key, value in part.pairs:
            if not isinstance(key, Scalar):
                self._problem("E101", f"a key in {what} is no name", key)
            elif key.text in seen:
                message = f"'{key.text}' is twice in {what}; the first is in line {seen[key.text].where.line}"
                self._problem("E102", message, key, "Remove one.")
            elif known is not None and key.text not in known:
                hint = did_you_mean(key.text, known) or f"It has {', '.join(known)}."
                self._problem("E101", f"{what} has no '{key.text}'", key, hint)
            else:
                seen[key.text] = key
                yield key.text, key, value

    def _text(self, part: Part, what: str, take: Callable[[str], None]) -> None:
        value = self.plain(part)
        if isinstance(value, str):
            take(value)
        else:
            self._problem("E101", f"'{what}' is text, not {written(value)}", part, "Put it in quotes.")

    def _problem(self, code: str, message: str, part: Part, hint: str = "", where: Location | None = None) -> None:
        self.problems.append(Problem(code, message, where or part.where, hint))


def _is_null(part: Part) -> bool:
    return isinstance(part, Scalar) and not part.quoted and is_null(part.text)


def _unreadable(message: str, hint: str) -> WorkflowError:
    return WorkflowError([Problem("E100", message, hint=hint)])
