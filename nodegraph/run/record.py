"""The record of a run, `runs/<id>.json` in the cache directory, and the metadata that is written into each output."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from nodegraph.cache.key_text import KeyParts
from nodegraph.files import create_inside, parse_json, write_in_cache
from nodegraph.graph.graph import Graph
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.backend import Numerics
from nodegraph.plugins.codecs import is_json
from nodegraph.plugins.distributions import engine_version
from nodegraph.run.events import Status
from nodegraph.run.known_results import KnownResults
from nodegraph.run.plan import Plan
from nodegraph.run.result import NodeReport
from nodegraph.text import described
from nodegraph.workflow.output_metadata import RUN, WORKFLOW

FORMAT: Final = 2

SEARCHED_RUNS: Final = 50
"""How many of the latest runs are searched for the earlier form of a node, or for the time it took."""


StoredForm = Mapping[str, Any]
"""The form of a node as it is stored in a run record: links are ["link", node, port]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRecord:
    """A finished run. `document` is the workflow as it ran, in YAML; `started` is in seconds since 1970.

    `overrides` are the values that were given from outside the workflow, `targets` what was computed instead of its outputs.
    """

    run: str
    graph: Graph
    document: str
    status: Status
    error: BaseException | None
    started: float
    seconds: float
    numerics: Numerics | None
    reports: Mapping[str, NodeReport]
    outputs: Mapping[str, list[Path]]
    known: KnownResults
    overrides: Mapping[str, Any]
    targets: Sequence[str]
    out: Path | None

    def write(self, folder: Path) -> None:
        """Write `<run>.json`. Best effort: if the directory cannot be written, storing results has warned of that already."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "run": self.run,
            "workflow": self.graph.workflow,
            "document": self.document,
            "base": str(self.graph.resolved.base.absolute()),
            "params": dict(self.graph.params),
            **({"seeds": dict(self.graph.seeds)} if self.graph.seeds else {}),
            "overrides": {name: _as_json(value) for name, value in self.overrides.items()},
            "targets": list(self.targets),
            "out": None if self.out is None else str(self.out),
            "status": self.status,
            "error": str(self.error) if self.error is not None else None,
            "started": self.started,
            "seconds": self.seconds,
            "numerics": asdict(self.numerics) if self.numerics is not None else None,
            "versions": versions(self.graph),
            "platform": _platform(),
            "outputs": {name: [str(path.absolute()) for path in paths] for name, paths in self.outputs.items()},
            "peak_memory": _peak_memory(),
            "nodes": {name: self._node(name, report) for name, report in self.reports.items()},
        }
        path, data = folder / f"{self.run}.json", json.dumps(document, default=str).encode()
        with contextlib.suppress(OSError):
            try:
                write_in_cache(path, data)
            except FileNotFoundError:
                create_inside(folder.parent, folder)
                write_in_cache(path, data)

    def _node(self, name: str, report: NodeReport) -> dict[str, Any]:
        form = self.known.keys.parts.get(name)
        fields = {
            "type": self.graph.nodes[name].spec.name,
            "status": report.status,
            "seconds": report.seconds,
            "key": report.key,
            "content": report.content,
            "notices": report.notices,
            "error": report.error,
            "digests": dict(self.known.digests(name)),
        }
        if report.wrong is not None:
            fields["wrong"] = report.wrong.as_json()
        return fields if form is None else {**fields, "form": stored_form(form)}


def _as_json(value: Any) -> Any:
    """A value that was given from outside: as it is if JSON can hold it, otherwise as text."""
    return value if is_json(value) else described(value)


def stored_form(form: KeyParts) -> StoredForm:
    """A form as it is stored in a run record."""
    return {**form, "inputs": {port: _link_as_list(value) for port, value in form["inputs"].items()}}


def _link_as_list(value: Any) -> Any:
    if hasattr(value, "node"):
        return ["link", value.node, value.port]
    if value[0] == "many":
        return ["many", [_link_as_list(item) for item in value[1]]]
    return value


def read_runs(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of the runs in `folder`, the latest first. Files that cannot be read are skipped."""
    try:
        paths = sorted(folder.glob("*.json"), reverse=True)
    except OSError:
        return
    for path in paths:
        try:
            record = parse_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("format") == FORMAT:
            yield record


