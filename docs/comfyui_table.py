"""The tables of comfyui.md: the classes of ComfyUI, from the importer's own table, and what became of published graphs.

`python docs/comfyui_table.py FOLDER...` imports every graph in folders and prints the second table.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from nodegraph.errors import WorkflowError
from nodegraph.workflow.exchange import ImportRequest
from nodegraph_comfyui.classes.table import TABLE
from nodegraph_comfyui.importer import import_comfyui

_FAMILY = " is a graph for "


def class_table() -> Iterator[str]:
    """A row for each class that becomes nodes here."""
    yield "| ComfyUI | here | inputs | differences |"
    yield "| --- | --- | --- | --- |"
    for found in TABLE.values():
        if found.here:
            here = ", ".join(f"`{name}`" for name in found.here)
            yield f"| `{found.name}` | {here} | {found.renamed} | {found.differs} |"


def outcome(path: Path) -> str:
    """What becomes of a file: imported, no graph, or why it is refused."""
    request = ImportRequest(data=path.read_bytes(), file=path.name, name=path.stem, folder=path.parent, base=path.parent)
    try:
        return "imported" if import_comfyui(request) is not None else "no graph"
    except WorkflowError as error:
        found = (problem.message.partition(_FAMILY)[2].partition(",")[0] for problem in error.problems)
        return f"refused: {next(filter(None, found), 'other nodes')}"


def outcome_table(folders: list[Path]) -> Iterator[str]:
    """How many files had each outcome."""
    counts = Counter(outcome(path) for folder in folders for path in sorted(folder.rglob("*.json")))
    yield "| outcome | files |"
    yield "| --- | --- |"
    for name, count in sorted(counts.items(), key=lambda item: (item[0].startswith("refused"), -item[1], item[0])):
        yield f"| {name} | {count} |"
    yield f"| all | {counts.total()} |"


if __name__ == "__main__":
    print("\n".join(outcome_table([Path(folder) for folder in sys.argv[1:]])))
