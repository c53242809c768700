"""How an output was made, for `nodegraph show`: by a run of nodegraph, or by another program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph.cli.tables import aligned

if TYPE_CHECKING:
    from nodegraph.plugins.manager import Plugins

_TEXT: Final = (".yaml", ".yml", ".json", "")
_LARGEST: Final = 256 << 20  # bytes of a file of another program
_OWN: Final = "nodegraph"


def how_made(file: Path, plugins: Plugins) -> dict[str, Any] | None:
    """The program that made an output, and what is known of how; None for a workflow, and for files that say nothing."""
    from nodegraph.workflow.output_metadata import WORKFLOW, read_metadata, run_data

    metadata = read_metadata(file, plugins.codecs)
    if metadata:
        return {"program": _OWN, **run_data(metadata), "workflow": metadata[WORKFLOW]}
    try:
        if file.suffix.lower() in _TEXT or file.stat().st_size > _LARGEST:
            return None
        data = file.read_bytes()
    except OSError:  # loading it will report that
        return None
    found = plugins.manager.hook.describe_output(data=data)
    return None if found is None else {name: _plain(value) for name, value in found.items()}


def made_text(file: Path, made: Mapping[str, Any]) -> str:
    """The same for people."""
    return "\n".join(_lines(file, made))


def _lines(file: Path, made: Mapping[str, Any]) -> Iterator[str]:
    from nodegraph.text import described

    if made["program"] != _OWN:
        version = f" {made['version']}" if made.get("version") else ""
        yield f"{file}: made by {made['program']}{version}"
        rows = [(name, value if isinstance(value, str) else described(value)) for name, value in made.items()]
        yield from (f"  {line}" for line in aligned([row for row in rows if row[0] not in ("program", "version")]))
        return
    yield f"{file}: made by nodegraph, run {_plain(made.get('run'))}"
    sections: list[tuple[str, list[tuple[str, str]]]] = [
        ("versions", [(str(name), str(version)) for name, version in _mapping(made.get("versions")).items()]),
        ("files", [(str(name), _digests(found)) for name, found in _mapping(made.get("files")).items()]),
    ]
    for title, rows in sections:
        if rows:
            yield f"\n{title}"
            yield from (f"  {line}" for line in aligned(rows))
    yield "\nworkflow"
    yield from (f"  {line}" for line in str(made["workflow"]).splitlines())


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _digests(found: Any) -> str:
    digests = [str(digest)[:12] for digest in _mapping(found).values()]
    return f"SHA-256 {digests[0]}..." if len(digests) == 1 else f"{len(digests)} files"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else str(value)
