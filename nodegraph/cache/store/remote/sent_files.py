"""Files, such as models, that the process of a run sends to workers on other machines, by their digests.

    models/ab/<sha256>          in the shared store: a file that a process has sent
    models/ab/<sha256>          in a cache directory: one that has arrived and was checked, or that was sent without a store
    models/placed/<sha256>/...  in a cache directory: files that belong together, under their names, as links to those

A file that is there is not sent again. Reading and writing take a few megabytes of memory, whatever the size of a file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from nodegraph.cache.store.layout import Layout, remove
from nodegraph.cache.store.locks import Locks
from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.objects import Objects
from nodegraph.cache.store.safe_io import move
from nodegraph.errors import CacheError
from nodegraph.files import create_inside

_CHUNK_BYTES: Final = 8 << 20


class SentFiles:
    """The files that were sent, for machines that share the store `objects`, or without one the cache directory itself."""

    def __init__(self, directory: Path, objects: Objects | None) -> None:
        self._layout, self._objects = Layout(directory), objects

    def send(self, path: Path, digest: str) -> bool:
        """Send a file, unless it is there. Returns whether it was sent.

        Raises CacheError if its content is not that of `digest`, OSError, and ObjectsError.
        """
        if self._objects is None:
            if self._arrived(digest).exists():
                return False
            self._keep(digest, lambda temporary: _copied(path, temporary), what=str(path))
            return True
        name = names.model(digest)
        found = self._objects.head(name)
        if found is not None and found.size == path.stat().st_size:
            return False
        total = hashlib.sha256()
        self._objects.put_parts(name, _parts(path, total.update))
        if total.hexdigest() != digest:
            self._objects.delete([name])
            raise CacheError(_changed(str(path)))
        return True

    def has(self, digest: str) -> bool:
        """Whether the file has arrived in this cache directory."""
        return self._arrived(digest).exists()

    def receive(self, digest: str) -> Path | None:
        """The file in this cache directory, fetched from the store if it has not arrived yet; None if it was not sent.

        Raises CacheError if what arrives is not what was sent, OSError, and ObjectsError.
        """
        path, objects = self._arrived(digest), self._objects
        if path.exists() or objects is None:
            return path if path.exists() else None
        with Locks(self._layout.directory / "locks").hold(f"model-{digest}"):  # other workers of this machine wait for it
            if path.exists():
                return path
            name = names.model(digest)
            if objects.head(name) is None:
                return None
            self._keep(digest, lambda temporary: objects.download(name, temporary, None), what=f"{name} in {objects.url}")
        return path

    def placed(self, files: Mapping[PurePosixPath, str]) -> Path | None:
        """A folder that holds these files, by their paths in it; None if one of them was not sent. Raises as `receive` does."""
        arrived = {place: self.receive(digest) for place, digest in files.items()}
        text = "".join(f"{digest} {place}\n" for place, digest in sorted(files.items()))
        folder = self._layout.models / "placed" / hashlib.sha256(text.encode()).hexdigest()
        if folder.is_dir():
            return folder
        temporary = self._layout.temporary()
        try:
            for place, path in arrived.items():
                if path is None:
                    return None
                target = temporary / place
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(path, target)
            create_inside(self._layout.directory, folder.parent)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # if it is, another worker was first
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def _arrived(self, digest: str) -> Path:
        return self._layout.models / digest[:2] / digest

    def _keep(self, digest: str, write: Callable[[Path], str | None], *, what: str) -> None:
        """Let `write` write a file of the cache directory and return its digest, and keep the file if that is `digest`."""
        temporary = self._layout.temporary()
        if not temporary.parent.is_dir():
            self._layout.create()
        try:
            if write(temporary) != digest:
                raise CacheError(_changed(what))
            move(temporary, self._arrived(digest))
        finally:
            remove(temporary)


def _changed(what: str) -> str:
    return f"{what} was changed or damaged while it was sent. Run again; 'nodegraph cache verify --remote' checks the store"


def _parts(path: Path, note: Callable[[bytes], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(_CHUNK_BYTES):
            note(part)
            yield part


def _copied(source: Path, target: Path) -> str:
    """Copy a file; returns the digest of what was copied."""
    total = hashlib.sha256()
    with target.open("xb") as file:
        for part in _parts(source, total.update):
            file.write(part)
    return total.hexdigest()


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, target)
