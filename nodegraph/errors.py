"""What can go wrong, in one tree.

    NodegraphError                  exit status
    ├── WorkflowError               2   the workflow or the call is wrong: every problem at once
    ├── PluginError                 2   a plugin is wrong, or two claim one name
    ├── SettingsError               2   a flag, a variable or the config file says something that cannot be
    ├── NodeError                   1   a node failed while it ran
    ├── OutputError                 1   a result could not be written
    ├── CacheError                  1   the cache was asked for something that it cannot do
    └── Cancelled                   130 somebody stopped the run

A message says what is wrong and where, what was expected and what was found, and what to do next. Its code tells the kind:

    E100 unreadable file, or no YAML    E107 no such output port          E113 unusable file
    E101 not the form of a workflow     E108 link of another type         E114 wrong param
    E102 the same key twice             E109 nodes that feed each other   E115 wrong output
    E103 no such node type              E110 value of another type        E116 refused by the node's own check
    E104 no such input                  E111 value out of range           E117, E118 wrong file name of an output
    E105 missing input                  E112 no such registered name      E120 --set, --target, --force of nothing
    E106 reference to nothing           E201, E211 to E213 while it ran   E301 to E305 plugins and devices
    E401 unusable setting
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nodegraph.text import sentence

_LONGEST: Final = 4000  # characters of a problem
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Location:
    """A place in a text file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One mistake in a workflow or a call, as a person reads it."""

    code: str
    message: str
    where: Location | None = None
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where} " if self.where else ""
        hint = f" {self.hint}" if self.hint else ""
        return _in_one_line(f"{place}[{self.code}] {sentence(self.message)}{hint}")


class NodegraphError(Exception):
    """The root of everything that nodegraph raises for people to read."""

    exit_status = 1


class WorkflowError(NodegraphError):
    """The workflow, or what was asked of it, is wrong. Holds every problem found, in the order of the file."""

    exit_status = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=_position))
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(NodegraphError):
    """A plugin is wrong: it misspells a hook, registers something unusable, or takes a name that is taken."""

    exit_status = 2


class SettingsError(NodegraphError):
    """A flag, an environment variable or the config file says something that cannot be."""

    exit_status = 2


class NodeError(NodegraphError):
    """A node failed while it ran; `__cause__` is what it raised."""

    def __init__(self, node: str, type: str, message: str, where: Location | None = None) -> None:
        self.node, self.type, self.where = node, type, where
        place = f"{where} " if where else ""
        super().__init__(f"{place}[E201] node '{node}' ({type}) failed: {message}")


class OutputError(NodegraphError):
    """An output could not be written."""


class CacheError(NodegraphError):
    """The cache was asked for something that it cannot do."""


class Cancelled(NodegraphError):
    """Somebody stopped the run."""

    exit_status = 130


def _in_one_line(text: str) -> str:
    """Text that a file may have brought along, without what would steer a terminal, and not endless."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _position(problem: Problem) -> tuple[str, int, int]:
    where = problem.where
    return (where.file, where.line, where.column) if where else ("", 0, 0)
