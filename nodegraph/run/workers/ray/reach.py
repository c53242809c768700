"""Whether workers reach what this process stores: the cache folder, if they share it, or else the shared store."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Final, NamedTuple

from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.objects import Objects, ObjectsError
from nodegraph.errors import DeviceError
from nodegraph.files import create_private
from nodegraph.settings import Remote

_BYTES: Final = 16


class Mark(NamedTuple):
    """What a worker looks for: a file, and the object `name` of the shared store at `url`. Both hold the same text."""

    path: Path
    url: str | None = None
    name: str | None = None


class Seen(NamedTuple):
    """What a worker found of a mark; `error` is why it could not read the shared store."""

    file: str | None = None
    object: str | None = None
    error: str | None = None

    @classmethod
    def at(cls, mark: Mark) -> Seen:
        """What this process finds. The store is asked only if there is no file."""
        with contextlib.suppress(OSError):
            return cls(file=mark.path.read_text())
        if mark.url is None or mark.name is None:
            return cls()
        try:
            found = Objects(mark.url).get(mark.name)
        except ObjectsError as error:
            return cls(error=str(error))
        return cls(object=None if found is None else found[0].decode(errors="replace"))


class Reach:
    """Leaves a mark for the workers, until it is closed. `folder` is the cache folder of this process, `remote` its store."""

    def __init__(self, folder: Path, remote: Remote | None) -> None:
        """Leave the mark. Raises DeviceError if it cannot be written to the folder."""
        self._folder, self._remote, self._text = folder, remote, secrets.token_hex(_BYTES)
        self._objects = None if remote is None or remote.read_only else Objects(remote.url)
        self._error: str | None = None
        path, name = folder / f"probe-{secrets.token_hex(_BYTES // 2)}", names.lease(secrets.token_hex(_BYTES))
        try:
            create_private(folder)
            path.write_text(self._text)
        except OSError as error:
            raise DeviceError(
                f"[E305] workers need the cache folder {folder}, which cannot be written: {error.strerror}"
            ) from error
        self.mark = Mark(path, remote.url, name) if self._objects is not None and remote is not None else Mark(path)
        if self._objects is not None:
            try:
                self._objects.put(name, self._text.encode())
            except ObjectsError as error:
                self._error = str(error)

    def close(self) -> None:
        """Remove the mark."""
        with contextlib.suppress(OSError):
            self.mark.path.unlink()
        if self._objects is not None and self.mark.name is not None and self._error is None:
            with contextlib.suppress(ObjectsError):
                self._objects.delete([self.mark.name])

    def check(self, seen: Seen, host: str) -> None:
        """Raise DeviceError if a worker on `host` that has `seen` this can neither read the folder nor the store."""
        if self._text in (seen.file, seen.object):
            return
        worker = f"a worker on {host}"
        if self._remote is None:
            raise DeviceError(
                f"[E305] {worker} does not see the cache folder {self._folder} of this process. Name a folder that all machines "
                f"share with --cache-dir, or a store that they share with --cache-remote"
            )
        where = f"the shared store {self._remote.url}"
        if self._remote.read_only:
            reason = f"{where} is only read, so values cannot pass through it"
        elif self._error is not None:
            reason = f"this process cannot write to {where}: {self._error}"
        elif seen.error is not None:
            reason = f"the worker cannot read {where}: {seen.error}"
        else:
            reason = f"in {where} it does not find what this process has just written"
        raise DeviceError(
            f"[E305] {worker} does not see the cache folder {self._folder} of this process, and {reason.rstrip('.')}. Check the "
            f"address, the network and the permissions of both"
        )
