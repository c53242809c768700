"""The paths of outputs.

`save` is a template below the output folder, in which params, `{node.input}`, `{workflow}`, `{output}`, `{date}`, `{time}`, `{run}`
and `{key}` are filled in and `{{` is a brace. Its extension names the file format, if the type of the value has several. A value
that becomes several files, such as a batch, gets -0, -1, ... before the extension.
"""

from __future__ import annotations

import ntpath
import posixpath
import re
import string
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath, PurePosixPath
from typing import Any, Final

from nodegraph.errors import NodegraphError, Problem, WorkflowError
from nodegraph.graph.graph import Graph, Output, Value
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.codecs import Codecs
from nodegraph.text import as_file_name, did_you_mean

DEFAULT_TEMPLATE: Final = "{workflow}-{output}"

KEY_DIGITS: Final = 12
"""How much of a node's key is in a file name."""

_WITHOUT_KEY = "no-key"
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.IGNORECASE)
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,10}")


class FileNameError(NodegraphError):
    """The `save` of an output cannot be a file below the output folder."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a file name can say about a run: its id, when it began (in seconds since 1970), and the keys of its nodes."""

    run: str
    started: float
    keys: Mapping[str, str]

    def key(self, node: str) -> str:
        """The beginning of a node's key, or "no-key"."""
        return self.keys.get(node, _WITHOUT_KEY)[:KEY_DIGITS]


def file_names(graph: Graph, codecs: Codecs, facts: RunFacts | None = None) -> dict[str, PurePosixPath]:
    """The path of each output, below the output folder and without its extension.

    Without `facts`, the run has not begun: the names are checked with examples of its id, time and keys.

    Raises WorkflowError with every template that has an unknown placeholder, leads out of the folder, asks for a file format
    other than the output's, or names the same file as another output.
    """
    names: dict[str, PurePosixPath] = {}
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    first: dict[str, str] = {}  # by output: the full name of the first item that has a name
    params = {name: _param(graph, name) for name in graph.params}
    of_run = _EXAMPLE_OF_RUN if facts is None else _of_run(facts)
    facts = facts or _example(graph)
    for output in graph.outputs.values():
        if output.index and "{key}" not in (output.save or ""):  # the same as that of the list's first item
            if output.name in first:
                names[output.full_name] = names[first[output.name]]
            continue
        try:
            name, extension = _name(output, graph, {**of_run, "key": facts.key(output.link.node), **params}, codecs)
        except FileNameError as error:
            problems.append(Problem("E117", f"output '{output.name}': {error}", output.where))
            continue
        other = taken.setdefault(f"{name}{_number(output)}{extension}".casefold(), output.name)
        if other != output.name:
            same = other.casefold() == output.name.casefold()
            hint = "Their names differ only in case: rename one." if same else "Put {output} into 'save'."
            problems.append(Problem("E118", f"outputs '{other}' and '{output.name}' go to the same file", output.where, hint))
        names[output.full_name] = name
        first.setdefault(output.name, output.full_name)
    if problems:
        raise WorkflowError(problems)
    return names


def numbers(count: int, output: Output | None = None, *, is_list: bool = False) -> list[str]:
    """The ends of the file names of one value that becomes `count` files; before them the index of an item of a list.

    The items of a value that `is_list` have numbers even if there is only one.
    """
    index = "" if output is None else _number(output)
    return [index] if count == 1 and not is_list else [f"{index}-{i}" for i in range(count)]


def _number(output: Output) -> str:
    return "" if output.index is None else f"-{output.index}"


def exporter(codec: Codec, output: Output) -> Codec:
    """The codec in the file format that `save` names by its extension, with its options. Raises FileNameError if there is none."""
    extension = posixpath.splitext(output.save or "")[1]
    if not _EXTENSION.fullmatch(extension):  # of the template: a name that is filled in may end in "-5.0"
        extension = codec.extension
    if extension.lower() == codec.extension and not output.options:
        return codec
    in_format: Callable[[str, Mapping[str, Any]], Codec] | None = getattr(codec, "in_format", None)  # as FormatsCodec has it
    try:
        if in_format is not None:
            return in_format(extension.lower(), output.options)
    except ValueError as error:
        raise FileNameError(f"save: {error}") from None
    if output.options:
        raise FileNameError(f"save: a {codec.extension} file has no options, found {' and '.join(output.options)}. Leave it out")
    if extension.lower() != codec.extension:
        raise FileNameError(f"save: this output is written as {codec.extension}, found {extension}")
    return codec


