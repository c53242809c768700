"""Cache keys: the SHA-256 of everything that a node's result depends on, written as canonical, type-tagged JSON.

A key covers the node type and its version, the state of the plugin's code, the literals, the content (never the path) of the files
that they name, what the program chose that the results depend on, such as an encoding, and for each link:

- in the static key, which is known before anything runs, the static key and the port of the node that feeds it, and the codec
  of the type of this port;
- in the content key, the digest of the value that comes through the link.

Results are stored under content keys, and a static key is an alias of a content key. So if a node above runs again and computes the
same values as before, the nodes below are found in the cache.

A node with an input that cannot be written canonically has no key, and the reason is kept. No key ever leaves out an input.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from nodegraph.cache.key_text import INPUTS, MANY, KeyParts, KeyWriter, Piece, as_bytes, hashed, joined, write
from nodegraph.errors import NodegraphError
from nodegraph.files import file_states
from nodegraph.graph.graph import Graph, GraphNode, Input, ListWithLinks, ResolvedLink, Value
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins.registry import Entry

FORMAT: Final = 4
"""The version of the key format. Raising it makes every earlier key a miss."""

FileDigest = Callable[[Path], str]
"""Returns the SHA-256 of a file's content; raises OSError."""


class NoCanonicalFormError(NodegraphError):
    """A value cannot be part of a key: there is no way to write it so that only equal values are written alike."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Keys:
    """The static keys of a graph's nodes, by node name.

    `without_key` says for each of the other nodes why it has no key. `parts` are what both keys of a node cover, and `pieces` their
    text; a node that can have neither key has none. `files` holds the digest of each file that a key covers, so that a change
    during the run shows.
    """

    static: Mapping[str, str]
    without_key: Mapping[str, str]
    parts: Mapping[str, KeyParts] = field(default_factory=dict)
    pieces: Mapping[str, Sequence[Piece]] = field(default_factory=dict)
    files: Mapping[str, Mapping[Path, str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Keys of {len(self.static)} nodes, {len(self.without_key)} without one>"

    def content_keys(self, digest: Callable[[ResolvedLink], str]) -> Callable[[str], str | None]:
        """Returns a function that returns the content key of a node, by name; None if it has none.

        `digest` returns the digest of the value behind a link.
        """
        writer = KeyWriter()

        def content_key(name: str) -> str | None:
            if name not in self.parts:
                return None
            pieces = self.pieces.get(name) or writer.pieces(self.parts[name])
            if len(pieces) == 1 and name in self.static:  # without links, the two keys are the same
                return self.static[name]
            return hashed(joined(pieces, lambda link: f'["value",{write(digest(link))}]'))

        return content_key

    def work_key(self, name: str, continues: Collection[str], digest: Callable[[ResolvedLink], str]) -> str:
        """The key of a node's unfinished work: it covers all that the content key does, except the inputs in `continues`."""
        parts = self.parts[name]
        others = {port: part for port, part in parts[INPUTS].items() if port not in continues}
        pieces = KeyWriter().pieces({**parts, INPUTS: others, "work": sorted(continues)})
        return hashed(joined(pieces, lambda link: f'["value",{write(digest(link))}]'))


