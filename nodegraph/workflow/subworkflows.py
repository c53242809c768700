"""Finds the workflows that other workflows use as nodes: files, and those of the same file."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.node_types.spec import under
from nodegraph.text import did_you_mean, relative_path
from nodegraph.workflow.definitions import Document, NodeDef, is_composed
from nodegraph.workflow.text_file import decode, read_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A workflow that a node can use.

    `name` is what messages call it: its file, or `FILE#NAME`. Relative paths in it start from `base`, and `named` are the workflows
    that it can use as `#name`. `home` is the folder of its file, if that is another one.
    """

    name: str
    document: Document
    base: Path
    named: Mapping[str, Document]
    home: Path | None = None

    @cached_property
    def composed(self) -> frozenset[str]:
        """The nodes that stand for other nodes."""
        return frozenset(node.name for node in self.document.nodes.values() if is_composed(node))


@dataclass(frozen=True, eq=False)
class Sources:
    """What was read: files by their real paths, and the workflows inside files by the id of their document."""

    files: dict[str, Source] = field(default_factory=dict)
    named: dict[int, Source] = field(default_factory=dict)


class SourceReader:
    """Reads each file once, so that all its uses see the same content. Mistakes in the form of files are added to `problems`."""

    def __init__(self, problems: list[Problem], sources: Sources) -> None:
        self._problems, self._files, self._named = problems, sources.files, sources.named

    def folders(self) -> set[Path]:
        """The folders that relative paths in the workflows start from."""
        return {source.base for source in (*self._files.values(), *self._named.values())}

    def find(self, user: Source, node: NodeDef) -> Source | None:
        """The workflow that a node of `user` uses; None if it cannot be read, which has been reported."""
        try:
            return self._find_named(user, node) if node.type.startswith("#") else self._find_file(user, node)
        except WorkflowError as error:
            self._problems.extend(error.problems)
            return None

    def _find_named(self, user: Source, node: NodeDef) -> Source:
        name = node.type[1:]
        document = user.named.get(name)
        if document is None:
            file = user.name.partition("#")[0]
            listed = f"It has {', '.join(f'#{known}' for known in user.named)}." if user.named else "Add it under 'workflows:'."
            hint = did_you_mean(name, user.named) or listed
            raise _problem(f"{file} has no workflow '{name}' (node '{node.name}')", node.location("use"), hint)
        home = user.base if user.home is None else user.home
        found = self._named.get(id(document))
        if found is None:
            found = self._named[id(document)] = Source(
                name=f"{user.name.partition('#')[0]}#{name}",
                document=document,
                base=_base(document, home),
                named=document.workflows or user.named,
                home=getattr(document, "base", home),
            )
        return found

    def _find_file(self, user: Source, node: NodeDef) -> Source:
        path = user.base / node.type
        real = os.path.realpath(path)
        if real in self._files:
            return self._files[real]
        file = relative_path(os.path.normpath(path))
        try:
            document, problems = _parsed(decode(read_bytes(path), file), file, path.stem)
        except WorkflowError as error:
            message = f"node '{node.name}' uses {node.type}, which cannot be read"
            raise WorkflowError([_problem_of(message, node.location("use")), *error.problems]) from None
        self._problems.extend(problems)
        base = Path(real).parent
        found = self._files[real] = Source(name=file, document=document, base=base, named=document.workflows)
        return found


def files_used(path: Path) -> list[Path]:
    """The file of a workflow, and those that it uses as nodes, directly or not. What cannot be read uses nothing."""
    found = [path.absolute()]
    for file in found:
        try:
            document, _ = _parsed(decode(read_bytes(file), str(file)), str(file), file.stem)
        except WorkflowError:
            continue
        documents = (document, *document.workflows.values())
        uses = [node.type for part in documents for node in part.nodes.values() if node.type.startswith(("./", "../", "/"))]
        others = dict.fromkeys(Path(os.path.normpath(file.parent / use)) for use in uses)
        found += [other for other in others if other not in found]
    return found


@functools.lru_cache(32)
def _parsed(text: str, file: str, name: str) -> tuple[Document, list[Problem]]:
    """The workflow in a file; it is not changed afterwards. The graphs of a sweep use the same files again and again."""
    from nodegraph.workflow.document import parse_parts

    return parse_parts(text, file=file, name=name)


def _base(document: Document, home: Path) -> Path:
    """The folder that relative paths start from in a workflow inside a file in the folder `home`, or made in Python."""
    own: Path | None = getattr(document, "base", None)
    try:
        return own or (Path(os.path.normpath(under(home, document.folder))) if document.folder else home)
    except ValueError:  # there is no such user
        return home / document.folder


def _problem_of(message: str, where: Location | None, hint: str = "") -> Problem:
    return Problem("E119", message, where, hint)


def _problem(message: str, where: Location | None, hint: str) -> WorkflowError:
    return WorkflowError([_problem_of(message, where, hint)])
