"""Finds the workflows that other workflows use as nodes: files, and those of the same file."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Final

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.spec import under
from nodegraph.text import did_you_mean, relative_path, shortened
from nodegraph.workflow.definitions import Document, NodeDef, is_composed, is_workflow
from nodegraph.workflow.text_file import decode, read_bytes

_LONGEST_CIRCLE: Final = 12  # workflows that a message lists


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

    @cached_property
    def identity(self) -> str | int:
        """The same for all sources of one workflow: workflows made in Python may have the same name."""
        return self.name if self.home is None else id(self.document)


@dataclass(frozen=True, eq=False)
class Sources:
    """What was read: files by their real paths, and the workflows inside files by the id of their document."""

    files: dict[str, Source] = field(default_factory=dict)
    named: dict[int, Source] = field(default_factory=dict)


class SourceReader:
    """Reads each file once, so that all its uses see the same content. Mistakes in the form of files are added to `problems`."""

    def __init__(self, problems: list[Problem], sources: Sources) -> None:
        self._problems, self._files, self._named = problems, sources.files, sources.named
        self._found: dict[tuple[int, str], Source | None] = {}  # by the id of the user, and its node

    def folders(self) -> set[Path]:
        """The folders that relative paths in the workflows start from."""
        return {source.base for source in (*self._files.values(), *self._named.values())}

    def find(self, user: Source, node: NodeDef) -> Source | None:
        """The workflow that a node of `user` uses; None if it cannot be used, which has been reported."""
        key = id(user), node.name
        if key not in self._found:
            try:
                found = self._find_named(user, node) if node.type.startswith("#") else self._find_file(user, node)
            except WorkflowError as error:
                self._problems.extend(error.problems)
                found = None
            self._found[key] = found
        return self._found[key]

    def read(self, top: Source) -> None:
        """Find every workflow that `top` uses, directly or not. A use that closes a circle is reported, and finds None."""
        around = {top.identity: top.name}  # the workflows that lead to the present one
        places: list[tuple[Source, Iterator[NodeDef]]] = [(top, _uses(top))]
        nodes: list[str] = []  # the nodes of these that use the next one
        read = {id(top)}
        while places:
            user, uses = places[-1]
            node = next(uses, None)
            if node is None:
                places.pop()
                del around[user.identity]
                if nodes:
                    nodes.pop()
                continue
            found = self.find(user, node)
            if found is None:
                continue
            if found.identity in around:
                self._report_circle(around, found, node, name="/".join((*nodes, node.name)))
                self._found[id(user), node.name] = None
            elif id(found) not in read:
                read.add(id(found))
                around[found.identity] = found.name
                places.append((found, _uses(found)))
                nodes.append(node.name)

    def _report_circle(self, around: Mapping[str | int, str], found: Source, node: NodeDef, *, name: str) -> None:
        names = [*around.values()]
        path = [*names[[*around].index(found.identity) :], found.name]
        if len(path) > _LONGEST_CIRCLE:
            path[4:-4] = [f"... ({len(path):,} workflows)"]
        message = f"these workflows use each other: {' -> '.join(path)} (node '{shortened(name)}')"
        self._problems.append(_problem_of(message, node.location("use"), "Remove one of these uses."))

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
    found = {path.absolute(): None}
    pending = [*found]
    while pending:
        file = pending.pop()
        try:
            document, _ = _parsed(decode(read_bytes(file), str(file)), str(file), file.stem)
        except WorkflowError:
            continue
        documents = (document, *document.workflows.values())
        uses = [node.type for part in documents for node in part.nodes.values() if node.type.startswith(("./", "../", "/"))]
        for use in uses:
            other = Path(os.path.normpath(file.parent / use))
            if other not in found:
                found[other] = None
                pending.append(other)
    return [*found]


@functools.lru_cache(32)
def _parsed(text: str, file: str, name: str) -> tuple[Document, list[Problem]]:
    """The workflow in a file; it is not changed afterwards. The graphs of a sweep use the same files again and again."""
    from nodegraph.workflow.document import parse_parts

    return parse_parts(text, file=file, name=name)


def _uses(source: Source) -> Iterator[NodeDef]:
    return (node for node in source.document.nodes.values() if is_workflow(node.type))


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
