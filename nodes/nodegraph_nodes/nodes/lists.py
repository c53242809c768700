"""Nodes that read lists: pictures of a folder, rows of a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from nodegraph import Help, Range, Reads, Resource, Run, node
from nodegraph.plugin_api import did_you_mean
from nodegraph_nodes.models.find import AnyFile, folder_path
from nodegraph_nodes.pictures.files import read_picture
from nodegraph_nodes.types import Image, Mask

_EXTENSIONS: Final = frozenset(
    f".{name}" for name in ("png", "jpg", "jpeg", "webp", "avif", "heic", "heif", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm")
)


class PictureFiles:
    """The pictures that a folder or a pattern names: `files` by their names below it, in order."""

    def __init__(self, files: tuple[tuple[str, Path], ...]) -> None:
        self.files = files


class LoadedImages(NamedTuple):
    """Pictures with the masks of their transparency, and the names of their files."""

    images: list[Image]
    masks: list[Mask]
    names: list[str]


class Table(NamedTuple):
    """A table as lists: one column, all rows, and the names of the columns."""

    values: list[Any]
    rows: list[Any]
    columns: list[str]


def find_pictures(text: str, base: Path) -> Resource:
    """The pictures of a folder, or all files that a pattern such as `*.png` matches, sorted by name, numbers by their value.

    Raises FileNotFoundError if there are none.
    """
    path = folder_path(text, base)
    if path.is_dir():
        found = {file.name: file for file in path.iterdir() if file.suffix.lower() in _EXTENSIONS and file.is_file()}
        missing = f"there is no picture in the folder {path}"
    elif _is_pattern(text):
        start = Path(*_plain_start(path))
        files = start.glob(path.relative_to(start).as_posix())
        found = {file.relative_to(start).as_posix(): file for file in files if file.is_file()}
        missing = f"no file matches {path}"
    else:
        raise FileNotFoundError(f"there is no folder {path}. Give a folder, or a pattern such as pictures/*.png")
    if not found:
        raise FileNotFoundError(missing)
    ordered = tuple(sorted(found.items(), key=lambda item: _natural(item[0])))
    return Resource(PictureFiles(ordered), dict(ordered))


def _is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _plain_start(pattern: Path) -> list[str]:
    """The folders of a pattern before the first one that is a pattern itself."""
    parts = list(pattern.parts[:-1])
    first = next((index for index, part in enumerate(parts) if _is_pattern(part)), len(parts))
    return parts[:first]


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key to sort names by, with numbers in them by their value: a2, a10, b."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name


@node("LoadImages")
def load_images(
    path: Annotated[
        PictureFiles,
        Reads(find_pictures, by_content=True),
        Help("a folder, or a pattern such as pictures/*.png; ** stands for folders of any depth"),
    ],
    run: Run = Run(),
) -> LoadedImages:
    """Read the pictures of a folder as a list, sorted by name.

    Each picture has the mask of its transparency. The names are those of the files without the extension. Numbers in names are
    sorted by their value: 2 before 10. `FromList` takes one out, and `Grid` shows them all.
    """
    images, masks, names = [], [], []
    for name, file in path.files:
        pixels, opacity = read_picture(file, run)
        images.append(Image(pixels))
        masks.append(Mask(1 - opacity))
        names.append(str(Path(name).with_suffix("").as_posix()))
    return LoadedImages(images, masks, names)


@node("LoadTable")
def load_table(
    path: AnyFile, column: Annotated[str | None, Help("the column for `values`; default: the first one")] = None
) -> Table:
    """Read a table as lists, from CSV or JSON lines.

    A CSV file has the names of its columns in the first line, separated by commas, semicolons or tabs; its values are text. A file
    of JSON lines has one mapping in each line. `values` is one column, `rows` has a mapping for each row.
    """
    try:
        rows, columns = _read_table(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a table of CSV or JSON lines: {error}. Correct it") from error
    wanted = columns[0] if column is None and columns else column
    if wanted not in columns:
        hint = did_you_mean(str(column), columns) or f"It has {', '.join(columns) or 'none'}."
        raise ValueError(f"column: expected a column of {path}, found '{column}'. {hint}")
    return Table([row.get(wanted) for row in rows], rows, columns)


def _read_table(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows and the names of the columns. Raises ValueError with the line of a mistake."""
    import csv
    import io
    import json

    lines = text.splitlines()
    if text.lstrip()[:1] == "{":
        rows = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: expected a mapping, found {type(row).__name__}")
            rows.append(row)
        return rows, list(dict.fromkeys(name for row in rows for name in row))
    if not lines:
        raise ValueError("expected the names of columns in the first line, found an empty file")
    separator = next((mark for mark in ("\t", ";") if mark in lines[0] and "," not in lines[0]), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = next(reader)
        table = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    if len(set(columns)) < len(columns):
        raise ValueError("line 1: expected another name for each column, found one twice")
    for number, row in table:
        if len(row) != len(columns):
            raise ValueError(f"line {number}: expected {len(columns)} values, found {len(row)}")
    return [dict(zip(columns, row, strict=True)) for _, row in table], columns


@node("FromList")
def from_list(
    items: list[Any],
    index: Annotated[int, Range(-1_000_000, 1_000_000), Help("counted from 0; -1 is the last one")] = 0,
    key: Annotated[str | None, Help("for a list of mappings, such as rows of a table: the value to take from it")] = None,
) -> Any:
    """Take one item out of a list: a picture, a name, a value or row of a table.

    With a param as `index`, `--set` or a loop in a shell goes through the list.
    """
    if not -len(items) <= index < len(items):
        raise ValueError(f"index: expected an item of a list of {len(items)}, counted from 0, found {index}. Choose another one")
    item = items[index]
    if key is None:
        return item
    if not isinstance(item, dict) or key not in item:
        found = ", ".join(map(str, item)) if isinstance(item, dict) else type(item).__name__
        raise ValueError(f"key: expected a mapping with '{key}', found {found}. Choose another key")
    return item[key]
