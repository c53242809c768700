"""What differs between two locks, or between what a lock file holds and what would run: each thing by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from nodegraph.light_dataclass import dataclass
from nodegraph.run.lock.lock_file import Files, Lock
from nodegraph.text import shortened
from nodegraph.workflow.scalars import as_yaml

Part = Literal["node", "input", "file", "plugin", "library", "numerics", "output", "param", "version", "setting"]

_DIGITS: Final = 12  # of a digest in a message
_LONGEST: Final = 200  # characters of a value

_WORDS: Final[Mapping[Part, str]] = {"numerics": "the numeric class"}


@dataclass(frozen=True)
class Change:
    """A thing that differs: what it is, its name, and what it was and is; None if it was or is not there."""

    part: Part
    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        what = f"{_WORDS.get(self.part, self.part)} '{self.name}'" if self.name else _WORDS[self.part]
        if self.before is None:
            return f"{what} is new: {self.after}"
        return f"{what} is gone; it was {self.before}" if self.after is None else f"{what} was {self.before} and is {self.after}"


def changes(before: Lock, after: Lock) -> list[Change]:
    """What differs between two locks, except for seeds and outputs."""
    found = [*graph_changes(before.nodes, after.nodes)]
    found += file_changes(before.files, after.files)
    found += compared("plugin", _plugins(before), _plugins(after), _plugin)
    found += compared("library", before.libraries, after.libraries)
    if before.numerics != after.numerics:
        found.append(Change("numerics", "", before.numerics, after.numerics))
    return found


def output_changes(before: Lock, after: Lock) -> list[Change]:
    """The outputs that differ."""
    return [*compared("output", before.outputs, after.outputs, _hash)]


def file_changes(before: Files, after: Files) -> Iterator[Change]:
    """The files that differ."""
    return compared("file", _flat(before), _flat(after), _hash)


def graph_changes(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Iterator[Change]:
    """The nodes and inputs that differ; a node with another type counts as one change."""
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or old.get("use") != new.get("use"):
            yield Change("node", name, None if old is None else str(old.get("use")), None if new is None else str(new.get("use")))
        else:
            yield from compared("input", _inputs(name, old), _inputs(name, new))


def _inputs(node: str, fields: Mapping[str, Any]) -> dict[str, str]:
    inputs = fields.get("inputs")
    return {f"{node}.{port}": as_yaml(value) for port, value in inputs.items()} if isinstance(inputs, dict) else {}


def compared(
    part: Part, before: Mapping[str, str], after: Mapping[str, str], shown: Callable[[str], str] = lambda text: text
) -> Iterator[Change]:
    """What differs between two mappings of names to text, which messages show as `shown` returns it."""
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield Change(part, name, *(None if text is None else shortened(shown(text), _LONGEST) for text in (old, new)))


def _flat(files: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The digest of each file, by the text that names it, and its name there if there are several."""
    return {
        address if len(inside) == 1 else f"{address} ({name})": digest
        for address, inside in files.items()
        for name, digest in inside.items()
    }


def _plugins(lock: Lock) -> dict[str, str]:
    return {name: f"{fields.get('version', '')} {fields.get('code', '')}" for name, fields in lock.plugins.items()}


def _plugin(text: str) -> str:
    version, _, code = text.partition(" ")
    return f"{version} (code {code[:_DIGITS]})" if code else version


def _hash(digest: str) -> str:
    return f"SHA-256 {digest[:_DIGITS]}..."
