"""The code that is here now, against the code that results depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from nodegraph.cache.dependencies import CODEC
from nodegraph.cache.file_digests import FileDigests
from nodegraph.plugins.code.installed import MODULE, NOT_THERE, file_found
from nodegraph.plugins.codecs import Codecs


class CurrentCode:
    """The modules and codecs of this process. `files` remembers the digests of modules."""

    def __init__(self, codecs: Codecs, files: FileDigests) -> None:
        self._codecs, self._files = codecs, files
        self._known: dict[str, str] | None = None  # as it was found; None: nothing is remembered

    @contextlib.contextmanager
    def at_one_time(self) -> Iterator[None]:
        """Look at each module only once during the block: many results depend on the same ones."""
        self._known = {}
        try:
            yield
        finally:
            self._known = None

    def is_that_of(self, depends: Mapping[str, str]) -> bool:
        """Whether modules that were imported have these digests and are found in these files, and codecs have the same code."""
        known = self._known
        if known and known.items() >= depends.items():
            return True
        for name, digest in depends.items():
            if known is None or known.get(name) != digest:
                if not self._is_same(name, digest):
                    return False
                if known is not None:
                    known[name] = digest
        return True

    def _is_same(self, name: str, digest: str) -> bool:
        if name.startswith(CODEC):
            return self._codecs.by_stored_name(name.removeprefix(CODEC)) is not None
        if name.startswith(MODULE):
            return (file_found(name.removeprefix(MODULE)) or NOT_THERE) == digest
        return "\0" not in name and self._files.unchanged(name, digest)  # a damaged record may have any name
