"""One file for a workflow with all the workflows that it uses: each becomes a workflow inside, which nodes use as `#name`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from nodegraph.graph.expansion.scopes import Scope
from nodegraph.node_types.portable import portable
from nodegraph.workflow.definitions import Document, NodeDef, is_workflow
from nodegraph.workflow.subworkflows import Source
from nodegraph.workflow.workflow import Workflow

Find: TypeAlias = Callable[[Source, NodeDef], Source | None]
"""Returns the workflow that a node of a workflow uses; None if it cannot be read."""

Paths: TypeAlias = Callable[[Path], Mapping[str, str]]
"""Returns how paths in a workflow are written in another file, for a workflow whose relative paths start from a folder."""


def embedded(workflow: Workflow, paths: Paths, top: Scope | None = None, find: Find = lambda source, node: None) -> Workflow:
    """A copy of `workflow` whose sub-workflows are all inside it. `top` is the scope that it was expanded in."""
    return _OneFile(workflow, paths, find).whole(top.source if top is not None else None)


class _OneFile:
    def __init__(self, workflow: Workflow, paths: Paths, find: Find) -> None:
        self._workflow, self._paths, self._find = workflow, paths, find
        self._names: dict[int, str] = {}  # by the id of the document
        self._pending: list[Source] = []
        self._taken: dict[str, int] = {}  # names, each with the next number for another one

    def whole(self, source: Source | None) -> Workflow:
        """The copy."""
        workflow = self._workflow
        changed = Workflow(workflow.name, workflow.description, base=workflow.base)
        changed.sweep = workflow.sweep
        changed.values = _rewritten(workflow.values, self._paths(workflow.base))
        self._fill(changed, workflow, source, workflow.base)
        for inner in self._pending:  # which grows
            document = Document(self._names[id(inner.document)], inner.document.description)
            document.folder = self._folder(inner.base)
            self._fill(document, inner.document, inner, inner.base)
            changed.workflows[document.name] = document
        return changed

    def _fill(self, target: Document, document: Document, source: Source | None, base: Path) -> None:
        paths = self._paths(base)
        for param in document.params.values():
            target.params[param.name] = replace(param, default=_rewritten(param.default, paths))
        for node in document.nodes.values():
            use = self._use(source, node) if source is not None and is_workflow(node.type) else node.type
            target.nodes[node.name] = NodeDef(
                node.name, use, _rewritten(dict(node.inputs), paths), where=node.where, takes=node.takes
            )
        target.outputs.update(document.outputs)

    def _use(self, source: Source, node: NodeDef) -> str:
        inner = self._find(source, node)
        if inner is None:
            return node.type
        name = self._names.get(id(inner.document))
        if name is None:
            name = self._names[id(inner.document)] = self._free_name(node)
            self._pending.append(inner)
        return f"#{name}"

    def _free_name(self, node: NodeDef) -> str:
        stem = node.type[1:] if node.type.startswith("#") else Path(node.type).stem
        name = re.sub(r"[^A-Za-z0-9_-]", "_", stem).lstrip("-0123456789") or "workflow"
        free = name
        while free in self._taken:
            number = self._taken[name]
            free, self._taken[name] = f"{name}_{number}", number + 1
        self._taken[free] = 2
        return free

    def _folder(self, base: Path) -> str:
        start = self._workflow.base
        if base == start:
            return ""
        try:
            return portable(os.path.relpath(base, start), start, start)
        except ValueError:  # another drive
            return portable(str(base), start, start)


def _rewritten(value: Any, paths: Mapping[str, str]) -> Any:
    if not paths:
        return value
    if isinstance(value, str):
        return paths.get(value, value)
    if isinstance(value, list):
        return [_rewritten(item, paths) for item in value]
    return {key: _rewritten(item, paths) for key, item in value.items()} if isinstance(value, dict) else value
