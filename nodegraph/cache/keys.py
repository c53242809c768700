"""What a node's result is filed under: the SHA-256 of everything that it hangs on, written as canonical, type-tagged JSON.

A key holds the node type and its version, the state of the plugin's code, the literals, the content of the files that they name
(never a path), and something for each link. In the static key, which is known before anything runs, a link stands for the static
key of the node above and its port; in the content key for the digest of the value that comes through it. Results are filed under
content keys; a static key is an alias of one. So a node whose upstream was computed anew, to the same values, is a hit.

What cannot be written canonically leaves the node without a key, with the reason: a partial key is never used.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodegraph.errors import NodegraphError
from nodegraph.graph.graph import Graph, GraphNode, Input, Many, Value, Wire

FORMAT = 3
"""Counts changes to the way keys are written; raising it makes every earlier key a miss."""

FileDigest = Callable[[Path], str]
"""Gives the SHA-256 of a file's content; raises OSError."""


class NoCanonicalFormError(NodegraphError):
    """A value cannot be written so that equal values, and only those, are written alike."""


Form = Mapping[str, Any]
"""A key's document, as JSON but for its links, which are left as `Wire`."""


@dataclass(frozen=True)
class Keys:
    """The static keys of a graph's nodes, and for each node without one the reason.

    `forms` are what both keys of a node are written from; a node that can have neither has none. `files` holds the digest of each
    file that went into a node's form, so that a change during the run shows.
    """

    of: Mapping[str, str]
    missing: Mapping[str, str]
    forms: Mapping[str, Form] = field(default_factory=dict)
    files: Mapping[str, Mapping[Path, str]] = field(default_factory=dict)

    def content(self, name: str, digest: Callable[[Wire], str]) -> str | None:
        """The content key of a node, `digest` telling that of the value behind each link; None where it has none."""
        form = self.forms.get(name)
        return None if form is None else _hash(form, lambda wire: ["value", digest(wire)])


class KeyMaker:
    """Writes keys.

    `file_digest` hashes the files that literals name; `numeric_class` tells the class of device, dtype and library that nodes which
    compute with tensors depend on, and is asked only for those.
    """

    def __init__(self, file_digest: FileDigest, numeric_class: Callable[[], str]) -> None:
        self._file_digest = file_digest
        self._numeric_class = numeric_class

    def static(self, graph: Graph) -> Keys:
        """The keys that can be told without running anything."""
        of: dict[str, str] = {}
        missing: dict[str, str] = {}
        forms: dict[str, Form] = {}
        files: dict[str, Mapping[Path, str]] = {}
        for name, node in graph.nodes.items():
            if not node.spec.pure:
                missing[name] = "its type is not pure: it may give another result each time"
                continue
            hashed: dict[Path, str] = {}
            try:
                forms[name] = self.form(node, hashed)
            except NoCanonicalFormError as error:
                missing[name] = str(error)
                continue
            if hashed:
                files[name] = hashed
            above = next((wire.node for wire in node.wires() if wire.node in missing), None)
            if above is None:
                of[name] = _hash(forms[name], lambda wire: ["link", of[wire.node], wire.port])
            else:
                missing[name] = f"it is below '{above}', which has no key"
        return Keys(of, missing, forms, files)

    def form(self, node: GraphNode, hashed: dict[Path, str] | None = None) -> Form:
        """What the keys of one node are written from. Raises NoCanonicalFormError, naming the input.

        The digests of the files that were read are added to `hashed`.
        """
        hashed = {} if hashed is None else hashed
        inputs: dict[str, Any] = {}
        for port, given in node.inputs.items():
            try:
                inputs[port] = self._input(given, hashed)
            except (NoCanonicalFormError, OSError) as error:
                raise NoCanonicalFormError(f"input '{port}' has no canonical form: {error}") from error
        spec = node.spec
        return {
            "format": FORMAT,
            "type": [spec.name, spec.version],
            "code": node.origin.identity,
            "inputs": inputs,
            "numeric": self._numeric_class() if spec.numeric else None,
        }

    def _input(self, given: Input, hashed: dict[Path, str]) -> Any:
        if isinstance(given, Wire):
            return given
        if isinstance(given, Many):
            return ["many", [self._input(item, hashed) for item in given.items]]
        if given.entry is not None:
            return ["registered", given.entry.name, given.entry.origin.identity]
        if given.files is not None:
            return ["files", self._files(given, hashed)]
        if given.digest is not None:  # a value of a stored type, given from Python
            return ["value", given.digest]
        try:
            return tagged(given.value)
        except RecursionError:
            raise NoCanonicalFormError("it is nested too deep, or holds itself") from None

    def _files(self, given: Value, hashed: dict[Path, str]) -> list[list[str]]:
        digests = []
        for name, path in sorted((given.files or {}).items()):
            hashed[path] = self._file_digest(path)
            digests.append([name, hashed[path]])
        return digests


def canonical(value: Any) -> bytes:
    """`value` as canonical, type-tagged JSON: two values give the same bytes if and only if type and content are the same.

    Takes None, booleans, numbers, text, bytes, enum members, and lists, tuples, sets and mappings of these. Raises
    NoCanonicalFormError for anything else, and for NaN, which equals nothing.
    """
    return _encode(tagged(value))


def tagged(value: Any) -> list[Any]:
    """`value` as lists and text in which each part carries its type; see `canonical`."""
    kind = type(value)
    if value is None:
        return ["none"]
    if kind is str:
        return ["str", value]
    if kind is bool or kind is int:
        return [kind.__name__, str(value)]  # as text: JSON readers differ on large numbers
    if kind is float:
        if math.isnan(value):
            raise NoCanonicalFormError("NaN equals nothing, not even itself")
        return ["float", value.hex()]
    if kind is list or kind is tuple:
        return [kind.__name__, [tagged(item) for item in value]]
    if kind is dict:
        return ["dict", sorted(([tagged(k), tagged(v)] for k, v in value.items()), key=_encode)]
    if kind is set or kind is frozenset:
        return [kind.__name__, sorted((tagged(item) for item in value), key=_encode)]
    if kind is bytes:
        return ["bytes", value.hex()]
    if isinstance(value, enum.Enum):
        return ["enum", f"{kind.__module__}.{kind.__qualname__}", value.name]
    raise NoCanonicalFormError(f"a {kind.__qualname__} cannot be told apart from others by its content")


def _hash(form: Form, link: Callable[[Wire], Any]) -> str:
    return hashlib.sha256(_encode(form, link)).hexdigest()


def _encode(document: Any, link: Callable[[Wire], Any] | None = None) -> bytes:
    text = json.dumps(document, default=link, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")  # as \u escapes, two surrogates would be written like the character they stand for
