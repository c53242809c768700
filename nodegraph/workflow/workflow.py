"""Workflows composed in Python: `Workflow.add`, `param` and `output`. A YAML file gives the same object."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.node_types.spec import MISSING, NodeSpec
from nodegraph.text import described, did_you_mean, either, relative_path
from nodegraph.workflow.definitions import (
    EACH,
    NAME,
    NAME_RULE,
    PARAMS,
    RESERVED_INPUTS,
    SWITCH,
    Document,
    Link,
    NodeDef,
    OutputDef,
    ParamDef,
    ParamRef,
    is_composed,
    read_save,
    references,
)
from nodegraph.workflow.handles import CheckedHandle, Handle, NodeHandle, Outputs, Params, PortHandle, link_of
from nodegraph.workflow.recorded import RecordedFiles
from nodegraph.workflow.text_file import decode, read_bytes

if TYPE_CHECKING:
    from nodegraph.plugins.manager import Plugins

_MOST_USERS: Final = 4  # that a message lists


class Workflow(Document):
    """A workflow: nodes by name, params, and the outputs that are wanted.

    `base` is the folder that relative paths in its inputs start from, `file` the file that it was read from, if it was.
    `workflow["node"]` and `workflow["node.port"]` are handles of nodes, also of those that were read from a file. A call that
    raises leaves the workflow unchanged.

    With `plugins`, as `Engine.workflow` gives them, an unknown node type, input or port fails at the line that names it. Without
    them, the engine reports it, with that line, when it checks the workflow.

    A name that is taken is an error. In an interactive session and in a notebook it is replaced instead, so that a cell can run
    again.
    """

    def __init__(
        self, name: str = "workflow", description: str = "", *, base: Path | None = None, plugins: Plugins | None = None
    ) -> None:
        super().__init__(name, description)
        self._plugins = plugins
        self.base = Path.cwd() if base is None else base
        self.file: Path | None = None
        self.recorded: RecordedFiles | None = None
        self.notes: tuple[str, ...] = ()  # what an importer says about it
        self.params: Params = Params()
        self.outputs: Outputs = Outputs(self)
        self._text: str | None = None  # that it was read from,
        self._file_name = name  # and its name unless the text gives another

    def __repr__(self) -> str:
        sizes = (("node", self.nodes), ("param", self.params), ("output", self.outputs))
        counts = ", ".join(f"{len(things)} {noun if len(things) == 1 else f'{noun}s'}" for noun, things in sizes)
        return f"<Workflow {self.name}: {counts}>"

    def _repr_svg_(self) -> str:
        """The graph, for notebooks."""
        from nodegraph.workflow.diagram.diagram import diagram_of
        from nodegraph.workflow.diagram.svg import as_svg

        return as_svg(diagram_of(self.nodes, [(name, output.link.node) for name, output in self.outputs.items()]), self.name)

    def __getitem__(self, name: str) -> Handle:
        """The handle of a node ("sampled"), or of one of its outputs ("loaded.size"). Raises KeyError if there is no such node."""
        node, _, port = name.partition(".")
        if node not in self.nodes:
            hint = did_you_mean(node, self.nodes) or f"Its nodes are {', '.join(self.nodes)}"
            raise KeyError(f"the workflow has no node '{node}'. {hint}")
        handle = self._handle(node)
        try:
            return getattr(handle, port) if port else handle
        except AttributeError as error:
            raise KeyError(str(error)) from None

    def _handle(self, node: str) -> NodeHandle:
        """The handle of a node, which checks the names of ports if the node's type is known."""
        type = self.nodes[node].type
        if self._plugins is None or type not in self._plugins.nodes:
            return NodeHandle(self, node)
        return CheckedHandle(self, node, [port.name for port in self._plugins.nodes.get(type).value.outputs])

    def add(self, type: str, /, *, name: str | None = None, **inputs: Any) -> NodeHandle:
        """Add a node of `type`. An input is a literal, a handle of another node, a param, or a list or mapping of these.

        Without `name`, its name is made from its type. Raises ValueError if the name is taken or not valid, or if a handle belongs
        to another workflow or to a node that was removed; and if the workflow knows the node types, for an unknown type or input.
        """
        spec = self._spec(type, inputs)
        name = self._free_name(type) if name is None else _checked_name("node", name, (*_taken(self.nodes), PARAMS))
        self.nodes[name] = NodeDef(name, type, self._inputs(inputs), where=_calling_line())
        return NodeHandle(self, name) if spec is None else CheckedHandle(self, name, [port.name for port in spec.outputs])

    def _spec(self, type: str, inputs: Mapping[str, Any]) -> NodeSpec | None:
        """The node type; None if the workflow does not know the types, or for a `Switch`. Raises ValueError."""
        if self._plugins is None or type == SWITCH:
            return None
        types = self._plugins.nodes
        if type not in types:
            raise ValueError(f"there is no node type '{type}'. {types.suggest(type)}{self._plugins.why_broken()}".rstrip())
        spec: NodeSpec = types.get(type).value
        lists = inputs.get(EACH)
        for input in (*inputs, *(lists if isinstance(lists, dict) else ())):
            if input not in RESERVED_INPUTS and spec.input(input) is None:
                names = [port.name for port in spec.inputs]
                listed = f"Its inputs are {', '.join(names)}" if names else "It has no inputs"
                raise ValueError(f"{type} has no input '{input}'. {did_you_mean(input, names) or listed}")
        return spec

    def use(self, workflow: Workflow | Path | str, /, *, name: str | None = None, **inputs: Any) -> CheckedHandle:
        """Use another workflow, or the workflow in a file, as a node: its params are the inputs, its outputs those of the handle.

        `each={"input": [...]}` maps it over lists, and `repeat={"times": 3, "carry": {"input": "output"}}` runs it several times.
        A relative path starts from the current directory.

        Raises WorkflowError if the file has mistakes in its form, and ValueError for an input that is not a param, for a param that
        needs a value, and as `add` does.
        """
        inner = workflow if isinstance(workflow, Workflow) else Workflow.load(workflow)
        lists = inputs.get(EACH)
        known = [*(input for input in inputs if input not in RESERVED_INPUTS), *(lists if isinstance(lists, dict) else ())]
        for input in known:
            if input not in inner.params:
                hint = did_you_mean(input, inner.params) or f"Its params are {', '.join(inner.params)}"
                raise ValueError(f"workflow '{inner.name}' has no param '{input}'. {hint}")
        missing = [param.name for param in inner.params.values() if param.default is MISSING and param.name not in known]
        if missing:
            raise ValueError(f"workflow '{inner.name}' needs a value for {either(missing)}. Add {missing[0]}=...")
        taken = (*_taken(self.nodes), PARAMS)
        name = self._free_name(inner.name) if name is None else _checked_name("node", name, taken)
        node = NodeDef(name, self._use_of(inner, workflow), self._inputs(inputs), where=_calling_line())
        self.nodes[name] = node
        return CheckedHandle(self, name, inner.outputs)

    def with_(self, values: Mapping[str, Any]) -> Workflow:
        """A copy in which params ("seed") and inputs of nodes ("sampled.steps", "sampled.options.eta") have other values.

        Raises ValueError, with a suggestion, for a name that is neither.
        """
        changed = Workflow(self.name, self.description, base=self.base, plugins=self._plugins)
        changed.params.update(self.params)
        changed.nodes = dict(self.nodes)
        changed.outputs.update(self.outputs)
        changed.workflows, changed.sweep, changed.unread = dict(self.workflows), self.sweep, set(self.unread)
        changed.file, changed.recorded, changed.values = self.file, self.recorded, dict(self.values)
        changed.notes = self.notes
        changed._text, changed._file_name = self._text, self._file_name
        where = _calling_line()
        for name, value in values.items():
            node, _, rest = name.partition(".")
            if name in self.params:
                changed.params[name] = replace(changed.params[name], default=value, where=where)
            elif rest and node in changed.nodes:
                before = changed.nodes[node]
                input, *keys = rest.split(".")
                linked = self._linked(value)
                whole = with_member(before.inputs.get(input), keys, linked) if keys else linked
                locations = {**before.locations, input: (where, where)}
                changed.nodes[node] = replace(before, inputs={**before.inputs, input: whole}, locations=locations)
            else:
                dotted = (f"{other.name}.{input}" for other in self.nodes.values() for input in other.inputs)
                hint = did_you_mean(name, [*self.params, *dotted])
                raise ValueError(f"the workflow has no param or input '{name}'. {hint}".rstrip())
        return changed

    def _use_of(self, inner: Workflow, workflow: Workflow | Path | str) -> str:
        """What a node writes after `use:` for another workflow; one without a file becomes a workflow of this one."""
        if not isinstance(workflow, Workflow):
            path = Path(workflow).resolve()
            try:
                relative = Path(os.path.relpath(path, self.base)).as_posix()
            except ValueError:  # another drive
                return path.as_posix()
            return relative if relative.startswith("../") else f"./{relative}"
        name = re.sub(r"[^A-Za-z0-9_-]", "_", inner.name).lstrip("-0123456789") or "workflow"
        names = (name, *(f"{name}_{k}" for k in range(2, len(self.workflows) + 3)))
        free = next(name for name in names if self.workflows.get(name, inner) is inner)
        self.workflows[free] = inner
        return f"#{free}"

    def replace(self, node: NodeHandle | str, type: str | None = None, /, **inputs: Any) -> NodeHandle:
        """Give a node, by its handle or name, another type and other inputs; links to it stay.

        Without `type`, the node keeps its type, and the inputs that are left out. Raises KeyError if there is no such node, and
        ValueError as `add` does.
        """
        before = self._node(node)
        if type is not None or not is_composed(before):
            self._spec(before.type if type is None else type, inputs)
        new_inputs = self._inputs(inputs)
        if type is None:
            where = _calling_line()
            moved = dict.fromkeys(new_inputs, (where, where))
            changed = replace(before, inputs={**before.inputs, **new_inputs}, locations={**before.locations, **moved})
        else:
            changed = NodeDef(before.name, type, new_inputs, where=_calling_line())
        self.nodes[before.name] = changed
        return self._handle(before.name)

    def remove(self, node: NodeHandle | str) -> None:
        """Remove a node, by its handle or name.

        Raises KeyError if there is no such node, and ValueError if another node or an output needs it: replace or remove that
        first.
        """
        name = self._node(node).name
        users = [f"node '{other.name}'" for other in self.nodes.values() if other.name != name and _uses(other, Link, name)]
        users += [f"output '{output.name}'" for output in self.outputs.values() if output.link.node == name]
        self._refuse_to_remove(f"node '{name}'", users)
        del self.nodes[name]

    def remove_param(self, name: str) -> None:
        """Remove a param. Raises KeyError if there is none of this name, and ValueError if a node needs it."""
        if name not in self.params:
            raise KeyError(f"the workflow has no param '{name}'. {did_you_mean(name, self.params)}".rstrip())
        users = [f"node '{node.name}'" for node in self.nodes.values() if _uses(node, ParamRef, name)]
        self._refuse_to_remove(f"param '{name}'", users)
        del self.params[name]

    def remove_output(self, name: str) -> None:
        """Remove an output. Its node stays. Raises KeyError if there is none of this name."""
        if name not in self.outputs:
            raise KeyError(f"the workflow has no output '{name}'. {did_you_mean(name, self.outputs)}".rstrip())
        del self.outputs[name]

    def param(
        self,
        name: str,
        default: Any = MISSING,
        *,
        type: str | None = None,
        min: float | None = None,
        max: float | None = None,
        help: str = "",
    ) -> ParamRef:
        """Add a param and return a reference to use as an input. Without a default, it must be given where the workflow is used.

        Raises ValueError if the name is taken or not valid.
        """
        self.params[_checked_name("param", name, _taken(self.params))] = ParamDef(
            name=name, default=default, type=type, min=min, max=max, help=help, where=_calling_line()
        )
        return ParamRef(name)

    def output(self, name: str, handle: Handle, save: str | dict[str, Any] | None = None) -> None:
        """Add an output: the value of `handle`, saved under the file name that the template `save` describes.

        With options of the file format, `save` is a mapping: `{"file": "{workflow}", "quality": 90}`. Raises ValueError if the
        name is taken or not valid, or if `handle` is not a node of this workflow.
        """
        link = self._linked(handle)
        if not isinstance(link, Link):
            raise ValueError(f"output '{name}' is {described(handle)}. Expected a node that 'add' returned, or one of its outputs")
        try:
            file, options = read_save(save)
        except ValueError as error:
            raise ValueError(f"output '{name}': 'save' {error}") from None
        checked = _checked_name("output", name, _taken(self.outputs))
        self.outputs[checked] = OutputDef(name, link, file, _calling_line(), options=options)

    @classmethod
    def load(cls, path: Path | str) -> Workflow:
        """Read a YAML file. Raises WorkflowError with every mistake in its form."""
        from nodegraph.workflow import document  # imports yaml, which `import nodegraph` does not need

        path = Path(path)
        file = relative_path(path)
        text = decode(read_bytes(path), file)
        content = document.parse(text, file=file, name=path.stem)
        workflow = cls._of(content, path.resolve().parent, text=text, file_name=path.stem)
        workflow.file = path.absolute()
        return workflow

    @classmethod
    def parse(cls, text: str, *, file: str = "<text>", base: Path | None = None) -> Workflow:
        """Read YAML text. Error messages call it `file`. Raises WorkflowError with every mistake in its form."""
        from nodegraph.workflow import document

        return cls._of(document.parse(text, file=file), base, text=text)

    def dump(self) -> str:
        """The workflow as YAML: reading it gives the same workflow.

        If it was read from text and only values have changed, comments, order and style of that text stay, also a name that it
        only has from its file. Raises WorkflowError with every value that YAML cannot hold, such as an object given in Python.
        """
        from nodegraph.workflow.dump import dump

        text = dump(self)
        return text if self._text is None else self._in_style(self._text, text)

    def _in_style(self, before: str, after: str) -> str:
        """What `dump` writes (`after`), in the style of the text that the workflow was read from, if that is possible."""
        from nodegraph.workflow.dump import dump
        from nodegraph.workflow.patch import patched

        changed = patched(before, dump(self._read(before)), after)
        if changed is None:
            return after
        try:
            same = dump(self._read(changed)) == after
        except WorkflowError:
            return after
        return changed if same else after

    def _read(self, text: str) -> Document:
        """The workflow in `text`, which is called as this one if it has no name."""
        from nodegraph.workflow import document

        return document.parse(text, name=self._file_name)

    @classmethod
    def parse_parts(cls, text: str, *, file: str, name: str, base: Path) -> tuple[Workflow, list[Problem]]:
        """What can be read of a workflow, and every mistake in its form. Raises WorkflowError if no nodes can be read."""
        from nodegraph.workflow import document

        parts, problems = document.parse_parts(text, file=file, name=name)
        return cls._of(parts, base, text=text, file_name=name), problems

    @classmethod
    def _of(cls, document: Document, base: Path | None, *, text: str, file_name: str = "workflow") -> Workflow:
        workflow = cls(document.name, document.description, base=base)
        workflow._text, workflow._file_name = text, file_name
        workflow.params.update(document.params)
        workflow.nodes = document.nodes
        workflow.outputs.update(document.outputs)
        workflow.unread, workflow.workflows, workflow.sweep = document.unread, document.workflows, document.sweep
        workflow.values = document.values
        return workflow

    def _free_name(self, type: str) -> str:
        """The type's name in lower case with words separated, and a number if it is taken: ReadText gives read_text_2."""
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z])", "_", type).lower()
        stem = re.sub(r"[^a-z0-9_-]", "_", words).lstrip("-0123456789") or "node"
        names = (stem, *(f"{stem}_{k}" for k in range(2, len(self.nodes) + 4)))
        return next(name for name in names if name not in self.nodes and name != PARAMS)

    def _node(self, node: object) -> NodeDef:
        """The definition of a node, by its handle or name. Raises KeyError, and ValueError for a handle of another workflow."""
        if isinstance(node, NodeHandle):
            return self.nodes[self._linked(node).node]
        if not isinstance(node, str):
            raise ValueError(f"expected a node that 'add' returned, or its name, found {described(node)}")
        return self.nodes[link_of(self[node]).node]

    def _refuse_to_remove(self, what: str, users: Sequence[str]) -> None:
        if users:
            more = "" if len(users) <= _MOST_USERS else f" and {len(users) - _MOST_USERS} more"
            raise ValueError(f"{what} is needed by {', '.join(users[:_MOST_USERS])}{more}. Replace or remove that first")

    def _inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if "use" in inputs:
            raise ValueError("an input cannot be called 'use': in a workflow that is the type of the node")
        return {key: self._linked(value) for key, value in inputs.items()}

    def _linked(self, value: Any) -> Any:
        """`value` with links instead of handles, through lists and mappings, which are copied."""
        if isinstance(value, NodeHandle | PortHandle):
            if value._workflow is not self:
                raise ValueError(f"{described(value)} is a node of another workflow. A link cannot leave its workflow")
            if value._node not in self.nodes:
                raise ValueError(f"{described(value)} is a node that was removed. Add it again")
            return link_of(value)
        if isinstance(value, list | tuple):
            return [self._linked(item) for item in value]
        if isinstance(value, dict):
            return {key: self._linked(item) for key, item in value.items()}
        return value


