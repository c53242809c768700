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

_ATTEMPTS: Final = 5  # to read a file that changes


def read_files(reads: Reads, raw: InputValue, state: KnownState) -> Value:
    """What a port that reads files receives. Raises LiteralError."""
    text = literals.coerce(str, os.fspath(raw.value) if isinstance(raw.value, os.PathLike) else raw.value)
    try:
        resource, states = _resolved(lambda: state.call(reads.resolve, text, raw.base), text)
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
