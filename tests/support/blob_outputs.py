"""Workflows whose output is a blob of the stub pack, and the files that a run writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nodegraph import Engine, Workflow


def making(save: str | None = None, count: int = 1, **params: Any) -> Workflow:
    """A workflow with one blob for an output."""
    workflow = Workflow("wf")
    for name, value in params.items():
        workflow.param(name, value)
    workflow.output("blob", workflow.add("Make", name="made", text="x", count=count), save)
    return workflow


def written(engine: Engine, out: Path, workflow: Workflow, **options: Any) -> list[str]:
    """The files of a run, relative to `out`."""
    result = engine.run(workflow, out=out, **options)
    return [path.relative_to(out).as_posix() for paths in result.outputs.values() for path in paths]
