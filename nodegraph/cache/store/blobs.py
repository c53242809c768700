"""Blobs: files that are named by the SHA-256 of their content, which is checked before they are read."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from nodegraph.cache.file_digests import FileDigests, hash_file
from nodegraph.cache.store.layout import BLOB, Layout
from nodegraph.cache.store.records import LostResultError, StoredBlob
from nodegraph.cache.store.safe_io import SafeFiles, move, reason, write_by
from nodegraph.files import FileState

T = TypeVar("T")

SMALL_BYTES: Final = 1 << 16
"""Every process hashes blobs up to this size itself: that takes no longer than to remember that they were checked."""


class Blobs:
    """The blobs of a cache directory."""

    def __init__(self, layout: Layout, files: SafeFiles) -> None:
        self._layout = layout
        self._files = files
        self._digests = FileDigests(layout.directory / "verified.jsonl", granularity_ns=0)
        self._checked: dict[str, FileState] = {}  # the state of each blob when this process checked it

    def for_run(self, files: SafeFiles) -> Blobs:
        """The same blobs, read and written through the `files` of one run. What is known of them is shared."""
        blobs = copy.copy(self)
        blobs._files = files
        return blobs

    def has(self, name: str) -> bool:
        """Whether a blob is there and has the content that its name says. If not, it is moved to quarantine, with a warning."""
        try:
            self.path(name)
        except LostResultError:
            return False
        return True

    def read(self, name: str, read: Callable[[Path], T]) -> T:
        """What `read` returns for the file of a blob. Raises LostResultError, and what `read` raises.

        If the file was replaced after it was checked, and perhaps before it was read, the new one is checked and read.
        """
        while True:
            path, checked = self._check(name)
            value = read(path)
            try:
                if FileState.of(path) == checked:
                    return value
            except OSError:  # it was removed, so it is not known whether it was replaced before
                raise LostResultError(f"{path} is gone") from None

    def path(self, name: str) -> Path:
        """The file of a blob. Its content is checked once for each state of the file. Raises LostResultError."""
        return self._check(name)[0]

    def _check(self, name: str) -> tuple[Path, FileState]:
        """The file of a blob, and its state when its content was checked. Raises LostResultError."""
        if not BLOB.fullmatch(name):
            raise LostResultError(f"'{name}' is not the name of a blob")
        path = self._layout.blob(name)
        try:
            state = FileState.of(path)
            if self._checked.get(name) == state:
                return path, state
            digest = hash_file(path) if state.size <= SMALL_BYTES else self._digests.sha256(path)
        except FileNotFoundError:
            raise LostResultError(f"{path} is gone") from None
        except OSError as error:
            self._files.warn_unreadable(f"the cache file {path} cannot be read: {reason(error)}. Its result is computed again")
            raise LostResultError(str(error)) from error
        if not name.startswith(digest):
            self._layout.quarantine(path)
            self._files.warn_unreadable(
                f"the cache file {path} was changed after it was written, so its result is computed again. The file was moved to "
                f"the folder 'quarantine'. If this happens again, the disk may be failing; 'nodegraph cache verify' checks every "
                f"file"
            )
            raise LostResultError(f"{path} was changed")
        self._checked[name] = state
        return path, state

    def put(self, write: Callable[[Path], None], suffix: str) -> StoredBlob | None:
        """Store the file that `write(path)` creates. None if the directory cannot be written.

        Raises WriterError if `write` fails for another reason.
        """

        def write_and_move() -> StoredBlob:
            with self._files.temporary_file(suffix) as temporary:
                write_by(write, temporary)
                written = temporary.stat()
                if written.st_mode & 0o022:  # the umask lets other users write to it
                    with contextlib.suppress(OSError):  # a file system without permissions
                        temporary.chmod(0o644)
                blob = StoredBlob(hash_file(temporary) + suffix, written.st_size)
                move(temporary, self._layout.blob(blob.name))  # over an earlier one: it may be damaged, or about to be removed
            return blob

        return self._files.attempt(write_and_move)

    def put_bytes(self, data: bytes, suffix: str) -> StoredBlob | None:
        """Store `data` as a file. None if the directory cannot be written."""
        blob = StoredBlob(hashlib.sha256(data).hexdigest() + suffix, len(data))
        return blob if self._files.write(self._layout.blob(blob.name), data) else None

    def check_again(self) -> None:
        """Forget which blobs were checked."""
        self._digests.forget()
        self._checked.clear()
