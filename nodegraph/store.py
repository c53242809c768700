"""The cache directory: values as content-addressed files, and one small record for each key.

    blobs/ab/<sha256 of the file><suffix>       values and exported files, never changed once written
    records/ab/<content key>.json               an action record: which blobs a node's result is made of
    aliases/ab/<static key>                     the content key that a static key stands for
    exports/ab/<digest of a value><extension>.json      the files that a value was exported to
    quarantine/                                 blobs whose content was found changed

A file is written beside its place and renamed, blobs before the record that names them; so a process that is killed leaves nothing
half-written. Nothing is unpickled. A directory that cannot be read or written costs the cache, never the run.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from nodegraph.files import write_whole
from nodegraph.fingerprint import Fingerprints, hash_file

FORMAT: Final = 1
DIRECTORY_VARIABLE: Final = "NODEGRAPH_CACHE_DIR"

_BLOB = re.compile(r"[0-9a-f]{64}(\.[A-Za-z0-9]+)*")
_KEY = re.compile(r"[0-9a-f]{64}")
_ROOMS: Final = ("aliases", "records", "exports", "blobs", "quarantine", "tmp")


def default_directory() -> Path:
    """Where the cache lies unless told otherwise: NODEGRAPH_CACHE_DIR, else the user's cache folder of this platform."""
    told = os.environ.get(DIRECTORY_VARIABLE)
    if told:
        return Path(told).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("nodegraph", appauthor=False)


class Lost(Exception):
    """A blob is gone, or its content is not what its name says."""


@dataclass(frozen=True)
class Stored:
    """A stored value: its digest, the blob that holds it, the codec that reads it, and the blob's bytes."""

    digest: str
    blob: str
    codec: str
    size: int


@dataclass(frozen=True)
class Record:
    """What is known of a node's result: its stored outputs, and what made it. `created` is in seconds since 1970."""

    key: str
    type: str
    workflow: str
    node: str
    created: float
    seconds: float
    outputs: Mapping[str, Stored]
    notices: tuple[str, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True)
class StoreInfo:
    """How much lies in a store: results (records), files (blobs), and their bytes."""

    place: Path
    records: int
    blobs: int
    bytes: int


