"""Everything that can go wrong, in one tree.

    NodegraphError                   exit status
    ├── WorkflowError                2    the workflow or the call is wrong; holds every problem that was found
    ├── PluginError                  2    a plugin is wrong, or two plugins register the same name
    ├── DeviceError                  2    the machine does not have the device, or the device not the dtype
    ├── SettingsError                2    a flag, an environment variable or the config file has a value that cannot be used
    ├── LockError                    2    a lock file is missing or wrong, or what would run does not match it
    ├── NodeError                    1    a node failed while it ran
    ├── TemporaryError               1    raised by a node: it failed, and may succeed if it runs again
    ├── OutputError                  1    a result could not be written
    ├── SweepError                   1    points of a sweep failed; the others are done
    ├── CacheError                   1    the cache cannot do what it was asked for
    ├── WrongResultError             3    results in the cache were wrong; what was computed instead was used
    ├── Cancelled                    130  the run was stopped
    │
    │   raised and caught inside the engine:
    ├── SignatureError                    a function cannot be a node type
    ├── LiteralError                      a value does not fit its port
    ├── NotFetchedError                   a file has to be fetched first, and nothing may be fetched now
    ├── ReturnTypeError                   a node type returned something other than it declares
    ├── FileNameError                     the `save` of an output cannot be a file below the output folder
    ├── NoCanonicalFormError              a value cannot be part of a cache key
    ├── LostResultError                   a stored result is gone, or its content has changed
    ├── ObjectsError                      the shared store did not answer, or refused
    ├── StaleRecordError                  another version of nodegraph stored a result in another format
    ├── WriterError                       what writes a file of the cache has failed, and not the disk
    ├── TemporaryFolderError              the folder for temporary files cannot be written
    ├── LockHeldError                     another process holds the lock
    └── IndexBusyError                    another process keeps the index of the cache locked

A message says what is wrong and where, what was expected, what was found, and what to do next. It carries a code, such as E104,
in brackets. Each class declares its codes in `codes`; `docs/errors.md` is generated from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

from nodegraph.light_dataclass import dataclass
from nodegraph.text import sentence

_LONGEST: Final = 4000  # characters of a problem
_CONTROLS: Final = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


@dataclass(frozen=True)
class Location:
    """A position in a text file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One mistake in a workflow or a call."""

    code: str
    message: str
    where: Location | None = None
    hint: str = ""

    def __str__(self) -> str:
        location = f"{self.where} " if self.where else ""
        hint = f" {self.hint}" if self.hint else ""
        return _in_one_line(f"{location}[{self.code}] {sentence(self.message)}{hint}")


class NodegraphError(Exception):
    """The base class of every error that nodegraph raises."""

    exit_status = 1
    codes: ClassVar[Mapping[str, str]] = {}
    """What each code means that an error of this class can carry."""


class WorkflowError(NodegraphError):
    """The workflow or the call is wrong. Holds every problem that was found, in the order of the file."""

    exit_status = 2
    codes: ClassVar[Mapping[str, str]] = {
        "E100": "the file cannot be read, or is not YAML",
        "E101": "the file does not have the form of a workflow",
        "E102": "a mapping has the same key twice",
        "E103": "there is no such node type",
        "E104": "the node type has no such input, or what was chosen has no such option",
        "E105": "a required input is missing",
        "E106": "a reference to a node or param that does not exist",
        "E107": "a link does not name an output that the node has",
        "E108": "an input cannot take the output that is linked to it",
        "E109": "nodes feed each other in a circle",
        "E110": "a value has the wrong type",
        "E111": "a value is out of range",
        "E112": "nothing is registered under this name",
        "E113": "a file cannot be used",
        "E114": "a param is wrong, or has no value",
        "E115": "an output is wrong, or there are no outputs",
        "E116": "the node type's own check refuses the values",
        "E117": "the file name of an output cannot be used",
        "E118": "two outputs would be written to the same file",
        "E119": "a sub-workflow cannot be used, or `each`, `repeat` or a `Switch` is wrong",
        "E120": "`--set`, `--target` or `--force` names something that does not exist",
        "E121": "the values of a sweep (`--over`, or the section `sweep`) are wrong",
        "E122": "a graph of another program cannot be imported, or a workflow cannot be exported",
    }

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=_position))
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(NodegraphError):
    """A plugin is wrong: it misspells a hook, registers something unusable, or registers a name that is taken."""

    exit_status = 2
    codes: ClassVar[Mapping[str, str]] = {
        "E301": "two things are registered under the same name",
        "E302": "a plugin registers something that cannot be used",
        "E303": "a plugin's hook is wrong, or failed",
        "E304": "a plugin, or a plugin folder, cannot be loaded",
    }


class DeviceError(NodegraphError):
    """The machine does not have the device, or the device cannot compute in the dtype."""

    exit_status = 2
    codes: ClassVar[Mapping[str, str]] = {"E305": "the device or dtype cannot be used"}


class SettingsError(NodegraphError):
    """A flag, an environment variable or the config file has a value that cannot be used."""

    exit_status = 2
    codes: ClassVar[Mapping[str, str]] = {"E401": "a setting cannot be used"}


class LockError(NodegraphError):
    """A lock file is missing or cannot be used, or what would run does not match it. Nothing was run."""

    exit_status = 2
    codes: ClassVar[Mapping[str, str]] = {
        "E402": "a lock file cannot be read or written",
        "E403": "what would run does not match the lock file",
    }


class NodeError(NodegraphError):
    """A node failed while it ran; `__cause__` is the exception that it raised."""

    codes: ClassVar[Mapping[str, str]] = {"E201": "a node failed while it ran"}

    def __init__(self, node: str, type: str, message: str, where: Location | None = None) -> None:
        self.node, self.type, self.where = node, type, where
        location = f"{where} " if where else ""
        super().__init__(f"{location}[E201] node '{node}' ({type}) failed: {message}")


class TemporaryError(NodegraphError):
    """A node failed, and may succeed if it runs again. Raised by nodes that declare `retries`."""


class OutputError(NodegraphError):
    """An output could not be written."""

    codes: ClassVar[Mapping[str, str]] = {
        "E211": "a file or folder cannot be written",
        "E212": "a value cannot be written to a file",
        "E213": "two outputs were written to the same file",
        "E214": "a file cannot be opened with the system's viewer",
    }


class SweepError(NodegraphError):
    """Points of a sweep failed. `__cause__` is the error of the first one."""

    codes: ClassVar[Mapping[str, str]] = {"E231": "points of a sweep failed"}


class CacheError(NodegraphError):
    """The cache cannot do what it was asked for."""


class WrongResultError(NodegraphError):
    """Results in the cache were wrong. The run is complete: it used and stored what it computed instead."""

    exit_status = 3
    codes: ClassVar[Mapping[str, str]] = {"E221": "a check found wrong results in the cache"}


class Cancelled(NodegraphError):
    """The run was stopped."""

    exit_status = 130


def _in_one_line(text: str) -> str:
    """`text` without control characters, which could steer a terminal, and shortened if it is very long."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return re.sub(_CONTROLS, lambda found: found[0].encode("unicode_escape").decode(), text)


def _position(problem: Problem) -> tuple[str, int, int]:
    where = problem.where
    return (where.file, where.line, where.column) if where else ("", 0, 0)
