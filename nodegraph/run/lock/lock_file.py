"""A lock file: what the results of a workflow depend on, and what they were. YAML, so that a difference can be read in git."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import LockError, WorkflowError
from nodegraph.files import write_whole
from nodegraph.light_dataclass import dataclass
from nodegraph.text import described, relative_path
from nodegraph.workflow.document import parse_fields
from nodegraph.workflow.scalars import as_yaml
from nodegraph.workflow.text_file import decode, read_bytes

FORMAT: Final = 1
"""The version of the format of lock files."""

_ENDING: Final = ".lock.yaml"
_KEY: Final = "nodegraph_lock"
_AGAIN: Final = "Make it again: nodegraph lock"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_HEADER: Final = "# Written by 'nodegraph lock'; 'nodegraph verify' and 'nodegraph run --locked' compare with it.\n"

Files = Mapping[str, Mapping[str, str]]
"""The SHA-256 of the files behind each text that names some, by their names there."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Lock:
    """What the results of a workflow depend on. All of it is text, numbers, and lists and mappings of these.

    `nodes` holds for each node of the graph what it uses and its inputs; a link is `$node.port`. `files` are named as the workflow
    names them, relative to its folder. `plugins` are those that it uses: their version, and the digest of their code. `numerics` is
    the class of device, dtype and library, None if no node computes with tensors. `seeds` are those that were drawn. `outputs` are
    the digests of the values; empty until the workflow has run.
    """

    workflow: str
    nodes: Mapping[str, Mapping[str, Any]]
    files: Files = field(default_factory=dict)
    plugins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    numerics: str | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        count = f"{len(self.nodes)} nodes, {len(self.files)} files, {len(self.outputs)} outputs"
        return f"<Lock of {self.workflow}: {count}>"

    def write(self, path: Path) -> None:
        """Write the lock file `path` in one step. Raises LockError if that fails; an earlier file then stays as it is."""
        try:
            write_whole(path, (_HEADER + "\n".join(self._lines()) + "\n").encode())
        except OSError as error:
            raise LockError(f"[E402] cannot write {relative_path(path)}: {error.strerror or error}") from error

    def _lines(self) -> Iterator[str]:
        yield f"{_KEY}: {FORMAT}"
        yield f"workflow: {as_yaml(self.workflow)}"
        if self.numerics is not None:
            yield f"numerics: {as_yaml(self.numerics)}"
        for name in ("outputs", "seeds", "files", "plugins", "libraries", "nodes"):
            section: Mapping[str, Any] = getattr(self, name)
            if section:
                yield f"{name}:"
                yield from (f"  {as_yaml({key: value})[1:-1]}" for key, value in section.items())
            elif name == "nodes":
                yield f"{name}: {{}}"


def lock_path(workflow: Path) -> Path:
    """The lock file of a workflow file: `x.lock.yaml` beside `x.yaml`."""
    return workflow.with_name(f"{workflow.stem}{_ENDING}")


def read_lock(path: Path) -> Lock:
    """Read a lock file. Raises LockError if there is none, or if it is damaged, of another version, or something else."""
    file = relative_path(path)
    if not path.is_file():
        workflow = relative_path(path.with_name(_stem(path)))
        raise LockError(f"[E402] there is no lock file {file}. Write it: nodegraph lock {workflow}")
    try:
        fields = parse_fields(decode(read_bytes(path), file), file=file)
    except WorkflowError as error:
        problem = error.problems[0]
        place = f"{problem.where} " if problem.where is not None else ""
        raise LockError(f"[E402] {place}a lock file that cannot be read: {problem.message}. {_AGAIN}") from None
    return _lock(fields, file)


def _stem(path: Path) -> str:
    return f"{path.name.removesuffix(_ENDING)}.yaml"


def _lock(fields: Any, file: str) -> Lock:
    if not isinstance(fields, dict) or _KEY not in fields:
        raise LockError(f"[E402] {file} is not a lock file: it has no '{_KEY}'. {_AGAIN}")
    version = fields.pop(_KEY)
    if version != FORMAT or isinstance(version, bool):
        message = f"{file} has the version {described(version)} of the format, and this version of nodegraph reads {FORMAT}"
        raise LockError(f"[E402] {message}. {_AGAIN}")
    for name, value in fields.items():
        expected, fits = _SECTIONS.get(name, ("nothing", lambda value: False))
        if not fits(value):
            raise LockError(f"[E402] {file}: '{name}': expected {expected}, found {described(value)}. {_AGAIN}")
    missing = [name for name in ("workflow", "nodes") if name not in fields]
    if missing:
        raise LockError(f"[E402] {file} has no '{missing[0]}'. {_AGAIN}")
    return Lock(**fields)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _mapping_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(isinstance(k, str) and fits(item) for k, item in value.items())


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("use"), str)


_SECTIONS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "workflow": ("a name", _is_text),
    "numerics": ("text", _is_text),
    "outputs": ("a SHA-256 for each output", _mapping_of(_is_digest)),
    "seeds": ("whole numbers", _mapping_of(lambda value: type(value) is int)),
    "files": ("a SHA-256 for each file", _mapping_of(_mapping_of(_is_digest))),
    "plugins": ("a version and a digest for each plugin", _mapping_of(_mapping_of(_is_text))),
    "libraries": ("a version for each library", _mapping_of(_is_text)),
    "nodes": ("a mapping with 'use' for each node", _mapping_of(_is_node)),
}
