"""Inputs whose text names files: their content, in a state in which they stayed while they were read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from nodegraph.files import CLOCK_NS, FileState, file_states
from nodegraph.graph.graph import Value
from nodegraph.graph.overrides import InputValue
from nodegraph.node_types import literals
from nodegraph.node_types.fetching import NotFetchedError
from nodegraph.node_types.literals import LiteralError
from nodegraph.node_types.spec import Reads, Resource
from nodegraph.plugins.state.known_state import KnownState
from nodegraph.workflow.recorded import RecordedFiles

_ATTEMPTS: Final = 5  # to read a file that changes


def read_files(reads: Reads, raw: InputValue, state: KnownState, recorded: RecordedFiles | None = None) -> Value:
    """What a port that reads files receives: the `recorded` files, if there are some for it. Raises LiteralError."""
    text = literals.coerce(str, os.fspath(raw.value) if isinstance(raw.value, os.PathLike) else raw.value)
    try:
        name, base = text, raw.base
        expected = recorded.expected(text, raw.base) if recorded is not None and raw.base == raw.home else None
        if recorded is not None and expected is not None:
            name, base = _place(lambda name, base: state.call(reads.resolve, name, base), raw, recorded, expected)
        resource, states = _resolved(lambda: state.call(reads.resolve, name, base), text)
    except NotFetchedError as error:
        return Value(None, not_fetched=str(error), address=text, base=raw.base)
    except (OSError, ValueError) as error:
        message = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.errno else str(error)
        hint = "Check the path." if isinstance(error, FileNotFoundError) else ""
        raise LiteralError(message.rstrip("."), hint, "E113") from error
    return Value(
        resource.value,
        files=resource.files,
        states=states,
        text=None if reads.by_content else text,
        notes=resource.notes,
        address=text,
        base=raw.base,
    )


def _place(
    resolve: Callable[[str, Path], Resource], raw: InputValue, recorded: RecordedFiles, expected: Mapping[str, str]
) -> tuple[str, Path]:
    """The text and the folder that lead to the files that were recorded. Raises ValueError if none do."""
    others: dict[Path, str] = {}
    for name, place in recorded.candidates(raw.value, raw.base):
        try:
            files = resolve(name, place).files
        except (OSError, ValueError):  # nothing that can be used: look in the next place
            continue
        differing = [(files.get(key), digest) for key, digest in expected.items() if not _has(files.get(key), digest, recorded)]
        if not differing:
            return name, place
        if not any(place.is_relative_to(last) for last in recorded.last):
            others |= {path: digest for path, digest in differing if path is not None}
    instead = "Put the right one there, name its folder with --base, or give another file with --set"
    for path, digest in others.items():
        found = recorded.digest(path)
        message = f"expected the recorded file (SHA-256 {digest[:12]}...), found another one, {path} ({found[:12]}...)"
        raise ValueError(f"{raw.value}: {message}. {instead}")
    places = ", ".join(dict.fromkeys(map(str, recorded.places)))
    raise ValueError(f"{raw.value}: expected the recorded file, found nothing that can be used in {places}. {instead}")


def _has(path: Path | None, digest: str, recorded: RecordedFiles) -> bool:
    try:
        return path is not None and recorded.digest(path) == digest
    except OSError:
        return False


def _resolved(resolve: Callable[[], Resource], text: str) -> tuple[Resource, Mapping[Path, FileState | None]]:
    """What `resolve` finds for `text`, and the states of its files, which stayed the same while they were read.

    Raises ValueError if they change again and again.
    """
    before: Mapping[Path, FileState | None] | None = None
    for _ in range(_ATTEMPTS):
        began_ns = time.time_ns()
        resource = resolve()
        states = file_states(resource.files.values())
        times = (max(state.mtime_ns, state.ctime_ns) for state in states.values() if state is not None)
        if states == before or all(changed_ns < began_ns - CLOCK_NS for changed_ns in times):
            return resource, states
        before = states  # of files that may have been changed meanwhile: read them again
    raise ValueError(f"{text} is being written by another program. Try again when that has ended")