def last_forms(folder: Path, workflow: str, nodes: Collection[str]) -> dict[str, KeyParts]:
    """The form that each of `nodes` had in the last run of `workflow`, if it is among the latest runs."""
    forms: dict[str, KeyParts] = {}
    for record in itertools.islice(read_runs(folder), SEARCHED_RUNS):
        if record.get("workflow") == workflow:
            for name, node in record["nodes"].items():
                if (
                    name in nodes
                    and name not in forms
                    and "form" in node
                    and node.get("status") in ("ran", "verified", "differed", "cached")
                ):
                    forms[name] = node["form"]
    return forms


def new_run_id() -> str:
    """A new id for a run. Ids sort by time."""
    now = time.time_ns()
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now / 1e9))}-{now // 1000 % 10**6:06d}-{os.urandom(2).hex()}"


def provenance(
    run: str,
    graph: Graph,
    *,
    document: str,
    keys: Mapping[str, str],
    files: Mapping[str, Mapping[str, str]],
    output: Mapping[str, Any],
) -> dict[str, str]:
    """The metadata of an output: the workflow as it ran (YAML), and the run (JSON) with what `output` says about the file.

    `files` are the digests of the files that the nodes read.
    """
    run_data = {
        "run": run,
        "workflow": graph.workflow,
        "versions": versions(graph),
        "files": dict(files),
        "keys": dict(keys),
        "output": dict(output),
    }
    return {WORKFLOW: document, RUN: json.dumps(run_data)}


def versions(graph: Graph) -> dict[str, str]:
    """The versions of nodegraph, Python, and the plugins whose nodes the graph uses, with a digest of code that can be edited."""
    plugins = {node.origin.plugin: node.origin for node in graph.nodes.values()}
    used = {name: f"{o.version}+{o.digest[:12]}" if o.digest else o.version for name, o in sorted(plugins.items())}
    return {"nodegraph": engine_version(), "python": platform.python_version(), **used}


def _platform() -> str:
    """What `platform.platform` returns. On Linux that would start another program, `uname -p`, at every run."""
    if sys.platform != "linux":
        return platform.platform()
    system = os.uname()
    return "-".join(filter(None, (system.sysname, system.release, system.machine, "with", "".join(platform.libc_ver()))))


def _peak_memory() -> int | None:
    """The most memory that this process has used, in bytes; None if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def usual_times(plan: Plan, records: Path | None) -> dict[str, float]:
    """How long each node took when it last ran; for a new node, how long another one of its type took.

    `records` is the folder with the records of earlier runs. None: there are none.
    """
    if records is None:
        return {}
    by_name: dict[str, float] = {}
    by_type: dict[str, float] = {}
    for workflow, name, node in _recorded_nodes(records):
        by_type.setdefault(node["type"], node["seconds"])
        planned = plan.graph.nodes.get(name)
        if workflow == plan.graph.workflow and planned is not None and planned.spec.name == node["type"]:
            by_name.setdefault(name, node["seconds"])
    types = {name: node.spec.name for name, node in plan.graph.nodes.items()}
    return {name: by_type[kind] for name, kind in types.items() if kind in by_type} | by_name


def _recorded_nodes(records: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The workflow, the name and the record of each node that ran, the latest first."""
    for record in itertools.islice(read_runs(records), SEARCHED_RUNS):
        try:
            nodes = [
                (record["workflow"], name, node)
                for name, node in record["nodes"].items()
                if node["status"] in ("ran", "verified", "differed")
            ]
            yield from (
                (workflow, name, {"type": node["type"], "seconds": float(node["seconds"])}) for workflow, name, node in nodes
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # a damaged record
