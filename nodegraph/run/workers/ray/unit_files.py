"""The files of a unit, such as models, on the machine of its worker: under the same paths, or in the place that sent ones have."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.store.remote.sent_files import SentFiles
from nodegraph.errors import DeviceError
from nodegraph.files import FileState, file_states
from nodegraph.graph.graph import Value
from nodegraph.node_types.fetching import without_fetching
from nodegraph.node_types.spec import Reads, under
from nodegraph.plugins.manager import Plugins
from nodegraph.run.tasks.task import InputList, NodeTask, TaskInput

HINT: Final = "Put the same file there, or send it with --ship-models (ship_models=True in Python)"


class UnitFiles:
    """Finds the files that tasks name. `digests` are those of files of this machine, `sent` the files that were sent to it."""

    def __init__(self, plugins: Plugins, digests: FileDigests, sent: SentFiles) -> None:
        self._plugins, self._digests, self._sent = plugins, digests, sent

    def lacking(self, wanted: Mapping[Path, str]) -> dict[Path, str]:
        """Which of these files are neither here nor were sent here, and what is there instead."""
        found = {path: self._problem(path, digest) for path, digest in wanted.items() if not self._sent.has(digest)}
        return {path: problem for path, problem in found.items() if problem is not None}

    def on_this_machine(self, tasks: Sequence[NodeTask]) -> Sequence[NodeTask]:
        """The tasks with the paths and states of their files on this machine, where the files may be other ones than were keyed.

        Raises DeviceError if a file is not here, and what fetching one that was sent raises.
        """
        if all(file_states(states) == states for task in tasks for states in _states(task)):
            return tasks
        digests = {path: digest for task in tasks for path, digest in task.files.items()}
        moved: dict[Path, Path] = {}
        inputs = [
            {port: self._input(task, port, input, digests=digests, moved=moved) for port, input in task.inputs.items()}
            for task in tasks
        ]
        return [
            task._replace(
                inputs=own,
                files={moved.get(path, path): digest for path, digest in task.files.items()},
                opened=file_states([moved.get(path, path) for path in task.opened]),
            )
            for task, own in zip(tasks, inputs, strict=True)
        ]

    def _input(
        self, task: NodeTask, port: str, input: TaskInput, *, digests: Mapping[Path, str], moved: dict[Path, Path]
    ) -> TaskInput:
        if isinstance(input, InputList):
            items = (self._input(task, port, item, digests=digests, moved=moved) for item in input.items)
            return InputList(items=tuple(items))
        if not isinstance(input, Value) or not input.files:
            return input
        wanted = {path: digests[path] for path in input.files.values() if path in digests}
        problems = {path: self._problem(path, digest) for path, digest in wanted.items()}
        for path, problem in problems.items():
            if problem is not None:
                value = self._placed(task, port, input, wanted)
                if value is None:
                    raise DeviceError(f"[E305] the worker on {socket.gethostname()} lacks {path}: {problem}. {HINT}")
                moved |= {old: value.files[name] for name, old in input.files.items() if value.files is not None}
                return value
        return replace(input, states=file_states(input.files.values()))

    def _problem(self, path: Path, digest: str) -> str | None:
        """What is wrong with the file at `path`; None if it is the one with `digest`."""
        try:
            found = self._digests.sha256(path)
        except OSError:
            return "there is no such file"
        return None if found == digest else f"there is another file (SHA-256 {found[:12]}..., expected {digest[:12]}...)"

    def _placed(self, task: NodeTask, port: str, input: Value, wanted: Mapping[Path, str]) -> Value | None:
        """The input with its files where those are that were sent; None if they were not. Raises DeviceError."""
        declared = self._plugins.nodes.get(task.type).value.input(port)
        reads: Reads | None = None if declared is None else declared.reads
        top = _top(input)
        if reads is None or input.files is None or top is None or len(wanted) != len(set(input.files.values())):
            return None
        places = {path: PurePosixPath(path.relative_to(top.parent).as_posix()) for path in wanted}
        folder = self._sent.placed({place: wanted[path] for path, place in places.items()})
        if folder is None:
            return None
        try:
            with without_fetching():
                resource = reads.resolve(str(folder / top.name), folder)
        except (OSError, ValueError) as error:
            raise DeviceError(f"[E305] {top} was sent to {socket.gethostname()} and cannot be used there: {error}") from error
        expected = {name: folder / places[path] for name, path in input.files.items()}
        if {name: path.resolve() for name, path in resource.files.items()} != {name: p.resolve() for name, p in expected.items()}:
            raise DeviceError(
                f"[E305] {top} was sent to {socket.gethostname()}, where node type {task.type} finds other files in it than here. "
                f"Put the same files on every machine"
            )
        return replace(input, value=resource.value, files=resource.files, states=file_states(resource.files.values()))


def _states(task: NodeTask) -> Iterator[Mapping[Path, FileState | None]]:
    """The states of files in a task."""
    if task.opened:
        yield task.opened
    yield from (value.states for value in _values(task.inputs.values()) if value.states)


def _values(inputs: Iterable[TaskInput]) -> Iterator[Value]:
    for input in inputs:
        if isinstance(input, InputList):
            yield from _values(input.items)
        elif isinstance(input, Value):
            yield input


def _top(input: Value) -> Path | None:
    """The file or folder that names the files of an input: all of them are it, in it, or beside it. None if there is no such path.

    It is the text of the input, or follows from the names of its files: `part/config.json` is below the folder that is named.
    """
    assert input.files is not None  # it names files
    files = [*input.files.values()]
    candidates = [Path(str(path)[: -len(name) - 1]) for name, path in input.files.items() if path.as_posix().endswith(f"/{name}")]
    if input.address is not None and input.base is not None:
        candidates.insert(0, under(input.base, input.address))
    candidates += files[:1]
    return next((top for top in candidates if top.name and all(_is_part_of(path, top) for path in files)), None)


def _is_part_of(path: Path, top: Path) -> bool:
    return path.is_relative_to(top) or path.parent == top.parent