class KeyMaker:
    """Makes keys.

    `file_digest` hashes the files that literals name. `numeric_class` names the class of device, dtype and library that numeric
    nodes depend on; it is called for these nodes only. `is_unchanged` returns whether a node type or registered thing still is what
    its plugin registered; default: always. `codec_name` returns what names the codec of a port type and its code, "" for none.
    `chosen_state` returns what the program chose that results of a node type depend on, "" for nothing; None: nothing for all.
    `choice` returns text that differs if the plugin's code has registered another thing of the same name.
    """

    def __init__(
        self,
        file_digest: FileDigest,
        numeric_class: Callable[[], str],
        is_unchanged: Callable[[NodeSpec | Entry[Any]], bool] = lambda thing: True,
        codec_name: Callable[[Any], str] = lambda port_type: "",
        *,
        chosen_state: Callable[[NodeSpec], str] | None = None,
        choice: Callable[[NodeSpec | Entry[Any]], str] = lambda thing: "",
    ) -> None:
        self._file_digest, self._codec_name = file_digest, codec_name
        self._chosen_state, self._choice = chosen_state, choice
        self._choices: dict[str, str] = {}  # by node type
        self._numeric_class = numeric_class
        self._is_unchanged = functools.cache(is_unchanged)

    def static_keys(self, graph: Graph) -> Keys:
        """The keys that are known before anything runs."""
        static: dict[str, str] = {}
        without_key: dict[str, str] = {}
        parts: dict[str, KeyParts] = {}
        files: dict[str, Mapping[Path, str]] = {}
        pieces: dict[str, Sequence[Piece]] = {}
        writer = KeyWriter()
        ends: dict[tuple[str, str], str] = {}

        def static_link(link: ResolvedLink) -> str:
            spec = graph.nodes[link.node].spec
            end = ends.get((spec.name, link.port))
            if end is None:
                end = ends[spec.name, link.port] = self._end_of_link(spec, link.port)
            return f'["from","{static[link.node]}",{end}'

        for name, node in graph.nodes.items():
            if not node.spec.pure:
                without_key[name] = "its type is not pure: it may return a different result each time"
                continue
            digests: dict[Path, str] = {}
            try:
                parts[name] = self.key_parts(node, digests)
            except NoCanonicalFormError as error:
                without_key[name] = str(error)
                continue
            pieces[name] = writer.pieces(parts[name])
            if digests:
                files[name] = digests
            source = next((link.node for link in node.links() if link.node in without_key), None)
            if source is None:
                static[name] = hashed(joined(pieces[name], static_link))
            else:
                without_key[name] = f"it depends on '{source}', which has no key"
        return Keys(static=static, without_key=without_key, parts=parts, pieces=pieces, files=files)

    def key_parts(self, node: GraphNode, digests: dict[Path, str] | None = None) -> KeyParts:
        """What the keys of one node cover. Raises NoCanonicalFormError, which names the input.

        The digests of the files that were read are added to `digests`.
        """
        if not self._is_unchanged(node.spec):
            raise NoCanonicalFormError(f"the code of node type '{node.spec.name}' was replaced after it was registered")
        digests = {} if digests is None else digests
        inputs: dict[str, Any] = {}
        for port, input in node.inputs.items():
            if isinstance(input, Value) and input.not_fetched is not None:
                raise NoCanonicalFormError(f"its '{port}' is not fetched yet, so its key is not known")
            try:
                inputs[port] = self._input(input, digests)
            except (NoCanonicalFormError, OSError) as error:
                raise NoCanonicalFormError(f"input '{port}' has no canonical form: {error}") from error
        spec = node.spec
        parts = {
            "format": FORMAT,
            "type": [spec.name, spec.version],
            "code": node.origin.identity,
            "inputs": inputs,
            "numeric": self._numeric_class() if spec.numeric else None,
        }
        choice = self._choices.get(spec.name)
        if choice is None:
            choice = self._choices[spec.name] = self._choice(spec)
        if choice:
            parts["choice"] = choice
        if self._chosen_state is not None and (chosen := self._chosen_state(spec)):
            parts["state"] = chosen
        return parts

    def _end_of_link(self, spec: NodeSpec, port: str) -> str:
        output = spec.output(port)
        codec = self._codec_name(output.type) if output is not None else ""
        return f"{write(port)},{write(codec)}]" if codec else f"{write(port)}]"

    def _input(self, input: Input, digests: dict[Path, str]) -> Any:
        if isinstance(input, ResolvedLink):
            return input
        if isinstance(input, ListWithLinks):
            return [MANY, [self._input(item, digests) for item in input.items]]
        if input.entry is not None:
            if not self._is_unchanged(input.entry):
                raise NoCanonicalFormError(f"the code of '{input.entry.name}' was replaced after it was registered")
            return ["registered", input.entry.name, input.entry.origin.identity, *filter(None, [self._choice(input.entry)])]
        if input.files is not None:
            files = self._files(input, digests)
            return ["files", files] if input.text is None else ["read", input.text, files]
        if input.digest is not None:  # a value of a stored type, passed from Python
            return ["value", input.digest]
        try:
            return tagged(input.value)
        except RecursionError:
            raise NoCanonicalFormError("it is nested too deep, or contains itself") from None

    def _files(self, input: Value, digests: dict[Path, str]) -> list[list[str]]:
        named = []
        for name, path in sorted((input.files or {}).items()):
            digests[path] = self._file_digest(path)
            named.append([name, digests[path]])
        if input.states and file_states(input.states) != input.states:
            raise NoCanonicalFormError("a file was changed while the workflow was read")
        return named


def canonical(value: Any) -> bytes:
    """`value` as canonical, type-tagged JSON: two values are written alike if and only if their types and contents are the same.

    Takes None, booleans, numbers, text, bytes, enum members, and lists, tuples, sets and mappings of these. Raises
    NoCanonicalFormError for any other value, and for NaN, which does not equal itself.
    """
    return _encode(tagged(value))


def tagged(value: Any) -> list[Any]:
    """`value` as lists and text in which each part is tagged with its type; see `canonical`."""
    kind = type(value)
    if value is None:
        return ["none"]
    if kind is str:
        return ["str", value]
    if kind is bool or kind is int:
        return [kind.__name__, str(value)]  # as text: JSON readers differ on large numbers
    if kind is float:
        if math.isnan(value):
            raise NoCanonicalFormError("it is NaN, which does not equal itself")
        return ["float", value.hex()]
    if kind is list or kind is tuple:
        return [kind.__name__, [tagged(item) for item in value]]
    if kind is dict:
        return ["dict", sorted(([tagged(key), tagged(item)] for key, item in value.items()), key=_encode)]
    if kind is set or kind is frozenset:
        return [kind.__name__, sorted((tagged(item) for item in value), key=_encode)]
    if kind is bytes:
        return ["bytes", value.hex()]
    if isinstance(value, enum.Enum):
        return ["enum", f"{kind.__module__}.{kind.__qualname__}", value.name, tagged(value.value)]
    raise NoCanonicalFormError(f"two values of type {kind.__qualname__} cannot be compared by their content")


def _encode(document: Any) -> bytes:
    return as_bytes(write(document))
