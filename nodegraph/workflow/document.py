"""Workflow files: YAML text to a `Document`, with file, line and column for every value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.node_types.spec import MISSING
from nodegraph.node_types.yaml_core import is_null
from nodegraph.text import described, did_you_mean, relative_path
from nodegraph.workflow.definitions import (
    FORMAT,
    NAME,
    NAME_RULE,
    PARAM_TYPES,
    PARAMS,
    TAKES,
    Document,
    Link,
    NodeDef,
    OutputDef,
    ParamDef,
    is_type_text,
    read_save,
    references,
)
from nodegraph.workflow.scalars import read_scalar
from nodegraph.workflow.text_file import decode, read_bytes
from nodegraph.workflow.yaml_tree import Mapping, Part, Scalar, Sequence, read_tree

_MERGE: Final = "<<"
_NO_MERGE: Final = "Write the entries out; '&name' and '*name' may repeat single values."
_BEGINNING: Final = "Begin with 'nodegraph: 1' and a mapping 'nodes:'."


def read(path: Path) -> Document:
    """Read a workflow file. Its name is the file's, unless it gives one. Raises WorkflowError with every mistake in its form."""
    file = relative_path(path)
    return parse(decode(read_bytes(path), file), file=file, name=path.stem)


def parse(text: str, *, file: str = "<text>", name: str = "workflow") -> Document:
    """Read a workflow from text. Error messages call it `file`. Raises WorkflowError with every mistake in its form."""
    document, problems = parse_parts(text, file=file, name=name)
    if problems:
        raise WorkflowError(problems)
    return document


def parse_parts(text: str, *, file: str, name: str) -> tuple[Document, list[Problem]]:
    """What can be read of a workflow, and every mistake in its form.

    Raises WorkflowError if nothing more can be said about it: it is not YAML, or has no nodes that can be read.
    """
    return _Reader(file).document(read_tree(text, file), Document(name))


def parse_value(text: str) -> Any:
    """A value as `--set` takes it: YAML on one line. Raises ValueError if it is not well-formed."""
    reader = _Reader("--set")
    try:
        value = reader.plain(read_tree(text, "--set"))
    except WorkflowError as error:
        raise ValueError(error.problems[0].message) from None
    if reader.problems:
        raise ValueError(reader.problems[0].message)
    return value


def parse_values(text: str, *, file: str) -> list[tuple[str, Any, Location]]:
    """The names and values of a preset, each with its location. Raises WorkflowError with every mistake in its form."""
    reader = _Reader(file)
    root = read_tree(text, file)
    if root is None or _is_null(root):
        return []
    values = []
    for name, key, part in reader._fields(root, "a preset"):
        value = reader.plain(part)
        reference = next(references(value), None)
        if reference is not None:
            message = f"'{name}' refers to {reference}. Expected a value"
            reader._problem("E110", message, part, f"'${reference}' is the text '{reference}'.")
        values.append((name, value, key.where))
    if reader.problems:
        raise WorkflowError(reader.problems)
    return values


def parse_fields(text: str, *, file: str) -> Any:
    """The value of YAML text; a mapping has text as keys. Raises WorkflowError if it is not well-formed, or has a key twice."""
    reader = _Reader(file)
    value = reader.plain(read_tree(text, file))
    if reader.problems:
        raise WorkflowError(reader.problems)
    return value