@dataclass
class Store:
    """A cache directory. `warn` receives what is wrong with it, at most one message on reading and one on writing a run."""

    place: Path
    warn: Callable[[str], None] = field(default=lambda message: None)

    def __post_init__(self) -> None:
        self._verified = Fingerprints(self.place / "verified.jsonl", granularity_ns=0)
        self._counter = itertools.count()
        self.start()

    def start(self) -> None:
        """Forget the troubles of an earlier run: what failed then is tried again, and told again."""
        self._writable = True
        self._told_reading = False

    # --- records

    def record(self, key: str) -> Record | None:
        """The record of `key`; None where there is none, or none that can be read."""
        document = self._read(self._record_path(key))
        try:
            return _record(document, key) if document is not None else None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None  # of another version, or damaged: it will be written anew

    def put_record(self, record: Record) -> None:
        """Write `record`, whose blobs are stored already."""
        self._write(self._record_path(record.key), asdict(record))

    def records(self) -> Iterator[Record]:
        """Every record, in no order."""
        for path in self._files("records"):
            if path.suffix == ".json" and _KEY.fullmatch(path.stem) and (record := self.record(path.stem)):
                yield record

    # --- aliases

    def alias(self, static: str) -> str | None:
        """The content key that `static` stands for; None where that is not known."""
        try:
            content = self._alias_path(static).read_text(encoding="ascii")
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            self._trouble_reading(f"the cache directory {self.place} cannot be read: {_reason(error)}. Nothing is taken from it")
            return None
        return content if _KEY.fullmatch(content) else None

    def put_alias(self, static: str, content: str) -> None:
        """Note that `static` stands for `content`, whose record is stored already."""
        if not self._writable:
            return
        try:
            write_whole(self._alias_path(static), content.encode("ascii"))
        except OSError as error:
            self._trouble_writing(error)

    # --- blobs

    def has(self, blob: str) -> bool:
        """Whether `blob` is there with the content that its name says. One that is not is put aside, with a warning."""
        try:
            self.blob(blob)
        except Lost:
            return False
        return True

    def blob(self, blob: str) -> Path:
        """The file of `blob`, its content checked once for each state of the file. Raises Lost."""
        if not _BLOB.fullmatch(blob):
            raise Lost(f"'{blob}' is no blob's name")
        path = self._blob_path(blob)
        try:
            digest = self._verified.sha256(path)
        except FileNotFoundError:
            raise Lost(f"{path} is gone") from None
        except OSError as error:
            self._trouble_reading(f"the cache file {path} cannot be read: {_reason(error)}. What it held is computed again")
            raise Lost(str(error)) from error
        if not blob.startswith(digest):
            self._quarantine(path)
            self._trouble_reading(f"the cache file {path} was changed since it was written; it is put aside and computed again")
            raise Lost(f"{path} was changed")
        return path

    def put_file(self, write: Callable[[Path], None], suffix: str) -> tuple[str, int] | None:
        """Store the file that `write` makes at the path it is given; its blob's name and bytes.

        None where the directory takes nothing. What `write` raises, other than OSError, goes through.
        """
        if not self._writable:
            return None
        temporary = self.place / "tmp" / f"{os.getpid()}-{next(self._counter)}-{os.urandom(4).hex()}{suffix}"
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            blob, size = hash_file(temporary) + suffix, temporary.stat().st_size
            path = self._blob_path(blob)
            if not (path.exists() and path.stat().st_size == size):
                path.parent.mkdir(parents=True, exist_ok=True)
                _move(temporary, path)
        except OSError as error:
            self._trouble_writing(error)
            return None
        finally:
            _remove(temporary)
        return blob, size

    def put_bytes(self, data: bytes, suffix: str) -> tuple[str, int] | None:
        """Store `data`; as `put_file`."""
        return self.put_file(lambda path: _write_bytes(path, data), suffix)

    # --- exported files of a value

    def exported(self, digest: str, extension: str) -> list[bytes] | None:
        """The files that the value of `digest` was exported to, or None where they are not all there."""
        document = self._read(self._export_path(digest, extension))
        try:
            return [self.blob(str(blob)).read_bytes() for blob in document["blobs"]] if document is not None else None
        except (Lost, OSError, KeyError, TypeError):
            return None

    def put_exported(self, digest: str, extension: str, files: list[bytes]) -> None:
        """Keep what the value of `digest` was exported to."""
        stored = [self.put_bytes(data, extension) for data in files]
        if all(stored):
            blobs = [blob for blob, _ in filter(None, stored)]
            self._write(self._export_path(digest, extension), {"format": FORMAT, "blobs": blobs})

    # --- the whole

    def info(self) -> StoreInfo:
        sizes = [path.stat().st_size for path in self._files("blobs")]
        return StoreInfo(self.place, sum(1 for _ in self._files("records")), len(sizes), sum(sizes))

    def clear(self) -> StoreInfo:
        """Remove every result, and what is remembered of files and devices; run records stay. Says what was removed."""
        before = self.info()
        for room in _ROOMS:
            shutil.rmtree(self.place / room, ignore_errors=True)
        for memo in ("verified.jsonl", "files.jsonl", "numerics.json"):
            _remove(self.place / memo)
        self._verified.forget()
        after = self.info()
        return StoreInfo(self.place, before.records - after.records, before.blobs - after.blobs, before.bytes - after.bytes)

    # --- paths and troubles

    def _blob_path(self, blob: str) -> Path:
        return self.place / "blobs" / blob[:2] / blob

    def _record_path(self, key: str) -> Path:
        return self.place / "records" / key[:2] / f"{key}.json"

    def _alias_path(self, static: str) -> Path:
        return self.place / "aliases" / static[:2] / static

    def _export_path(self, digest: str, extension: str) -> Path:
        return self.place / "exports" / digest[:2] / f"{digest}{extension}.json"

    def _files(self, room: str) -> Iterator[Path]:
        for folder, _, names in os.walk(self.place / room):
            yield from (Path(folder, name) for name in names)

    def _read(self, path: Path) -> Any:
        try:
            return json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            self._trouble_reading(f"the cache directory {self.place} cannot be read: {_reason(error)}. Nothing is taken from it")
            return None

    def _write(self, path: Path, document: Mapping[str, Any]) -> None:
        if not self._writable:
            return
        try:
            write_whole(path, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
        except OSError as error:
            self._trouble_writing(error)

    def _trouble_writing(self, error: OSError) -> None:
        if self._writable:
            self._writable = False
            self.warn(
                f"the cache directory {self.place} takes nothing: {_reason(error)}. The run goes on and keeps no more results; "
                f"free or fix the directory, or name another with --cache-dir"
            )

    def _trouble_reading(self, message: str) -> None:
        if not self._told_reading:
            self._told_reading = True
            self.warn(message)

    def _quarantine(self, path: Path) -> None:
        try:
            aside = self.place / "quarantine" / path.name
            aside.parent.mkdir(exist_ok=True)
            path.replace(aside)
        except OSError:
            _remove(path)


def _record(document: Mapping[str, Any], key: str) -> Record:
    if document["format"] != FORMAT or document["key"] != key:
        raise ValueError("a record of another format")
    outputs = {port: Stored(**stored) for port, stored in document["outputs"].items()}
    if not all(_KEY.fullmatch(stored.digest) for stored in outputs.values()):
        raise ValueError("a digest that is none")
    return Record(**{**document, "outputs": outputs, "notices": tuple(document["notices"])})


def _move(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except PermissionError:
        if not path.exists():  # on Windows: another process has just written the same blob, and reads it
            raise


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # in use elsewhere, or the directory is read-only; `clear` tries again


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
