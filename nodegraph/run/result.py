"""What a run returns: the state of each node, where outputs went, and values."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from nodegraph.cache.snapshots import Snapshot
from nodegraph.cache.store.store import LostResultError
from nodegraph.errors import CacheError, NodegraphError
from nodegraph.graph.graph import Graph, ResolvedLink
from nodegraph.light_dataclass import dataclass
from nodegraph.run.events import Notice, Status
from nodegraph.workflow.definitions import Link
from nodegraph.workflow.handles import Handle, NodeHandle, PortHandle, link_of

if TYPE_CHECKING:
    from nodegraph.run.verification import WrongResult

NodeStatus = Literal["ran", "verified", "differed", "cached", "pruned", "failed", "skipped"]

_WITH_RESULT: Final = ("ran", "verified", "differed", "cached")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeReport:
    """What became of a node. "skipped": the run ended before its turn.

    "verified" and "differed": the result was in the cache and was computed again, with the same or another outcome; `wrong`
    describes the stored result that differed.

    `key` is the static key, or the content key if there is no static one. `content` is the key that the result is stored
    under, None if it is not stored. `error` says why the node failed.
    """

    status: NodeStatus
    seconds: float = 0.0
    key: str | None = None
    content: str | None = None
    notices: tuple[str, ...] = ()
    error: str | None = None
    wrong: WrongResult | None = None

    def __repr__(self) -> str:
        key = "" if self.key is None else f", key {self.key[:12]}"
        return f"<NodeReport: {self.status}, {self.seconds:.2f} s{key}>"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result:
    """A finished run: what became of each node, where outputs went, and values: `result[handle or name]`.

    Values are read from the cache when they are asked for. `error` is what ended the run, None if it is complete.
    """

    run: str
    status: Status
    seconds: float
    graph: Graph
    nodes: Mapping[str, NodeReport]
    outputs: Mapping[str, list[Path]]
    notices: tuple[Notice, ...]
    error: NodegraphError | None
    _values: Mapping[ResolvedLink, Snapshot]
    _load: Callable[[str, str], Any]
    _load_stored: Callable[[str, str], Any]
    static_keys: Mapping[str, str] = field(default_factory=dict)
    """The keys that were known before anything ran, by node."""

    def __repr__(self) -> str:
        counts = Counter(report.status for report in self.nodes.values())
        nodes = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        paths = ", ".join(map(str, itertools.islice(itertools.chain.from_iterable(self.outputs.values()), 3)))
        return f"<Result of {self.graph.workflow}: {self.status} in {self.seconds:.2f} s, {nodes}{f'; {paths}' if paths else ''}>"

    def _repr_html_(self) -> str:
        """The values of the outputs, for notebooks; those of the targets, if these were asked for instead."""
        from nodegraph.run.display.values import values_as_html

        names = dict.fromkeys(output.name for output in self.graph.outputs.values())
        return values_as_html(str(self).strip("<>"), [(name, functools.partial(self.__getitem__, name)) for name in names])

    def _named(self, status: NodeStatus) -> tuple[str, ...]:
        return tuple(name for name, report in self.nodes.items() if report.status == status)

    @property
    def ran(self) -> tuple[str, ...]:
        """The nodes that ran."""
        return self._named("ran")

    @property
    def verified(self) -> tuple[str, ...]:
        """The nodes whose result was in the cache, was computed again, and is the same."""
        return self._named("verified")

    @property
    def differed(self) -> tuple[str, ...]:
        """The nodes whose result in the cache was wrong: `nodes[name].wrong` describes it. The computed result was used."""
        return self._named("differed")

    @property
    def cached(self) -> tuple[str, ...]:
        """The nodes whose result came from the cache."""
        return self._named("cached")

    @property
    def pruned(self) -> tuple[str, ...]:
        """The nodes that no output needed."""
        return self._named("pruned")

    @property
    def failed(self) -> tuple[str, ...]:
        """The nodes that failed."""
        return self._named("failed")

    def __getitem__(self, wanted: Handle | str) -> Any:
        """The value of an output (by its name), of a port ("node" or "node.port"), or of the handle of a node.

        It is an object of its own each time: changing it changes nothing else, except for values without a codec, such as models.

        Raises KeyError if the run has no such value: name it in `targets`. Raises CacheError if the cache no longer has it.
        """
        links = self._composed(wanted)
        return self._reader(self._link(wanted))() if links is None else _read_all(self._readers(links))

    def reader(self, output: str) -> Callable[[], Any]:
        """A function that returns the value of an output as `result[output]` does, and holds nothing else of the run.

        So the readers of 10^5 points of a sweep need little memory. Raises KeyError if the run has no such value.
        """
        of_engine = replace(self, _load=self._load_stored)  # what is not stored is in `_values`
        links = self._composed(output)
        if links is None:
            return of_engine._reader(self._link(output))
        return functools.partial(_read_all, of_engine._readers(links))

    def _readers(self, links: Any) -> Any:
        return [self._readers(item) for item in links] if isinstance(links, list) else self._reader(links)

    def _composed(self, wanted: Handle | str) -> Any:
        """The links that the name of a list or of a composed node stands for; None if it is the name of something else."""
        if self.graph.composed is None:
            return None
        if isinstance(wanted, NodeHandle | PortHandle):
            return self.graph.composed.links(str(link_of(wanted)).removeprefix("$"))
        if wanted in self.graph.lists:
            return self.graph.lists[wanted]
        return None if wanted in self.graph.outputs else self.graph.composed.links(wanted)

    def _reader(self, link: ResolvedLink) -> Callable[[], Any]:
        """What reads the value behind a link."""
        if link in self._values:
            return functools.partial(_read, link, self._values[link].open)
        report = self.nodes.get(link.node)
        if report is None or report.content is None or report.status not in _WITH_RESULT:
            state = report.status if report is not None else "not part of it"
            raise KeyError(f"the run has no value of '{link.node}.{link.port}' (the node was {state}). Name it in 'targets'")
        return functools.partial(_read, link, functools.partial(self._load, report.content, link.port))

    def _link(self, wanted: Handle | str) -> ResolvedLink:
        if isinstance(wanted, NodeHandle | PortHandle):
            link = link_of(wanted)
        elif wanted in self.graph.outputs:
            return self.graph.outputs[wanted].link
        else:
            node, _, name = wanted.partition(".")
            link = Link(node, name or None)
        port = self.graph.nodes[link.node].spec.output(link.port) if link.node in self.graph.nodes else None
        if port is None:
            raise KeyError(f"the run has no value '{wanted}'. Its outputs are {', '.join(self.graph.outputs)}")
        return ResolvedLink(link.node, port.name)


def _read(link: ResolvedLink, open_value: Callable[[], Any]) -> Any:
    try:
        return open_value()
    except LostResultError as error:
        message = f"the value of '{link.node}.{link.port}' is not in the cache: {error}. Name it in 'targets' and run again"
        raise CacheError(message) from error


def _read_all(readers: Any) -> Any:
    """The values that nested lists of readers return."""
    return [_read_all(item) for item in readers] if isinstance(readers, list) else readers()
