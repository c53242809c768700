"""Results that were found in the cache, and results that it keeps in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Final, NamedTuple

from nodegraph.cache.dependencies import with_codecs
from nodegraph.cache.snapshots import Snapshot
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.store import StoredValue
from nodegraph.files import FileState, file_states
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.codecs import JSONCodec
from nodegraph.plugins.list_codec import PREFIX

_JSON: Final = JSONCodec.name  # this codec never changes


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CachedResult:
    """A result in the cache: its content key and what computed it.

    `digests` holds the digest of each value by port; `stored` says which values are on disk, and where. `in_memory` holds the
    wanted values that were found in memory, which the cache may remove at any time.
    """

    key: str
    computation: Computation
    digests: Mapping[str, str]
    stored: Mapping[str, StoredValue] = field(default_factory=dict)
    in_memory: Mapping[str, Snapshot] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<CachedResult of {self.computation.type}: {', '.join(self.digests)}, key {self.key[:12]}>"

    def without_values(self) -> CachedResult:
        """The same result, which keeps no value in memory."""
        return replace(self, in_memory={}) if self.in_memory else self

    def depends(self) -> Mapping[str, str]:
        """What the values depend on besides the key: imported modules, and their codecs."""
        names = {value.codec for value in self.stored.values() if value.codec != _JSON and not value.codec.startswith(PREFIX)}
        for snapshot in self.in_memory.values():
            names |= snapshot.codecs
        return with_codecs(self.computation.imports, names)


class ResultInMemory(NamedTuple):
    """Values that are kept in memory; `files` are the input files that they depend on, in the state at that time."""

    values: Mapping[str, Snapshot]
    digests: Mapping[str, str]
    computation: Computation
    files: Mapping[Path, FileState | None]

    def is_current(self, ports: Collection[str]) -> bool:
        """Whether the values of `ports` can be used: none was changed in place, and no file that one may read has changed."""
        wanted = [self.values[port] for port in ports if port in self.values]
        if not all(snapshot.is_sound() for snapshot in wanted):
            return False
        if not self.files or all(snapshot.digest is not None for snapshot in wanted):
            return True
        return file_states(self.files) == self.files
