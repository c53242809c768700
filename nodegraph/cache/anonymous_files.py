"""Files without a name, for values that are too large to be kept as bytes."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from nodegraph.cache.store.safe_io import WriterError, reason, write_by
from nodegraph.errors import NodegraphError


class TemporaryFolderError(NodegraphError):
    """The folder for temporary files cannot be written. The text is the system's reason."""


class AnonymousFile:
    """A file without a name, if the system has such, else a temporary file. It is gone with the object.

    Raises TemporaryFolderError if the folder for temporary files cannot be written, and WriterError if `write` fails for another
    reason.
    """

    def __init__(self, write: Callable[[Path], object], suffix: str) -> None:
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
            descriptor = os.memfd_create("nodegraph")
            self.path = Path(f"/proc/self/fd/{descriptor}")
            try:
                write(self.path)
            except Exception:  # a codec that replaces the file instead of writing to it; or it fails, and then does so again below
                os.close(descriptor)
            else:
                weakref.finalize(self, os.close, descriptor)
                return
        try:
            handle, name = tempfile.mkstemp(suffix, "nodegraph-")
            os.close(handle)
        except OSError as error:
            raise TemporaryFolderError(reason(error)) from error
        remove = weakref.finalize(self, _remove, name)
        self.path = Path(name)
        try:
            write_by(write, self.path)
        except OSError as error:
            remove()
            raise TemporaryFolderError(reason(error)) from error
        except WriterError:
            remove()
            raise


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)  # noqa: PTH108 (may run while the interpreter shuts down)
