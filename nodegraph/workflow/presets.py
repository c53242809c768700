"""Presets: files that hold values for params and inputs of nodes, under the names that `--set` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.light_dataclass import dataclass
from nodegraph.text import relative_path
from nodegraph.workflow.document import parse_values
from nodegraph.workflow.text_file import decode, read_bytes


@dataclass(frozen=True, kw_only=True)
class PresetValue:
    """A value in a preset. Relative paths in it start from `base`, the folder of the preset."""

    name: str
    value: Any
    where: Location
    base: Path


def read_preset(path: Path) -> list[PresetValue]:
    """The values in a preset, in order. Raises WorkflowError with every mistake in its form."""
    file = relative_path(path)
    try:
        data = read_bytes(path)
    except WorkflowError as error:
        message = error.problems[0].message.replace("workflow file", "preset")
        raise WorkflowError([Problem("E100", message, None, "Check the path.")]) from None
    base = path.resolve().parent
    return [PresetValue(name=n, value=v, where=where, base=base) for n, v, where in parse_values(decode(data, file), file=file)]
