"""What is known about the nodes' results before and during a run: keys, digests, and which results are in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from nodegraph.cache.cache import Cache
from nodegraph.cache.dependencies import NOTHING, joined
from nodegraph.cache.keys import Keys
from nodegraph.cache.results import CachedResult
from nodegraph.cache.snapshots import Snapshot, digests_of_items
from nodegraph.graph.graph import Graph, GraphNode, ResolvedLink
from nodegraph.node_types.item_ports import is_item, list_port

_NO_VALUES: Final[Mapping[str, Snapshot]] = {}


class Carried(NamedTuple):
    """The result of a node that ran earlier in the same run, with its values, and its content key.

    `stored`: the cache has it under that key. `keyed`: it is what the key stands for. `depends`: what it depends on besides.
    """

    result: CachedResult
    content: str | None
    stored: bool
    keyed: bool
    depends: Mapping[str, str] = NOTHING


_NONE_CARRIED: Final[Mapping[str, Carried]] = {}


class KnownResults:
    """Keys and digests, which become known as nodes are looked up and run.

    `hits` are the nodes whose result is in the cache, `content` the content keys that are known. Nodes in `forced` are never
    looked up. Nodes in `untrusted` are looked up by their content key only, not by what the cache says their static key stands
    for; if `is_checked` of their result, they are in `checked` instead of `hits`, and run. `carried` are results of nodes that ran
    earlier in the same run.
    """

    def __init__(
        self,
        graph: Graph,
        keys: Keys,
        cache: Cache,
        forced: Collection[str] = (),
        *,
        untrusted: Collection[str] = (),
        is_checked: Callable[[GraphNode, CachedResult], bool] | None = None,
        carried: Mapping[str, Carried] = _NONE_CARRIED,
    ) -> None:
        self.graph, self.keys = graph, keys
        self.hits: dict[str, CachedResult] = {}
        self.content: dict[str, str] = {}
        self.checked: set[str] = set()
        self.forced, self.codecs = forced, cache.codecs
        self._untrusted, self._is_checked = untrusted, is_checked
        self.cache = cache
        self._content_keys = keys.content_keys(self._known_digest)
        self._digests: dict[str, Mapping[str, str]] = {}
        self._unstored: set[str] = set()
        self._unkeyed: set[str] = set()  # nodes whose result is not what their key stands for
        self._ports_without_codec: dict[str, list[str]] = {}  # by node type
        self._own: dict[str, Mapping[str, str]] = {}  # what results depend on besides their keys,
        self._inputs_depend: dict[str, Mapping[str, str]] = {}  # and what they depend on because of the nodes above,
        self._depends: dict[str, Mapping[str, str]] = {}  # and both; all of them are empty if no node imports anything
        self.fetches = True  # with a shared store: whether a value that is found also comes into the cache directory
        self.carried = carried
        for name, result in carried.items():
            self._carry(name, result)

    def __repr__(self) -> str:
        return f"<KnownResults of {self.graph.workflow}: {len(self.hits)} in the cache, {len(self.content)} content keys known>"

    def digest(self, link: ResolvedLink) -> str | None:
        """The digest of the value behind a link, None if it is not known yet."""
        digests = self._digests.get(link.node)
        if digests is None:
            return None
        found = digests.get(link.port)
        return self._digest_of_item(link, digests) if found is None and is_item(link.port) else found

    def _digest_of_item(self, link: ResolvedLink, digests: Mapping[str, str]) -> str | None:
        """The digest of an item of a list that is never stored, which follows from the list's."""
        base = list_port(link.port)
        whole = digests.get(base, "")
        is_from_key = whole.startswith(f"{self.content.get(link.node)}:")
        return f"{whole}{link.port[len(base) :]}" if is_from_key else None

    def has_digests(self, name: str, ports: Collection[str]) -> bool:
        """Whether the digests of these outputs of a node are known."""
        known = self._digests.get(name, NOTHING)
        return all(port in known or (is_item(port) and self.digest(ResolvedLink(name, port)) is not None) for port in ports)

    def digests(self, name: str) -> Mapping[str, str]:
        """The known digests of a node's outputs, by port."""
        return self._digests.get(name, {})

    def key(self, name: str) -> str | None:
        """The key to show for a node: the static key, which is the same in each run, or else the content key."""
        return self.keys.static.get(name) or self.content.get(name)

    def _carry(self, name: str, carried: Carried) -> None:
        """Note the result of a node that ran earlier in the same run."""
        self.hits[name], self._digests[name] = carried.result, carried.result.digests
        if carried.content is not None:
            self.content[name] = carried.content
        if not carried.stored:
            self._unstored.add(name)
        if not carried.keyed:
            self._unkeyed.add(name)
        if carried.depends:
            self._note_depends(name, carried.depends, NOTHING)

    def find(self, name: str, ports: Collection[str]) -> bool:
        """Look a node up by its static key. True if its result is in the cache."""
        if name in self.carried:
            items = digests_of_items(ports, self.hits[name].in_memory, self._digests[name])
            self._digests[name] = {**self._digests[name], **items}
            return True
        static, node = self.keys.static.get(name), self.graph.nodes[name]
        if static is None or name in self.forced or name in self._untrusted or not node.spec.keep:
            return False
        if not node.links():  # the two keys are the same
            return self._look_up(name, static, ports)
        alias = self.cache.resolve(static)
        return alias is not None and self._look_up(name, alias.content, ports, alias.depends)

    def derive(self, name: str, ports: Collection[str]) -> bool:
        """Look a node up by its content key, which needs the digests of all its inputs. True if its result is in the cache.

        If it is not, the digests of outputs that are never stored still follow from the key: nodes below are found without them.
        """
        if name in self.content:
            return name in self.hits
        content = self._content_key(name)
        if content is None:
            return False
        self.content[name] = content
        above = self._above(name) if self._depends else NOTHING
        if name not in self.forced and self.graph.nodes[name].spec.keep and self._look_up(name, content, ports, above):
            self._note_alias(name)
            return True
        if above:
            self._note_depends(name, NOTHING, above)
        self._digests[name] = self._without_codec(name, content)
        return False

    def made(self, name: str, digests: Mapping[str, str], *, stored: bool, depends: Mapping[str, str]) -> bool:
        """Note the digests of a node that has run, and whether its result is stored under its content key.

        Its values depend on what is in `depends`, besides their key.

        Returns whether the result is what the key stands for. If it is not, it may be another one each time: keys of nodes below
        that follow from the key, as the digest of a value that is never stored does, are made again.
        """
        assumed = self._digests.get(name)
        self._digests[name] = digests
        if depends or self._depends:
            self._note_depends(name, depends, self._above(name))
        if stored:
            self._note_alias(name)
            return True
        self._unstored.add(name)
        if assumed and assumed == digests and not self.graph.nodes[name].spec.keep:
            return True
        self._unkeyed.add(name)
        pending = [name]
        while pending:
            for consumer in self.graph.consumers(pending.pop()):
                content = self.content.get(consumer)
                if content is not None and consumer not in self.hits and self._content_key(consumer) != content:
                    del self.content[consumer]
                    self._digests.pop(consumer, None)
                    self.checked.discard(consumer)
                    pending.append(consumer)
        return False

    def found(self, name: str, hit: CachedResult) -> None:
        """Note a result that was found in the cache when the node was about to run."""
        self.hits[name] = hit
        self._digests[name] = {**self._without_codec(name, hit.key), **hit.digests}
        self._note_depends(name, hit.depends(), self._above(name))
        self._note_alias(name)

    def take_values(self, name: str) -> Mapping[str, Snapshot]:
        """The values that the hit of a node holds in memory, by port. From now on it holds none."""
        hit = self.hits.get(name)
        if hit is None or not hit.in_memory:
            return _NO_VALUES
        self.hits[name] = hit.without_values()
        return hit.in_memory

    def free_values(self, names: Iterable[str]) -> None:
        """Hold no values of these nodes in memory: nothing in this run reads them."""
        for name in names:
            self.take_values(name)

    def value_key(self, link: ResolvedLink) -> str | None:
        """The key under which the cache has the value behind a link if it has it at all; None if it cannot have it."""
        if link.node not in self._unstored:
            return self.content.get(link.node)
        port = list_port(link.port)  # the items of a list are stored with it
        digest = self.digest(ResolvedLink(link.node, port))
        return None if digest is None else key_of_value(digest, port)

    def work_key(self, name: str) -> str | None:
        """The key of a node's unfinished work; None if no input of it is marked `Continues`, or if it has no content key."""
        continues = self.graph.nodes[name].spec.continues
        if not continues or name not in self.content:
            return None
        return self.keys.work_key(name, continues, self._known_digest)

    def inherited(self, name: str) -> Mapping[str, str]:
        """What the inputs of a node depend on besides its content key.

        The digest of a value shows everything that the value depends on. One that follows from a key, such as that of a model,
        does not show which modules and codecs its node used.
        """
        if not self._own:
            return NOTHING
        found, pending, seen = NOTHING, [name], {name}
        while pending:
            for link in self.graph.nodes[pending.pop()].links():
                if link.node not in seen and (self.digest(link) or "").startswith(f"{self.content.get(link.node)}:"):
                    seen.add(link.node)
                    pending.append(link.node)
                    found = joined(found, self._own.get(link.node, NOTHING))
        return found

    def _above(self, name: str) -> Mapping[str, str]:
        """What the results depend on that a node is computed from, besides their static keys."""
        found = NOTHING
        for source in self.graph.nodes[name].sources:
            found = joined(found, self._depends.get(source, NOTHING))
        return found

    def _note_depends(self, name: str, own: Mapping[str, str], above: Mapping[str, str]) -> None:
        """Note what the result of a node depends on, by itself and because of the nodes above."""
        self._own[name], self._inputs_depend[name], self._depends[name] = own, above, joined(above, own)

    def _content_key(self, name: str) -> str | None:
        if None in map(self.digest, self.graph.nodes[name].links()):
            return None
        return self._content_keys(name)

    def _known_digest(self, link: ResolvedLink) -> str:
        digest = self.digest(link)
        assert digest is not None  # whoever asks for a content key has looked
        return digest

    def _look_up(self, name: str, content: str, ports: Collection[str], above: Mapping[str, str] = NOTHING) -> bool:
        hit = self.cache.lookup(content, ports, fetch=self.fetches)
        if hit is None:
            return False
        if self._is_checked is not None and name in self._untrusted and self._is_checked(self.graph.nodes[name], hit):
            self.checked.add(name)
            return False
        self.hits[name] = hit
        self.content[name] = content
        self._digests[name] = {**self._without_codec(name, content), **hit.digests}
        depends = hit.depends()
        if depends or above:
            self._note_depends(name, depends, above)
        return True

    def _without_codec(self, name: str, content: str) -> dict[str, str]:
        """The digests of the outputs that are never stored: they follow from the content key."""
        spec = self.graph.nodes[name].spec
        ports = self._ports_without_codec.get(spec.name)
        if ports is None:
            ports = self._ports_without_codec[spec.name] = [
                port.name for port in spec.outputs if not spec.keep or self.codecs.never(port.type)
            ]
        return {port: value_of(content, port, keep=spec.keep) for port in ports}

    def _note_alias(self, name: str) -> None:
        static = self.keys.static.get(name)
        if static is not None and not self._follows_from_unkeyed(name):
            depends = self._inputs_depend.get(name, NOTHING) if self._depends else NOTHING
            self.cache.alias(static, self.content[name], depends)

    def _follows_from_unkeyed(self, name: str) -> bool:
        """Whether a node's value may not be what its static key stands for.

        That is so if a node above it ran and its result was not kept: it drew a random number, or read a file that was changed.
        """
        if not self._unkeyed:
            return False
        pending, seen = [name], {name}
        while pending:
            for source in self.graph.nodes[pending.pop()].sources:
                if source in self._unkeyed:
                    return True
                if source not in seen:
                    seen.add(source)
                    pending.append(source)
        return False


def key_of_value(digest: str, port: str) -> str:
    """The key under which a value that is not the result of a node with a key is stored, as the value of `port`."""
    return hashlib.sha256(f"value {digest} {port}".encode()).hexdigest()


def value_of(content: str, port: str, *, keep: bool = True) -> str:
    """The digest of a value that has no codec or is not kept: the content key of its node, and the port."""
    return f"{content}:{port}" if keep else f"{content}:{port}:not kept"
