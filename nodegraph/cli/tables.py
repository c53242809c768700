"""Rows of text: a table on a terminal, plain columns elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nodegraph.terminal import is_terminal, one_line, write


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows`: on a terminal with a header and wrapped, elsewhere one row a line in aligned columns."""
    if is_terminal(sys.stdout):
        _print_rich(columns, rows)
        return
    for line in aligned(rows):
        write(line)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Each row as a line; columns are padded to one width, two spaces apart. Control characters in cells are escapes."""
    lines = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def plain_json(value: Any) -> Any:
    """`value` as JSON can hold it: lists and mappings of numbers, booleans and text; text for anything else, such as links."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return str(value)


def first_line(doc: str | None) -> str:
    """The first line of a docstring."""
    lines = (doc or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, style="bold" if index == 0 else "")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    Console().print(table)
