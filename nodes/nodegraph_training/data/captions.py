"""Captions in files: beside each picture, or in tables as the trainers of kohya and the libraries of Hugging Face write them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

BESIDE: Final = (".txt", ".caption")
TABLES: Final = (".csv", ".jsonl", ".json")

_FILE_NAMES: Final = ("file_name", "image_path", "image", "file", "path")
_TEXTS: Final = ("text", "caption", "prompt")
_TAGS: Final = "tags"


class Fault(NamedTuple):
    """A file that cannot be used, by its path below the folder, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class Row(NamedTuple):
    """A line of a table: the picture that it names, as it is written, and its caption."""

    file: str
    caption: str


def read_text(name: str, path: Path) -> str | Fault:
    """The caption in a text file."""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        return Fault(name, "it is not UTF-8 text")
    except OSError as error:
        return Fault(name, f"it cannot be read ({error.strerror})")


def read_table(name: str, path: Path) -> tuple[list[Row], list[Fault]]:
    """The rows of a table of captions, and what is wrong with others."""
    text = read_text(name, path)
    if isinstance(text, Fault):
        return [], [text]
    read = {".csv": _csv_entries, ".jsonl": _jsonl_entries, ".json": _json_entries}[path.suffix.lower()]
    rows, faults = [], []
    for where, entry in read(text):
        row = entry if isinstance(entry, str) else _row(entry)
        if isinstance(row, str):
            faults.append(Fault(f"{name}{where}", row))
        else:
            rows.append(row)
    return rows, faults


def picture_of(row: Row, table: str, pictures: Mapping[str, Path]) -> str | None:
    """The picture that a row names, by its path below the folder; None if there is none.

    A row names it by its path beside the table, its path below the folder, an absolute path, or its name alone if only one picture
    has it; with or without the extension.
    """
    below = PurePosixPath(table).parent
    written = row.file.replace("\\", "/")
    for candidate in ((below / written).as_posix(), PurePosixPath(written).as_posix()):
        if candidate in pictures:
            return candidate
    absolute = Path(row.file)
    if absolute.is_absolute():
        found = next((name for name, path in pictures.items() if path == absolute), None)
        if found is not None:
            return found
    stems = {PurePosixPath(name).with_suffix("").as_posix(): name for name in pictures}
    if (found := stems.get((below / written).as_posix()) or stems.get(written)) is not None:
        return found
    alike = [name for name in pictures if PurePosixPath(written).name in (PurePosixPath(name).name, PurePosixPath(name).stem)]
    return alike[0] if len(alike) == 1 else None


def _row(entry: Any) -> Row | str:
    """The row that an entry means, or what is wrong with it."""
    if not isinstance(entry, dict):
        return f"expected an object, found {type(entry).__name__}"
    file = next((entry[name] for name in _FILE_NAMES if entry.get(name)), None)
    if not isinstance(file, str):
        return f"it names no picture; expected one of {', '.join(_FILE_NAMES)}"
    texts = [entry[name] for name in _TEXTS if isinstance(entry.get(name), str) and entry[name].strip()]
    tags = entry.get(_TAGS)
    if isinstance(tags, list):
        tags = ", ".join(map(str, tags))
    parts = [*texts[:1], *([tags] if isinstance(tags, str) and tags.strip() else [])]
    if not parts:
        return f"it has no caption; expected one of {', '.join((*_TEXTS, _TAGS))}"
    return Row(file, ", ".join(part.strip() for part in parts))


def _csv_entries(text: str) -> Iterator[tuple[str, Any]]:
    """The rows of a table with a line of names."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield f" line {reader.line_num}", {name: value for name, value in row.items() if name is not None}
    except csv.Error as error:
        yield f" line {reader.line_num}", f"it is not CSV ({error})"


def _jsonl_entries(text: str) -> Iterator[tuple[str, Any]]:
    """An object in each line."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                yield f" line {number}", "it is not JSON"
            else:
                yield f" line {number}", entry


def _json_entries(text: str) -> Iterator[tuple[str, Any]]:
    """One object that has an object for each picture, by its name: the metadata of kohya's trainer."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        yield "", "it is not JSON"
        return
    if isinstance(document, list):
        yield from ((f" entry {number}", entry) for number, entry in enumerate(document, 1))
    elif isinstance(document, dict):
        for name, entry in document.items():
            yield f" '{name}'", {"file_name": name, **entry} if isinstance(entry, dict) else f"expected an object for '{name}'"
    else:
        yield "", "expected an object for each picture"
