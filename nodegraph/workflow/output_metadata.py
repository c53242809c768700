"""Workflows in the metadata of the outputs that they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Problem, WorkflowError
from nodegraph.files import parse_json
from nodegraph.plugins.codecs import Codecs
from nodegraph.plugins.manager import Plugins
from nodegraph.text import relative_path
from nodegraph.workflow.recorded import RecordedFiles
from nodegraph.workflow.workflow import Workflow

WORKFLOW: Final = "nodegraph"
"""The name of the metadata that holds the workflow as it ran, in YAML."""

RUN: Final = "nodegraph_run"
"""The name of the metadata that describes the run, in JSON."""

_TEXT: Final = (".yaml", ".yml", ".json", "")
_LARGEST: Final = 1 << 30  # bytes of an output


def read_metadata(path: Path, codecs: Codecs) -> Mapping[str, str]:
    """The metadata of an output that a run wrote; empty for any other file, and for one that is damaged."""
    if path.suffix.lower() in _TEXT:
        return {}
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        data = path.read_bytes()
    except OSError:
        return {}
    found = codecs.extract(data, path.suffix.lower())
    return found if WORKFLOW in found else {}


def recorded_workflow(path: Path, metadata: Mapping[str, str], plugins: Plugins, bases: Sequence[Path] = ()) -> Workflow:
    """The workflow in the metadata of the output `path`. The files that it read are looked for beside it, then in other places.

    These are the current directory, `bases`, and the folder of the example of this name. Raises WorkflowError with every mistake in
    its form, and if what it says of the run is damaged.
    """
    file, base = relative_path(path), path.resolve().parent
    workflow = Workflow.parse(metadata[WORKFLOW], file=file, base=base)
    examples = plugins.registries["examples"]
    example = [examples.get(workflow.name).value.parent] if workflow.name in examples else []
    places = [base, Path.cwd(), *(Path(folder).absolute() for folder in bases)]
    files = _files(metadata, file)
    workflow.recorded = RecordedFiles(files=files, places=places, start=base, last=example)
    workflow.file = path.absolute()
    return workflow


def run_data(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """What the metadata says about the run; empty if it is damaged."""
    try:
        found = parse_json(metadata.get(RUN, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _files(metadata: Mapping[str, str], file: str) -> Mapping[str, Mapping[str, str]]:
    """The recorded files; files of earlier versions have none."""
    found = run_data(metadata).get("files", {})
    if isinstance(found, dict) and all(map(_is_names, found.values())):
        return found
    message = f"{file} says which files it was made of in a form that cannot be read"
    raise WorkflowError([Problem("E101", message, None, "Its metadata was changed. Take a copy as it was written.")])


def _is_names(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())