class _Reader:
    """Walks the tree of a workflow file and collects every problem instead of stopping at the first."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def document(self, root: Part | None, document: Document) -> tuple[Document, list[Problem]]:
        """`document`, filled in, and every problem. Raises WorkflowError if the section `nodes` or `params` cannot be read."""
        if not isinstance(root, Mapping):
            found = "nothing" if root is None or _is_null(root) else "a list" if isinstance(root, Sequence) else "text"
            where = root.where if root else Location(self.file, 1, 1)
            raise WorkflowError([Problem("E101", f"a workflow is a mapping; {self.file} holds {found}", where, _BEGINNING)])
        sections = self._sections(document)
        sections |= {
            "nodegraph": self._format,
            "name": lambda part: self._text(part, "name", lambda text: setattr(document, "name", text)),
            "workflows": lambda part: self._workflows(part, document),
            "sweep": lambda part: setattr(document, "sweep", self.plain(part)),
            "values": lambda part: self._values(part, document),
        }
        seen = set()
        is_readable = True
        for section, _, part in self._fields(root, "the workflow", sections):
            seen.add(section)
            sections[section](part)
            is_readable &= section not in ("params", "nodes") or isinstance(part, Mapping) or _is_null(part)
        for needed, hint in (("nodegraph", "Begin with 'nodegraph: 1'."), ("nodes", "Add a mapping 'nodes:'.")):
            if needed not in seen:
                self._problem("E101", f"the workflow has no '{needed}'", root, hint)
        if self.problems and not (is_readable and "nodes" in seen):
            raise WorkflowError(self.problems)
        return document, self.problems

    def plain(self, part: Part | None) -> Any:
        """The value of a part in Python: a reference, a scalar, a list or a mapping."""
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

    def _sections(self, document: Document) -> dict[str, Callable[[Part], None]]:
        """What reads each section that both a file and a workflow inside it can have."""
        return {
            "description": lambda part: self._text(part, "description", lambda text: setattr(document, "description", text)),
            "params": lambda part: self._params(part, document),
            "nodes": lambda part: self._nodes(part, document),
            "outputs": lambda part: self._outputs(part, document),
        }

    def _workflows(self, section: Part, document: Document) -> None:
        for name, key, part in self._named(section, "workflows"):
            inner = document.workflows[name] = Document(name)
            sections = self._sections(inner)
            sections["folder"] = functools.partial(self._folder, inner)
            seen = set()
            for field, _, field_part in self._fields(part, f"workflow '{name}'", sections):
                seen.add(field)
                sections[field](field_part)
            if "nodes" not in seen and isinstance(part, Mapping):
                self._problem("E101", f"workflow '{name}' has no 'nodes'", key, "Add a mapping 'nodes:'.")

    def _folder(self, document: Document, part: Part) -> None:
        self._text(part, "folder", lambda text: setattr(document, "folder", text))

    def _values(self, part: Part, document: Document) -> None:
        document.values = {name: self.plain(value) for name, _, value in self._fields(part, "'values'")}

    def _format(self, part: Part) -> None:
        version = self.plain(part)
        if version != FORMAT or isinstance(version, bool):
            hint = f"This version reads format {FORMAT}: write 'nodegraph: {FORMAT}'."
            self._problem("E101", f"there is no file format {described(version)}", part, hint)

    def _params(self, section: Part, document: Document) -> None:
        for name, _, part in self._named(section, "params"):
            fields: dict[str, Any] = {"default": MISSING}
            where = part.where
            before = len(self.problems)
            if isinstance(part, Mapping):
                for key, _, field_part in self._fields(part, f"param '{name}'", ("default", "type", "min", "max", "help")):
                    fields[key] = self._param_field(key, field_part)
                    where = field_part.where if key == "default" else where
            else:
                fields["default"] = self.plain(part)
            reference = next(references(fields["default"]), None)
            if reference is not None:
                message = f"the default of param '{name}' refers to {reference}. Expected a value"
                self._problem("E114", message, part, f"'${reference}' is the text '{reference}'.", where=where)
            elif fields.get("min") is not None and fields.get("max") is not None and fields["min"] > fields["max"]:
                self._problem("E114", f"param '{name}' has a 'min' greater than its 'max'", part)
            if len(self.problems) > before:
                document.unread.add(name)
            else:
                document.params[name] = ParamDef(name=name, where=where, **fields)

    def _param_field(self, field: str, part: Part) -> Any:
        value = self.plain(part)
        if field == "type" and not is_type_text(value):
            hint = did_you_mean(str(value), PARAM_TYPES) or f"The types are {', '.join(PARAM_TYPES)}."
            self._problem("E114", f"there is no param type {described(value)}", part, hint)
            return None
        if field in ("min", "max") and (isinstance(value, bool) or not isinstance(value, int | float)):
            self._problem("E114", f"'{field}' of a param must be a number, not {described(value)}", part)
            return None
        if field == "help":
            return "" if value is None else str(value)
        return value

    def _nodes(self, section: Part, document: Document) -> None:
        for name, key, part in self._named(section, "nodes"):
            before = len(self.problems)
            self._node(name, key, part, document.nodes)
            if len(self.problems) > before:
                document.unread.add(name)

    def _node(self, name: str, key: Part, part: Part, nodes: dict[str, NodeDef]) -> None:
        if name == PARAMS:
            self._problem("E101", "a node cannot be called 'params'", key, "'$params.x' is a param; use another name.")
            return
        if not isinstance(part, Mapping):
            self._problem("E101", f"node '{name}' is not a mapping", part, f"Write '{name}: {{use: TYPE, ...}}'.")
            return
        inputs, locations = {}, {}
        for input, input_key, input_part in self._fields(part, f"node '{name}'"):
            inputs[input] = self.plain(input_part)
            locations[input] = input_key.where, input_part.where
        use, takes = inputs.pop("use", None), inputs.pop(TAKES, "")
        if not isinstance(takes, str):
            message = f"'{TAKES}' of node '{name}' must be text, not {described(takes)}"
            self._problem("E101", message, part, f"Write '{TAKES}: about 5 minutes'.", where=locations[TAKES][1])
        elif isinstance(use, str):
            nodes[name] = NodeDef(name=name, type=use, inputs=inputs, where=key.where, takes=takes, locations=locations)
        elif use is None:
            self._problem("E101", f"node '{name}' has no type", key, "Add 'use: TYPE'.")
        else:
            message = f"'use' of node '{name}' must be the name of a node type, not {described(use)}"
            self._problem("E101", message, part, "Write 'use: TYPE'.", where=locations["use"][1])

    def _outputs(self, section: Part, document: Document) -> None:
        for name, _, part in self._named(section, "outputs"):
            parts = {"from": part}
            if isinstance(part, Mapping):
                parts = {key: p for key, _, p in self._fields(part, f"output '{name}'", ("from", "save"))}
            link, save = self.plain(parts.get("from")), self.plain(parts.get("save"))
            document.unread.add(name)
            if not isinstance(link, Link):
                self._problem("E115", f"output '{name}' has no link to a node", part, f"Write '{name}: {{from: $NODE}}'.")
                continue
            try:
                file, options = read_save(save)
            except ValueError as error:
                self._problem("E115", f"'save' of output '{name}' {error}", parts["save"], "Put the name in quotes.")
                continue
            document.unread.remove(name)
            document.outputs[name] = OutputDef(name, link, file, parts["from"].where, options=options)

    # --- pieces

    def _named(self, section: Part, what: str) -> Iterator[tuple[str, Part, Part]]:
        """Name, key and value of each entry of a section, which may be empty."""
        if _is_null(section):
            return
        for name, key, part in self._fields(section, f"'{what}'"):
            if NAME.fullmatch(name):
                yield name, key, part
            else:
                self._problem("E101", f"'{name}' in '{what}' is not a name", key, NAME_RULE)

    def _fields(self, part: Part, what: str, known: Collection[str] | None = None) -> Iterator[tuple[str, Part, Part]]:
        """Name, key and value of each entry of a mapping. Anything else, and a repeated or unknown key, is a problem."""
        if not isinstance(part, Mapping):
            self._problem("E101", f"{what} must be a mapping", part)
            return
        seen: dict[str, Part] = {}
        for key, value in part.pairs:
            if not isinstance(key, Scalar):
                self._problem("E101", f"a key in {what} is not a name", key)
            elif key.text == _MERGE and not key.quoted:
                self._problem("E101", f"{what} has the merge key '{_MERGE}', which is not supported", key, _NO_MERGE)
            elif key.text in seen:
                message = f"{what} has '{key.text}' twice; the first is on line {seen[key.text].where.line}"
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
            self._problem("E101", f"'{what}' must be text, not {described(value)}", part, "Put it in quotes.")

    def _problem(self, code: str, message: str, part: Part, hint: str = "", *, where: Location | None = None) -> None:
        self.problems.append(Problem(code, message, where or part.where, hint))


def _is_null(part: Part) -> bool:
    return isinstance(part, Scalar) and not part.quoted and is_null(part.text)
