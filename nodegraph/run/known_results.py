"""What is known of the nodes' results, before a run and while it goes on: keys, digests, and what is there already."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from nodegraph.cache.cache import Cache, Hit
from nodegraph.cache.keys import Keys
from nodegraph.graph.graph import Graph, ResolvedLink


class Knowledge:
    """Grows as nodes are looked up and run.

    `hits` are the nodes whose result is there, `content` the content keys that are known. Nodes in `forced` are never looked up.
    """

    def __init__(self, graph: Graph, keys: Keys, cache: Cache, forced: Collection[str] = ()) -> None:
        self.graph, self.keys = graph, keys
        self.hits: dict[str, Hit] = {}
        self.content: dict[str, str] = {}
        self.forced, self.codecs = forced, cache.codecs
        self._cache = cache
        self._digests: dict[str, Mapping[str, str]] = {}
        self._tainted: set[str] = set()

    def digest(self, link: ResolvedLink) -> str | None:
        """The digest of the value behind a link, where it is known."""
        digests = self._digests.get(link.node)
        return None if digests is None else digests.get(link.port)

    def digests(self, name: str) -> Mapping[str, str]:
        """The digests of a node's outputs that are known, by port."""
        return self._digests.get(name, {})

    def key(self, name: str) -> str | None:
        """The key to speak of a node by: the static one, which is the same in each run; without it, the content key."""
        return self.keys.of.get(name) or self.content.get(name)

    def find(self, name: str, ports: Collection[str]) -> bool:
        """Look a node up by its static key. True if its result is there."""
        static = self.keys.of.get(name)
        if static is None or name in self.forced:
            return False
        content = self._cache.resolve(static) or static  # without links, the two are the same
        return self._look_up(name, content, ports)

    def derive(self, name: str, ports: Collection[str]) -> bool:
        """Look a node up by its content key, once the digests of all that it is fed are known. True if its result is there.

        Where it is not, the digests of outputs that are never stored follow from the key alone.
        """
        if name in self.content:
            return name in self.hits
        content = self._content_key(name)
        if content is None:
            return False
        self.content[name] = content
        if name not in self.forced and self._look_up(name, content, ports):
            self._note_alias(name)
            return True
        self._digests[name] = self._without_codec(name, content)
        return False

    def made(self, name: str, digests: Mapping[str, str], kept: bool) -> None:
        """A node has run: the digests of its outputs, and whether its result was put under its content key."""
        self._digests[name] = digests
        if kept:
            self._note_alias(name)

    def taint(self, name: str) -> None:
        """A file that a node reads changed during the run: its static key, and those below, say what is no longer so."""
        self._tainted.add(name)

    def _content_key(self, name: str) -> str | None:
        digests: dict[ResolvedLink, str] = {}
        for link in self.graph.nodes[name].links():
            digest = self.digest(link)
            if digest is None:
                return None
            digests[link] = digest
        return self.keys.content(name, digests.__getitem__)

    def _look_up(self, name: str, content: str, ports: Collection[str]) -> bool:
        hit = self._cache.lookup(content, ports)
        if hit is None:
            return False
        self.hits[name] = hit
        self.content[name] = content
        self._digests[name] = {**self._without_codec(name, content), **hit.digests}
        return True

    def _without_codec(self, name: str, content: str) -> dict[str, str]:
        """The digests of a node's outputs that are never stored: they follow from its content key."""
        ports = self.graph.nodes[name].spec.outputs
        return {port.name: value_of(content, port.name) for port in ports if self.codecs.never(port.type)}

    def _note_alias(self, name: str) -> None:
        if any(link.node in self._tainted for link in self.graph.nodes[name].links()):
            self._tainted.add(name)
        static = self.keys.of.get(name)
        if static is not None and name not in self._tainted:
            self._cache.alias(static, self.content[name])


def value_of(content: str, port: str) -> str:
    """What stands for the digest of a value that has no codec: what it was made from, and which of the outputs it is."""
    return f"{content}:{port}"
