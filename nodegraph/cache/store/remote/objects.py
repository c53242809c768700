"""The objects of a shared store: the only module that knows the library for buckets."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from nodegraph.errors import NodegraphError, SettingsError

T = TypeVar("T")

SMALL_BYTES: Final = 1 << 24
"""The largest object that is read into memory: a record, a claim, a lease."""

_CONNECT_SECONDS: Final = 4
_SILENT_SECONDS: Final = 30
_RETRIES: Final = 2
_PART_BYTES: Final = 8 << 20
_PARTS_AT_ONCE: Final = 2
_LONGEST_REASON: Final = 300
_VERSION: Final = " version "  # between the two parts of a tag


class ObjectsError(NodegraphError):
    """The shared store did not answer, or refused."""


class ObjectInfo(NamedTuple):
    """An object: its name, its bytes, when it was written (seconds since 1970), and its tag, which differs once it is rewritten."""

    name: str
    size: int
    modified: float
    tag: str


class Objects:
    """The objects below `url`, such as s3://bucket/prefix. The store is opened when it is first used.

    Every method raises ObjectsError if the store does not answer, or refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __repr__(self) -> str:
        return f"<Objects {self.url}>"

    def get(self, name: str) -> tuple[bytes, str] | None:
        """The content of a small object and its tag; None if there is no such object."""
        obstore = _library()

        def read() -> tuple[bytes, str] | None:
            result = obstore.get(self._store, name)
            info = _info(result.meta)
            if info.size > SMALL_BYTES:
                return None  # nodegraph writes no such object there
            return bytes(result.bytes()), info.tag

        return _or_none(read)

    def download(self, name: str, path: Path, size: int | None) -> str | None:
        """Write an object to the new file `path`. Returns its SHA-256; None if there is no such object, or not of this size.

        Raises OSError if the file cannot be written.
        """
        obstore = _library()
        result = _or_none(lambda: obstore.get(self._store, name))
        if result is None or (size is not None and result.meta["size"] != size):
            return None
        digest, left = hashlib.sha256(), result.meta["size"]
        with path.open("xb") as file:
            for data in _chunks(result):
                left -= len(data)
                digest.update(data)
                file.write(data)
        return digest.hexdigest() if left == 0 else None

    def digest(self, name: str) -> str | None:
        """The SHA-256 of the content of an object, which is read for it; None if there is no such object."""
        obstore = _library()
        result = _or_none(lambda: obstore.get(self._store, name))
        if result is None:
            return None
        digest = hashlib.sha256()
        for data in _chunks(result):
            digest.update(data)
        return digest.hexdigest()

    def head(self, name: str) -> ObjectInfo | None:
        """What is known of an object; None if there is no such object."""
        obstore = _library()
        meta = _or_none(lambda: obstore.head(self._store, name))
        return None if meta is None else _info(meta)

    def put(self, name: str, data: bytes) -> None:
        """Write an object over an earlier one."""
        obstore = _library()
        _translated(lambda: obstore.put(self._store, name, data, use_multipart=False))

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one already. Returns whether it was written."""
        obstore = _library()
        try:
            _call(lambda: obstore.put(self._store, name, data, mode="create"))
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            return False
        except (obstore.exceptions.NotSupportedError, NotImplementedError):  # a store that cannot do this in one step
            if self.head(name) is not None:
                return False
            self.put(name, data)
        return True

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        """Write an object over the one with this tag. Returns False if another one is there by now.

        In a folder, two processes at the same time may both succeed.
        """
        obstore = _library()
        try:
            _call(lambda: obstore.put(self._store, name, data, mode=_version_of(tag)))
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            return False
        except (obstore.exceptions.NotFoundError, FileNotFoundError):
            return False
        except (obstore.exceptions.NotSupportedError, NotImplementedError):
            found = self.head(name)
            if found is None or found.tag != tag:
                return False
            self.put(name, data)
        return True

    def upload(self, name: str, path: Path) -> None:
        """Write the content of a file over an earlier object. Raises FileNotFoundError if the file is gone."""
        obstore = _library()
        with path.open("rb") as file:
            _translated(lambda: obstore.put(self._store, name, file, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE))

    def put_parts(self, name: str, parts: Iterator[bytes]) -> None:
        """Write an object over an earlier one, from parts of a few megabytes, of which a few are in memory at a time."""
        obstore = _library()
        _translated(lambda: obstore.put(self._store, name, parts, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE))

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects. One that is not there is no error."""
        obstore = _library()
        for name in names:
            _or_none(functools.partial(obstore.delete, self._store, name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects whose names begin with the folder `prefix`, in no particular order."""
        obstore = _library()
        chunks = _translated(lambda: iter(obstore.list(self._store, prefix=prefix or None, chunk_size=1000)))
        while (chunk := _translated(lambda: next(chunks, None))) is not None:
            yield from map(_info, chunk)

    @property
    def _store(self) -> Any:
        return _open(self.url)


def require_library() -> None:
    """Raise SettingsError if the library is not installed."""
    if importlib.util.find_spec("obstore") is None:
        raise SettingsError(
            "[E401] the shared store needs a library that is not installed. Install it with: pip install 'nodegraph[remote]'. Or "
            "run with --cache-remote none"
        )


_process: int | None = None  # the one that uses the library


def _library() -> Any:
    """The library. Raises ObjectsError in a process that was forked after its use."""
    global _process
    import obstore
    import obstore.exceptions

    _process = _process or os.getpid()
    if _process != os.getpid():
        raise ObjectsError("a forked process cannot use the connections of its parent; start processes with 'spawn'")
    return obstore


@functools.cache
def _open(url: str) -> Any:
    """The store at `url`, one for each address in a process: so several engines share a memory store and its connections."""
    from obstore.store import from_url

    if url.startswith(("file:", "memory:")):
        return from_url(url)
    return from_url(
        url,
        client_options={
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=_SILENT_SECONDS),
            "timeout": timedelta(hours=12),  # of a whole request: large objects take long
            **({"allow_http": True} if os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true") else {}),
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_SILENT_SECONDS)},
    )


def _call(request: Callable[[], T]) -> T:
    """What a request returns. Raises ObjectsError, and as they are the errors that say something about the object."""
    exceptions = _library().exceptions
    try:
        return request()
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError, exceptions.NotFoundError, exceptions.NotSupportedError):
        raise
    except (FileNotFoundError, NotImplementedError, ObjectsError):
        raise
    except Exception as error:
        raise ObjectsError(_reason(error)) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # a mistake in the library, which no Exception of Python reports
            raise ObjectsError(_reason(error)) from error
        raise


def _translated(request: Callable[[], T]) -> T:
    """What a request returns. Raises ObjectsError for every failure."""
    try:
        return _call(request)
    except ObjectsError:
        raise
    except Exception as error:
        raise ObjectsError(_reason(error)) from error


def _or_none(request: Callable[[], T]) -> T | None:
    """What a request returns; None if there is no such object."""
    with contextlib.suppress(FileNotFoundError, _library().exceptions.NotFoundError):
        return _call(request)
    return None


def _chunks(result: Any) -> Iterator[memoryview]:
    """The content of an object, in parts. Raises ObjectsError."""
    chunks = _translated(lambda: iter(result.stream(min_chunk_size=1 << 20)))
    while (chunk := _translated(lambda: next(chunks, None))) is not None:
        yield memoryview(chunk)


def _info(meta: Any) -> ObjectInfo:
    modified = meta["last_modified"].timestamp()
    tag, version = meta["e_tag"] or f"{modified} {meta['size']}", meta.get("version")
    return ObjectInfo(meta["path"], meta["size"], modified, tag if version is None else f"{tag}{_VERSION}{version}")


def _version_of(tag: str) -> dict[str, str]:
    """The version of an object to replace. Google's store wants a number for it, and not the tag."""
    e_tag, separator, version = tag.partition(_VERSION)
    return {"e_tag": e_tag, "version": version} if separator else {"e_tag": e_tag}


def _reason(error: BaseException) -> str:
    """The first line of an error, which is meant for people."""
    line = str(error).partition("\n")[0].strip() or type(error).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."
