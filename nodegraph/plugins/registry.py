"""Names of things: unique, with where each came from, and a suggestion for a name that is close."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nodegraph.errors import PluginError
from nodegraph.text import did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where a thing came from: the plugin, and which state of its code.

    `digest` is the SHA-256 of the plugin's files for a plain file or an editable install, whose version says
    nothing about its code; None for an installed distribution.
    """

    plugin: str
    version: str
    digest: str | None = None
    place: str = ""

    @property
    def identity(self) -> str:
        """What stands for the code in a key: name and version, or name and digest."""
        return f"{self.plugin} {self.digest or self.version}"


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered thing: its name, itself, where it came from, what its plugin says about it, and other names that find it.

    `foreign_names`: names in other programs, of what it is only like, or does a part of; they lead to it, but do not find it.
    """

    name: str
    value: T
    origin: Origin
    meta: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    foreign_names: tuple[str, ...] = ()


class Registry(Generic[T]):
    """Things of one kind ("nodes", "samplers", ...) by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}
        self._aliases: dict[str, str] = {}

    def add(self, entry: Entry[T]) -> None:
        """Add `entry`. Raises PluginError if a name of it is taken, naming both plugins, or if it is none."""
        for name in (entry.name, *entry.aliases):
            self._require_free(name, entry)
        self._entries[entry.name] = entry
        self._aliases |= dict.fromkeys(entry.aliases, entry.name)

    def _require_free(self, name: str, entry: Entry[T]) -> None:
        who = f"'{entry.origin.plugin}' ({entry.origin.place})"
        if not isinstance(name, str) or not name.strip():
            raise PluginError(
                f"[E302] plugin {who} registers something among the {self.kind} under {name!r}, which is no name. "
                f"Give it one: register('name', ...)"
            )
        taken = self._entries.get(self._aliases.get(name, name))
        if taken and taken.origin == entry.origin:
            raise PluginError(f"[E301] plugin {who} registers '{name}' twice among the {self.kind}. Rename or remove one")
        if taken:
            raise PluginError(
                f"[E301] two plugins register '{name}' among the {self.kind}: '{taken.origin.plugin}' "
                f"({taken.origin.place}) and {who}. Rename or remove one"
            )

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Entry[T]:
        """The entry called `name`, or known by it. Raises KeyError, with a suggestion, if there is none."""
        try:
            return self._entries[self._aliases.get(name, name)]
        except KeyError:
            raise KeyError(f"there is no '{name}' among the {self.kind}. {self.suggest(name)}".strip()) from None

    def names(self) -> list[str]:
        return sorted(self._entries)

    def aliases(self) -> list[str]:
        """The other names by which things are known."""
        return sorted(self._aliases)

    def entries(self) -> Iterator[Entry[T]]:
        return (self._entries[name] for name in self.names())

    def suggest(self, name: str) -> str:
        """A sentence that leads on from an unknown name."""
        here = [f"'{entry.name}'" for entry in self.entries() if name in entry.foreign_names]
        if here:
            return f"Here {' and '.join(here)} {'does' if len(here) == 1 else 'do'} that."
        return did_you_mean(name, [*self._aliases, *self._entries]) or f"'nodegraph {self.kind}' lists them."