def with_member(mapping: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of `mapping` with the member at the path `keys` replaced; what is not a mapping becomes one."""
    key, *rest = keys
    members = dict(mapping) if isinstance(mapping, dict) else {}
    return {**members, key: with_member(members.get(key), rest, value) if rest else value}


def _checked_name(what: str, name: str, taken: Iterable[str]) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} '{name}': this is not a valid name. {NAME_RULE}")
    if name in taken:
        raise ValueError(f"{what} '{name}': this name is taken. Choose another")
    return name


def _uses(node: NodeDef, kind: type[Link] | type[ParamRef], name: str) -> bool:
    """Whether an input of a node refers to the node or param called `name`."""
    refs = (ref for value in node.inputs.values() for ref in references(value) if isinstance(ref, kind))
    return any((ref.node if isinstance(ref, Link) else ref.name) == name for ref in refs)


def _taken(names: Iterable[str]) -> Iterable[str]:
    """The names that cannot be used again: none if the caller's caller is code of a notebook or an interactive session."""
    code = sys._getframe(2).f_globals
    is_interactive = code.get("__name__") == "__main__" and "__file__" not in code
    return () if is_interactive else names


def _calling_line() -> Location:
    """Where the caller of this function's caller is: the line that added something to a workflow."""
    caller = sys._getframe(2)
    return Location(relative_path(caller.f_code.co_filename), caller.f_lineno, 1)
