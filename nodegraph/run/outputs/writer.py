"""Writes outputs: complete files that contain the workflow that made them. A file with other content is kept."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nodegraph.cache.cache import Cache
from nodegraph.cache.snapshots import Snapshot, is_text
from nodegraph.cache.store.store import LostResultError, StoredValue
from nodegraph.errors import OutputError
from nodegraph.files import create_whole, replacing
from nodegraph.graph.graph import Graph, Output
from nodegraph.node_types.port_types import element_type
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.list_codec import ListCodec
from nodegraph.run.outputs.names import RunFacts, exporter, file_names, numbers
from nodegraph.run.outputs.own_files import OwnFiles
from nodegraph.run.outputs.same_file import is_same, output_data


class Writer:
    """Writes the outputs of one run below `folder`.

    `metadata(output, data, content)` goes into each file whose format can hold it; `content` describes what the file holds. A
    relative folder starts at `directory`, even if a node changes the current directory. Returned paths begin with `folder` as it
    was given.

    A file that has the same value and was made by the same workflow is left as it is. One with other content is kept, and the
    output gets the next free number; with `overwrite`, and if it is one of `own`, it is replaced.
    """

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        cache: Cache,
        metadata: Callable[[Output, bytes, Mapping[str, Any]], Mapping[str, str]],
        *,
        directory: Path,
        overwrite: bool = False,
        own: OwnFiles | None = None,
    ) -> None:
        self.folder = folder
        self._graph, self._cache, self._metadata = graph, cache, metadata
        self._directory, self._overwrite = directory, overwrite
        self._own = own
        self._names: Mapping[str, PurePosixPath] = {}
        self._written: dict[Path, str] = {}  # by this run, with the output that each file belongs to
        self._numbered: set[Path] = set()  # files of this run that may have a number

    def prepare(self, facts: RunFacts) -> None:
        """Create the folders and check that files can be written there, before anything runs.

        Raises OutputError, and WorkflowError as `file_names` does.
        """
        self._names = file_names(self._graph, self._cache.codecs, facts)
        for folder in sorted({self._directory / self._path(name).parent for name in self._names}):
            if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self._directory / self.folder)):
                raise OutputError(f"[E211] {folder} leads out of the output folder {self.folder}. Remove the link")
            if self._own is not None and folder in self._own.folders and folder.is_dir():
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".nodegraph-{os.urandom(4).hex()}.tmp"
                probe.touch()
                probe.unlink()
            except OSError as error:
                raise _unwritable(folder, error) from error
            if self._own is not None:
                self._own.folders.add(folder)

    def write(self, output: Output, stored: StoredValue | None, snapshot: Callable[[], Snapshot]) -> list[Path]:
        """Write an output. Returns the paths of its files, which may have existed. Raises OutputError.

        `stored`: how the value is stored, None if it is not; then `snapshot` returns it.
        """
        codec = self._cache.codec_of(stored) if stored is not None else self._codec_of(output, snapshot().open())
        if codec is None:
            kind = type(snapshot().open()).__name__
            raise OutputError(f"[E212] output '{output.name}' is {kind}, which cannot be written to a file. Name another output")
        digest = stored.digest if stored is not None else snapshot().digest
        is_written = self._is_written_list(output, codec)
        is_list = is_written or isinstance(codec, ListCodec)
        try:
            own = exporter(codec, output)
            exported = _exported_items(own, snapshot) if is_written else self._exported(codec, own, stored, snapshot)
            described = [
                output_data(data, own, name=output.name, digest=digest or "", index=index) for index, data in enumerate(exported)
            ]
            contents = [
                own.embed(data, self._metadata(output, data, content)) for data, content in zip(exported, described, strict=True)
            ]
        except LostResultError:
            raise
        except Exception as error:
            raise OutputError(f"[E212] output '{output.name}' cannot be made a {codec.extension} file: {error}") from error
        names = self._candidates(output, numbers(len(contents), output, is_list=is_list), own.extension)
        return next(paths for paths in names if self._place(output, dict(zip(paths, contents, strict=True)), own))

    def _codec_of(self, output: Output, value: Any) -> Codec | None:
        port = self._graph.nodes[output.link.node].spec.output(output.link.port)
        return self._cache.codec(value, None if port is None else port.type)

    def _is_written_list(self, output: Output, codec: Codec) -> bool:
        """Whether the value is a list of what a person could write, such as numbers or texts. The cache has it as one value."""
        port = self._graph.nodes[output.link.node].spec.output(output.link.port)
        return codec is self._cache.codecs.json and port is not None and element_type(port.type) is not None

    def _exported(self, codec: Codec, own: Codec, stored: StoredValue | None, snapshot: Callable[[], Snapshot]) -> list[bytes]:
        """The contents of the files of a value. The items of a list are exported one by one, so that each is exported once."""
        if isinstance(codec, ListCodec) and isinstance(own, ListCodec):
            parts = (item for item in snapshot().items() if not is_text(item))  # None has no file
            return [data for item in parts for data in self._exported(codec.item, own.item, item.stored, partial(_itself, item))]
        return self._cache.export(own, stored.digest if stored is not None and own is codec else None, lambda: snapshot().open())

    def _candidates(self, output: Output, ends: Sequence[str], extension: str) -> Iterator[list[Path]]:
        """The paths of an output's files: as `save` has them, then with the numbers 2, 3, ..."""
        base = self._path(output.full_name)
        for number in itertools.count(1):
            name = base.name if number == 1 else f"{base.name}-{number}"
            paths = [base.with_name(f"{name}{end}{extension}") for end in ends]
            others = [path for path in paths if self._written.get(path, output.full_name) != output.full_name]
            if number == 1 and (same := next((path for path in others if path not in self._numbered), None)):
                both = f"'{self._written[same]}' and '{output.full_name}'"
                raise OutputError(f"[E213] outputs {both} both go to {same}. Put {{output}} into 'save'")
            if others:
                continue
            if number > 1:
                self._numbered.update(paths)
            yield paths

    def _place(self, output: Output, contents: Mapping[Path, bytes], codec: Codec) -> bool:
        """Write the files of an output, or leave those that are the same. False, and nothing written, if a name is taken."""
        is_own = all(path in self._written for path in contents)  # a run that computes a lost result again
        if self._overwrite or is_own:
            for path, content in contents.items():
                with _naming(path), replacing(self._directory / path) as temporary:
                    temporary.write_bytes(content)
                self._note(output, path, content)
            return True
        missing, old = [], []
        for path, content in contents.items():
            if not os.path.lexists(self._directory / path):
                missing.append(path)
            elif not is_same(self._directory / path, content, codec):
                if self._own is None or not self._own.is_own(self._directory / path):
                    return False
                old.append(path)
        created: list[Path] = []
        for path in missing:
            with _naming(path):
                if create_whole(self._directory / path, contents[path]):
                    created.append(path)
                elif not is_same(self._directory / path, contents[path], codec):  # another process was faster
                    for made in created:
                        (self._directory / made).unlink(missing_ok=True)
                    return False
        for path in old:
            with _naming(path), replacing(self._directory / path) as temporary:
                temporary.write_bytes(contents[path])
        for path, content in contents.items():
            self._note(output, path, content if path in missing or path in old else None)
        return True

    def _note(self, output: Output, path: Path, content: bytes | None) -> None:
        """A file has this content now; None: it was the same before, but may have been made by another run."""
        self._written[path] = output.full_name
        if self._own is not None:
            whole = self._directory / path
            with _naming(path):
                self._own.note(whole, whole.read_bytes() if content is None else content)

    def _path(self, name: str) -> Path:
        path = self.folder / self._names[name]
        return path if self._own is None else path.with_name(self._own.prefix + path.name)


def _exported_items(codec: Codec, snapshot: Callable[[], Snapshot]) -> list[bytes]:
    """The contents of the files of a list that the cache has as one value. An item that is None has no file, as in other lists."""
    value = snapshot().open()
    items = value if isinstance(value, list) else [value]  # such as None, if that is a value of the port's type, too
    return [data for item in items if item is not None for data in codec.export(item)]


def _itself(snapshot: Snapshot) -> Snapshot:
    return snapshot


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise OutputError for an OSError."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"[E211] cannot write {path}: {reason}. Make it writable, or name another folder with --out")
