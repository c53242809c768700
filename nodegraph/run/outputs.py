"""Writing outputs: their paths, and complete files that contain the workflow that made them.

`save` is a template below the output folder, in which `{workflow}`, `{output}` and params are filled in and `{{` is a brace.
A value that becomes several files, such as a batch, gets -0, -1, ... before the extension.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final

from nodegraph.cache.cache import Cache
from nodegraph.cache.store.store import LostResultError, StoredValue
from nodegraph.errors import NodegraphError, OutputError, Problem, WorkflowError
from nodegraph.files import replacing
from nodegraph.graph.graph import Graph, Output
from nodegraph.plugins.codecs import Codecs
from nodegraph.text import as_file_name, did_you_mean

DEFAULT_TEMPLATE: Final = "{workflow}-{output}"

_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]+')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.IGNORECASE)
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,10}")


class FileNameError(NodegraphError):
    """The `save` of an output cannot be a file below the output folder."""


def file_names(graph: Graph, codecs: Codecs) -> dict[str, PurePosixPath]:
    """The path of each output, below the output folder and without its extension.

    Raises WorkflowError with every template that has an unknown placeholder, leads out of the folder, asks for a file format
    other than the output's, or names the same file as another output.
    """
    names: dict[str, PurePosixPath] = {}
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    params = {name: _param(graph, name) for name in graph.params}
    for output in graph.outputs.values():
        try:
            name = _name(output, graph, params, codecs)
        except FileNameError as error:
            problems.append(Problem("E117", f"output '{output.name}': {error}", output.where))
            continue
        other = taken.setdefault(str(name).casefold(), output.name)
        if other != output.name:
            hint = "Put {output} into 'save'."
            problems.append(Problem("E118", f"outputs '{other}' and '{output.name}' go to the same file", output.where, hint))
        names[output.name] = name
    if problems:
        raise WorkflowError(problems)
    return names


class Writer:
    """Writes the outputs of one run below `folder`. `metadata()` goes into each file whose format can hold it.

    A relative folder starts at `directory`, even if a node changes the current directory. Returned paths begin with `folder` as it
    was given.

    Raises WorkflowError as `file_names` does.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        cache: Cache,
        metadata: Callable[[], Mapping[str, str]],
        *,
        directory: Path,
    ) -> None:
        self.folder = folder
        self._directory = directory
        self._names = file_names(graph, cache.codecs)
        self._cache, self._metadata = cache, metadata
        self._written: dict[Path, str] = {}

    def prepare(self) -> None:
        """Create the folders and check that files can be written there, before anything runs. Raises OutputError."""
        for folder in sorted({self._directory / self._path(name).parent for name in self._names}):
            if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self._directory / self.folder)):
                raise OutputError(f"[E211] {folder} leads out of the output folder {self.folder}. Remove the link")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".nodegraph-{os.urandom(4).hex()}.tmp"
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise _unwritable(folder, error) from error

    def write(self, output: Output, stored: StoredValue | None, value: Callable[[], Any]) -> list[Path]:
        """Write an output over that of an earlier run. Returns the paths. Raises OutputError.

        `stored`: how the value is stored, None if it is not.
        """
        codec = self._cache.codec_of(stored) if stored is not None else self._cache.codec(value())
        if codec is None:
            kind = type(value()).__name__
            raise OutputError(f"[E212] output '{output.name}' is {kind}, which cannot be written to a file. Name another output")
        try:
            metadata = self._metadata()
            files = self._cache.export(codec, stored.digest if stored is not None else None, value)
            files = [codec.embed(data, metadata) for data in files]
        except LostResultError:
            raise
        except Exception as error:
            raise OutputError(f"[E212] output '{output.name}' cannot be made a {codec.extension} file: {error}") from error
        base = self._path(output.name)
        paths = []
        for suffix, data in zip(numbers(len(files)), files, strict=True):
            path = base.with_name(f"{base.name}{suffix}{codec.extension}")
            owner = self._written.setdefault(path, output.name)
            if owner != output.name:
                raise OutputError(f"[E213] outputs '{owner}' and '{output.name}' both go to {path}. Put {{output}} into 'save'")
            try:
                with replacing(self._directory / path) as temporary:
                    temporary.write_bytes(data)
            except OSError as error:
                raise _unwritable(path, error) from error
            paths.append(path)
        return paths

    def _path(self, name: str) -> Path:
        return self.folder / self._names[name]


def numbers(count: int) -> list[str]:
    """The ends of the file names of one value that becomes `count` files."""
    return [""] if count == 1 else [f"-{i}" for i in range(count)]


def _name(output: Output, graph: Graph, params: Mapping[str, Any], codecs: Codecs) -> PurePosixPath:
    template = output.save if output.save is not None else DEFAULT_TEMPLATE
    kind = graph.nodes[output.link.node].spec.output(output.link.port)
    codec = codecs.for_type(kind.type) if kind is not None else None
    known = {**params, "workflow": graph.workflow, "output": output.name}
    path = PurePosixPath("".join(_filled(template, known)))
    if codec is not None:
        path = _without_extension(path, template, codec.extension)
    _check(path, template)
    return path


def _filled(template: str, known: Mapping[str, Any]) -> Iterator[str]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise FileNameError(f"save: '{template}' is not a template ({error}). Write {{{{ for a brace") from None
    for literal, field, spec, conversion in parts:
        yield literal
        if field is None:
            continue
        if field not in known or spec or conversion:
            placeholder = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            hint = did_you_mean(field, known) or f"There are {', '.join(f'{{{name}}}' for name in sorted(known))}"
            raise FileNameError(f"save: there is no placeholder {{{placeholder}}}. {hint}".rstrip("."))
        yield as_file_name(known[field])


def _param(graph: Graph, name: str) -> Any:
    """A param in a file name; for a path, the name of its file without the extension."""
    value, definition = graph.params[name], graph.resolved.params.get(name)
    return PurePath(str(value)).stem if definition is not None and definition.type == "path" else value


def _without_extension(path: PurePosixPath, template: str, extension: str) -> PurePosixPath:
    if path.name.lower().endswith(extension) and len(path.name) > len(extension):
        return path.with_name(path.name[: -len(extension)])
    wanted = posixpath.splitext(template)[1]
    if _EXTENSION.fullmatch(wanted):  # of the template: a name that is filled in may end in "-5.0"
        raise FileNameError(f"save: this output is written as {extension}, found {wanted}")
    return path


def _check(path: PurePosixPath, template: str) -> None:
    if path.is_absolute() or ntpath.splitdrive(path)[0] or ".." in path.parts:
        raise FileNameError(f"save: '{template}' leads out of the output folder. Give a path below it; --out names another folder")
    if not path.name or template.endswith("/"):
        raise FileNameError(f"save: '{template}' names no file")
    for part in path.parts:
        if _UNSAFE.search(part) or _RESERVED.fullmatch(part) or part != part.rstrip(". "):
            raise FileNameError(f"save: '{part}' is not a file name on every platform. Folders are separated by /")
        if len(part.encode(errors="replace")) > 200:
            raise FileNameError(f"save: '{part[:40]}...' is too long for a file name. Leave a placeholder out")


def _unwritable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"[E211] cannot write {path}: {reason}. Make it writable, or name another folder with --out")
