"""What can be compared: a workflow, an earlier run, or an output, with what is known of how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from nodegraph.engine import Engine
from nodegraph.errors import Problem, WorkflowError
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.spec import MISSING
from nodegraph.run.outputs.whole import recorded_files, whole_workflow
from nodegraph.run.record import read_runs, versions
from nodegraph.workflow.definitions import Document
from nodegraph.workflow.output_metadata import WORKFLOW, read_metadata, run_data
from nodegraph.workflow.scalars import as_yaml
from nodegraph.workflow.workflow import Workflow


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison. `output` is its file, if it is one; `settings` is what another program says of it."""

    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] | None = None
    versions: Mapping[str, str] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    output: Path | None = None


def side_of(source: Workflow | Path | str, engine: Engine) -> Side:
    """What `source` names: a workflow or its file, an output, or the id of a run, which may be shortened.

    Raises WorkflowError for anything else.
    """
    if isinstance(source, Workflow):
        return _of_workflow(source, source.name, engine)
    path = Path(source)
    metadata = read_metadata(path, engine.plugins.codecs)
    if metadata:
        data = run_data(metadata)
        document = Workflow.parse(metadata[WORKFLOW], file=str(path), base=path.resolve().parent)
        files, used = data.get("files"), data.get("versions")
        return _of_document(
            document,
            str(path),
            files=files if isinstance(files, dict) and all(isinstance(inside, dict) for inside in files.values()) else None,
            versions=_texts(used) if isinstance(used, dict) else None,
            output=path,
        )
    if not path.exists() and (record := _record(str(source), engine)) is not None:
        document = Workflow.parse(record["document"], file=f"run {record['run']}", base=Path(record.get("base") or "."))
        return _of_document(document, f"run {record['run']}", versions=_texts(record.get("versions") or {}))
    if path.is_file() and (found := _of_other_program(path, engine)) is not None:
        return found
    from nodegraph.graph.load import load_workflow

    return _of_workflow(load_workflow(path, engine.plugins), str(path), engine)


def _of_workflow(workflow: Workflow, name: str, engine: Engine) -> Side:
    graph = engine.check(workflow)
    files = recorded_files(graph, engine.digest)
    return _of_document(whole_workflow(graph), name, files=files, versions=versions(graph))


def _of_document(document: Document, name: str, **others: Any) -> Side:
    nodes = dict(_nodes(document, ""))
    for inner in document.workflows.values():
        nodes |= _nodes(inner, f"#{inner.name}/")
    return Side(
        name=name,
        params={param.name: "" if param.default is MISSING else as_yaml(param.default) for param in document.params.values()}
        | {value: as_yaml(content) for value, content in document.values.items()},
        nodes=nodes,
        outputs={output.name: as_yaml({"from": output.link, "save": output.save}) for output in document.outputs.values()},
        **others,
    )


def _nodes(document: Document, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for node in document.nodes.values():
        yield f"{prefix}{node.name}", {"use": node.type, "inputs": dict(node.inputs)}


def _of_other_program(path: Path, engine: Engine) -> Side | None:
    """A file of another program, or an output without metadata, that the backend can compare."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorkflowError([Problem("E100", f"{path} cannot be read: {error.strerror or error}")]) from None
    found = engine.plugins.manager.hook.describe_output(data=data)
    if found is None and not engine.plugins.backend.can_compare(data):
        return None
    return Side(name=str(path), settings=_texts(found or {}), output=path)


def _record(name: str, engine: Engine) -> Mapping[str, Any] | None:
    """The record of a run; None if there is not exactly one whose id begins like this."""
    if engine.cache_dir is None:
        return None
    found = [record for record in read_runs(engine.cache_dir / "runs") if name == "last" or record["run"].startswith(name)]
    return found[0] if found and (len(found) == 1 or name == "last") else None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()}
