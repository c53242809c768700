"""Registries: things by unique name, each with its origin, and a suggestion for a misspelt name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, field
from typing import Any, Generic, TypeVar

from nodegraph.errors import PluginError
from nodegraph.light_dataclass import dataclass
from nodegraph.text import described, did_you_mean, either

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where a thing comes from: the plugin and the state of its code.

    `digest` is the SHA-256 of the plugin's files if its version does not identify its code, as for a plain file or an editable
    install; None for an installed release. `build` is the digest of an installed release's list of files: two builds may have the
    same version. `place` is the file, folder or distribution, for people to read.
    """

    plugin: str
    version: str
    digest: str | None = None
    place: str = ""
    build: str | None = None

    @property
    def identity(self) -> str:
        """The text that identifies the code in keys: the name, and the digest or the version with its build."""
        return f"{self.plugin} {self.digest or self.version}" + (f" {self.build}" if self.build else "")


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        return f"<Entry {self.name} of plugin {self.origin.plugin}>"


class Registry(Generic[T]):
    """The things of one kind, by name.

    `kind` is the name of the registry, in the plural. `singular` is what messages call one of its things; default: `kind` without
    its final s. An alias is found in any case, and with spaces, '-' or '_' between its words, if that leads to one thing only.
    """

    def __init__(self, kind: str, singular: str = "") -> None:
        self.kind = kind
        self.singular = singular or kind.removesuffix("s")
        self._entries: dict[str, Entry[T]] = {}
        self._aliases: dict[str, str] = {}
        self._folded: dict[str, set[str]] = {}  # the entries that each folded name leads to
        self._folded_aliases: set[str] = set()

    def __repr__(self) -> str:
        return f"<Registry {self.kind}: {len(self._entries)} entries>"

    def add(self, entry: Entry[T]) -> None:
        """Add `entry`. Raises PluginError if one of its names is empty, or is taken; the message names both plugins."""
        for name in (entry.name, *entry.aliases):
            self._require_free(name, entry)
        self._entries[entry.name] = entry
        self._aliases |= dict.fromkeys(entry.aliases, entry.name)
        for name in (entry.name, *entry.aliases):
            self._folded.setdefault(_folded(name), set()).add(entry.name)
        self._folded_aliases.update(map(_folded, entry.aliases))

    def remove(self, plugin: str) -> None:
        """Remove what the plugin of this name registered."""
        remaining = [entry for entry in self._entries.values() if entry.origin.plugin != plugin]
        if len(remaining) == len(self._entries):
            return
        for names in (self._entries, self._aliases, self._folded, self._folded_aliases):
            names.clear()
        for entry in remaining:
            self.add(entry)

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
        return isinstance(name, str) and self._name_of(name) in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Entry[T]:
        """The entry with this name or alias. Raises KeyError, with a suggestion, if there is none."""
        try:
            return self._entries[self._name_of(name)]
        except KeyError:
            raise KeyError(f"{self.unknown(name)}. {self.suggest(name)}") from None

    def _name_of(self, name: str) -> str:
        """The name of the entry that `name` leads to; `name` itself if there is none."""
        if name in self._entries or name in self._aliases:
            return self._aliases.get(name, name)
        folded = _folded(name)
        return (self._alike(folded) or name) if folded in self._folded_aliases else name

    def _alike(self, folded: str) -> str | None:
        """The name of the only entry with a name that is `folded` once it is folded."""
        names = self._folded.get(folded, set())
        return next(iter(names)) if len(names) == 1 else None

    def names(self) -> list[str]:
        return sorted(self._entries)

    def aliases(self) -> list[str]:
        """All aliases, sorted."""
        return sorted(self._aliases)

    def words_of_aliases(self, name: str) -> list[list[str]]:
        """The words of each alias of the entry `name`, in lower case. `get` finds it by them in any case, however separated.

        Aliases that lead to several things unless they are written exactly are left out.
        """
        folded = {_folded(alias) for alias in self._entries[name].aliases}
        return [alias.split() for alias in sorted(folded) if len(self._folded[alias]) == 1]

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

    def split(self, name: str, others: Iterable[Registry[Any]]) -> str:
        """A suggestion for a name that begins with one of this registry and ends with one of another; "" for any other name."""
        words = _folded(name).split()
        for count in range(len(words) - 1, 0, -1):
            first = self._alike(" ".join(words[:count]))
            for other in others if first else ():
                if other is not self and (second := other._alike(" ".join(words[count:]))):
                    return f"Did you mean the {self.singular} '{first}' and the {other.singular} '{second}'?"
        return ""


def _folded(name: str) -> str:
    """`name` in lower case, its words separated by one space."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
