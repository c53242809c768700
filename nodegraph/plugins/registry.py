"""Registries: things by unique name, each with its origin, and a suggestion for a misspelt name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, TypeVar

from nodegraph.errors import PluginError
from nodegraph.text import described, did_you_mean, either

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where a thing comes from: the plugin and the state of its code.

    `digest` is the SHA-256 of the plugin's files if its version does not identify its code, as for a plain file or an editable
    install; None for an installed release. `place` is the file, folder or distribution, for people to read.
    """

    plugin: str
    version: str
    digest: str | None = None
    place: str = ""

    @property
    def identity(self) -> str:
        """The text that identifies the code in keys: name and version, or name and digest."""
        return f"{self.plugin} {self.digest or self.version}"


@dataclass(frozen=True, eq=False)
class Entry(Generic[T]):
    """A registered thing with its name and origin.

    `meta`: what the plugin declared about it. `aliases`: more names that find it. `foreign_names`: names that other programs have
    for something similar; they do not find it, but a suggestion leads to it.
    """

    name: str
    value: T
    origin: Origin
    _: KW_ONLY
    meta: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    foreign_names: tuple[str, ...] = ()


class Registry(Generic[T]):
    """The things of one kind, by name.

    `kind` is the name of the registry, in the plural. `singular` is what messages call one of its things; default: `kind` without
    its final s.
    """

    def __init__(self, kind: str, singular: str = "") -> None:
        self.kind = kind
        self.singular = singular or kind.removesuffix("s")
        self._entries: dict[str, Entry[T]] = {}
        self._aliases: dict[str, str] = {}

    def add(self, entry: Entry[T]) -> None:
        """Add `entry`. Raises PluginError if one of its names is empty, or is taken; the message names both plugins."""
        for name in (entry.name, *entry.aliases):
            self._require_free(name, entry)
        self._entries[entry.name] = entry
        self._aliases |= dict.fromkeys(entry.aliases, entry.name)

    def _require_free(self, name: str, entry: Entry[T]) -> None:
        who = f"'{entry.origin.plugin}' ({entry.origin.place})"
        if not isinstance(name, str) or not name.strip():
            raise PluginError(
                f"[E302] plugin {who}, {self.kind}: {described(name)} is not a name. Expected text: register('name', ...)"
            )
        taken = self._entries.get(self._aliases.get(name, name))
        if taken and taken.origin == entry.origin:
            raise PluginError(f"[E301] plugin {who} registers the {self.singular} '{name}' twice. Rename or remove one")
        if taken:
            raise PluginError(
                f"[E301] two plugins register the {self.singular} '{name}': '{taken.origin.plugin}' ({taken.origin.place}) "
                f"and {who}. Rename or remove one"
            )

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Entry[T]:
        """The entry with this name or alias. Raises KeyError, with a suggestion, if there is none."""
        try:
            return self._entries[self._aliases.get(name, name)]
        except KeyError:
            raise KeyError(f"{self.unknown(name)}. {self.suggest(name)}") from None

    def names(self) -> list[str]:
        return sorted(self._entries)

    def aliases(self) -> list[str]:
        """All aliases, sorted."""
        return sorted(self._aliases)

    def entries(self) -> Iterator[Entry[T]]:
        return (self._entries[name] for name in self.names())

    def unknown(self, name: str) -> str:
        """The beginning of a message about a name that is not registered."""
        return f"there is no {self.singular} '{name}'"

    def suggest(self, name: str) -> str:
        """A sentence that helps with an unknown name."""
        similar = [entry.name for entry in self.entries() if name in entry.foreign_names]
        if similar:
            return f"Use {either(similar)} instead."
        return did_you_mean(name, [*self._aliases, *self._entries]) or f"'nodegraph {self.kind}' lists them."
