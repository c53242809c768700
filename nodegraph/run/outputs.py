"""Writing outputs: where each goes, and that it gets there whole, with what made it inside.

`save` is a template below the output folder: `{workflow}`, `{output}` and the params stand for themselves, `{{` for a brace.
A value that is several files (a batch of pictures) gets -0, -1, ... before the extension.
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
from nodegraph.cache.store.store import LostResultError, Stored
from nodegraph.errors import NodegraphError, OutputError, Problem, WorkflowError
from nodegraph.files import replacing
from nodegraph.graph.graph import Graph, Output
from nodegraph.plugins.codecs import Codecs
from nodegraph.text import did_you_mean

DEFAULT_TEMPLATE: Final = "{workflow}-{output}"

_LONGEST: Final = 80  # bytes that a placeholder contributes to a file's name
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]+')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.IGNORECASE)
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,10}")


class FileNameError(NodegraphError):
    """The `save` of an output cannot be a file below the output folder."""


def file_names(graph: Graph, codecs: Codecs) -> dict[str, PurePosixPath]:
    """Where each output goes, below the output folder and without its extension.

    Raises WorkflowError with every template that has an unknown placeholder, leaves the folder, asks for another file
    format than the output has, or names the same file as another output.
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
    """Writes the outputs of one run below `folder`. `metadata()` is put into each file whose format has a place for it.

    Raises WorkflowError as `file_names` does.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        cache: Cache,
        metadata: Callable[[], Mapping[str, str]],
    ) -> None:
        self.folder = folder
        self._names = file_names(graph, cache.codecs)
        self._cache, self._metadata = cache, metadata
        self._written: dict[Path, str] = {}

    def prepare(self) -> None:
        """Make the folders, and see that they take files. Raises OutputError: before anything expensive runs."""
        for place in sorted({self._place(name).parent for name in self._names}):
            if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(self.folder)):
                raise OutputError(f"[E211] {place} leads out of the output folder {self.folder}. Remove the link")
            try:
                place.mkdir(parents=True, exist_ok=True)
                probe = place / f".nodegraph-{os.urandom(4).hex()}.tmp"
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise _unwritable(place, error) from error

    def write(self, output: Output, stored: Stored | None, value: Callable[[], Any]) -> list[Path]:
        """Write an output, replacing what an earlier run wrote there; the paths. `stored`: how its value is stored, if it is.

        Raises OutputError.
        """
        codec = self._cache.codec_of(stored) if stored is not None else self._cache.codec(value())
        if codec is None:
            kind = type(value()).__name__
            raise OutputError(f"[E212] output '{output.name}' is {kind}, which cannot be written to a file. Name another output")
        try:
            metadata = self._metadata()
            files = self._cache.exported(codec, stored.digest if stored is not None else None, value)
            files = [codec.embed(data, metadata) for data in files]
        except LostResultError:
            raise
        except Exception as error:
            raise OutputError(f"[E212] output '{output.name}' cannot be made a {codec.extension} file: {error}") from error
        base = self._place(output.name)
        paths = []
        for suffix, data in zip(numbers(len(files)), files, strict=True):
            path = base.with_name(f"{base.name}{suffix}{codec.extension}")
            owner = self._written.setdefault(path, output.name)
            if owner != output.name:
                raise OutputError(f"[E213] outputs '{owner}' and '{output.name}' both go to {path}. Put {{output}} into 'save'")
            try:
                with replacing(path) as temporary:
                    temporary.write_bytes(data)
            except OSError as error:
                raise _unwritable(path, error) from error
            paths.append(path)
        return paths

    def _place(self, name: str) -> Path:
        return self.folder / self._names[name]


def safe_name(value: Any) -> str:
    """`value` as part of a file's name on every platform: never empty, no separator, no reserved character."""
    text = repr(value).lower() if isinstance(value, bool) else str(value)
    text = _UNSAFE.sub("_", " ".join(text.split()))
    return text.encode(errors="replace")[:_LONGEST].decode(errors="ignore").strip(". ") or "_"


def numbers(count: int) -> list[str]:
    """What stands behind a file's name for each of `count` files of one value."""
    return [""] if count == 1 else [f"-{i}" for i in range(count)]


def _name(output: Output, graph: Graph, params: Mapping[str, Any], codecs: Codecs) -> PurePosixPath:
    template = output.save if output.save is not None else DEFAULT_TEMPLATE
    kind = graph.nodes[output.wire.node].spec.output(output.wire.port)
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
        raise FileNameError(f"save: '{template}' is no template ({error}). Write {{{{ for a brace that is meant as such") from None
    for literal, field, spec, conversion in parts:
        yield literal
        if field is None:
            continue
        if field not in known or spec or conversion:
            said = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            hint = did_you_mean(field, known) or f"There are {', '.join(f'{{{name}}}' for name in sorted(known))}"
            raise FileNameError(f"save: there is no placeholder {{{said}}}. {hint}".rstrip("."))
        yield safe_name(known[field])


def _param(graph: Graph, name: str) -> Any:
    """A param as a file name shows it: of a path, the file's name without its extension."""
    value, definition = graph.params[name], graph.resolved.params.get(name)
    return PurePath(str(value)).stem if definition is not None and definition.type == "path" else value


def _without_extension(path: PurePosixPath, template: str, extension: str) -> PurePosixPath:
    if path.name.lower().endswith(extension) and len(path.name) > len(extension):
        return path.with_name(path.name[: -len(extension)])
    wanted = posixpath.splitext(template)[1]
    if _EXTENSION.fullmatch(wanted):  # of the template: a name may end like "-5.0" once filled in
        raise FileNameError(f"save: this output is written as {extension}, found {wanted}")
    return path


def _check(path: PurePosixPath, template: str) -> None:
    if path.is_absolute() or ntpath.splitdrive(path)[0] or ".." in path.parts:
        raise FileNameError(f"save: '{template}' leads out of the output folder. Give a path below it; --out names another folder")
    if not path.name or template.endswith("/"):
        raise FileNameError(f"save: '{template}' names no file")
    for part in path.parts:
        if _UNSAFE.search(part) or _RESERVED.fullmatch(part) or part != part.rstrip(". "):
            raise FileNameError(f"save: '{part}' is no file name on every platform. Folders are separated by /")
        if len(part.encode(errors="replace")) > 200:
            raise FileNameError(f"save: '{part[:40]}...' is too long for a file name. Leave a placeholder out")


def _unwritable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"[E211] cannot write {path}: {reason}. Make it writable, or name another folder with --out")