def _name(output: Output, graph: Graph, params: Mapping[str, Any], codecs: Codecs) -> tuple[PurePosixPath, str]:
    """The path of an output without its extension, and its extension, "" if it is not known yet."""
    template = output.save if output.save is not None else DEFAULT_TEMPLATE
    kind = graph.nodes[output.link.node].spec.output(output.link.port)
    codec = codecs.for_type(kind.type) if kind is not None else None
    known = {**params, "workflow": graph.workflow, "output": output.name}
    path, extension = PurePosixPath("".join(_filled(template, known, graph))), ""
    if codec is not None:
        extension = exporter(codec, output).extension
        if path.name.lower().endswith(extension) and len(path.name) > len(extension):
            path = path.with_name(path.name[: -len(extension)])
    _check(path, template)
    return path, extension


def _of_run(facts: RunFacts) -> dict[str, str]:
    """The placeholders that the workflow does not determine, but for the key. A param of the same name comes first."""
    began = time.localtime(facts.started)
    return {"date": time.strftime("%Y-%m-%d", began), "time": time.strftime("%H-%M-%S", began), "run": facts.run}


def _example(graph: Graph | None = None) -> RunFacts:
    outputs = () if graph is None else graph.outputs.values()
    keys = {output.link.node: f"{i:0{KEY_DIGITS}x}" for i, output in enumerate(outputs)}
    return RunFacts(run="20260101-000000-000000-0000", started=0.0, keys=keys)


_EXAMPLE_OF_RUN: Final = _of_run(_example())


def _filled(template: str, known: Mapping[str, Any], graph: Graph) -> Iterator[str]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise FileNameError(f"save: '{template}' is not a template ({error}). Write {{{{ for a brace") from None
    for literal, field, spec, conversion in parts:
        yield literal
        if field is None:
            continue
        if spec or conversion or (field not in known and not _names_input(field, graph)):
            placeholder = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            hint = did_you_mean(field, known) or f"There are {', '.join(f'{{{name}}}' for name in sorted(known))}, {{node.input}}"
            raise FileNameError(f"save: there is no placeholder {{{placeholder}}}. {hint}".rstrip("."))
        yield as_file_name(known[field] if field in known else _input(field, graph))


def _names_input(name: str, graph: Graph) -> bool:
    node, _, input = name.partition(".")
    return node in graph.nodes and input in graph.nodes[node].inputs


def _input(name: str, graph: Graph) -> Any:
    """The value of "node.input" in a file name; for a path, the name of its file without the extension."""
    node, _, input = name.partition(".")
    literal = graph.nodes[node].inputs[input]
    if not isinstance(literal, Value):
        raise FileNameError(f"save: {{{name}}} comes from another node, so its value is not known. Expected an input with a value")
    if literal.entry is not None:
        return literal.entry.name
    if literal.digest is not None:
        return literal.digest[:KEY_DIGITS]
    if literal.files is not None:
        written = graph.resolved.nodes[node].inputs.get(input, literal.value)
        return PurePath(written if isinstance(written, str) else str(literal.value)).stem
    return literal.value


def _param(graph: Graph, name: str) -> Any:
    """A param in a file name; for a path, the name of its file without the extension."""
    value, definition = graph.params[name], graph.resolved.params.get(name)
    return PurePath(str(value)).stem if definition is not None and definition.type == "path" else value


def _check(path: PurePosixPath, template: str) -> None:
    if path.is_absolute() or ntpath.splitdrive(path)[0] or ".." in path.parts:
        raise FileNameError(f"save: '{template}' leads out of the output folder. Give a path below it; --out names another folder")
    if not path.name or template.endswith("/"):
        raise FileNameError(f"save: '{template}' names no file")
    for part in path.parts:
        has_surrogates = any("\ud800" <= char <= "\udfff" for char in part)
        if has_surrogates or _UNSAFE.search(part) or _RESERVED.fullmatch(part) or part != part.rstrip(". "):
            raise FileNameError(f"save: '{part}' is not a file name on every platform. Folders are separated by /")
        if len(part.encode(errors="replace")) > 200:
            raise FileNameError(f"save: '{part[:40]}...' is too long for a file name. Leave a placeholder out")
