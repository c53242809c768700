"""Values from outside the workflow for composed nodes and their insides, found by the names of these nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nodegraph.graph.expansion.names import matches, without_indexes
from nodegraph.graph.overrides import InputValue, Override
from nodegraph.workflow.document import parse_value
from nodegraph.workflow.workflow import with_member


class OverridesByNode:
    """Overrides of the form `node.input`. Those that are used for composed nodes are not applied to the flat graph again."""

    def __init__(self, overrides: Sequence[Override]) -> None:
        self._overrides, self._used = overrides, set[int]()
        self._by_node: dict[str, list[tuple[str, str, Override]]] = {}
        for override in overrides:
            node, _, rest = override.name.partition(".")
            if rest:
                self._by_node.setdefault(without_indexes(node), []).append((node, rest, override))

    def remaining(self) -> list[Override]:
        """Those that no composed node has used."""
        return [override for override in self._overrides if id(override) not in self._used]

    def of(self, name: str) -> Iterator[tuple[list[str], Override]]:
        """The overrides that mean the node `name`, each with the parts of what it names in that node."""
        if self._by_node:
            for pattern, rest, override in self._by_node.get(without_indexes(name), ()):
                if matches(pattern, name):
                    yield rest.split("."), override

    def value(self, name: str, input: str, before: Any, home: Path) -> InputValue | None:
        """The value that is given for an input of the node `name`, or for a member of the mapping `before`; None if there is none.

        Raises ValueError if text for a member cannot be read.
        """
        found: InputValue | None = None
        for (first, *keys), override in self.of(name):
            if first != input:
                continue
            self._used.add(id(override))
            raw = override.value_in(home)
            if keys:
                member = parse_value(override.value) if override.text else override.value
                whole = with_member(before if found is None else found.value, keys, member)
                raw = InputValue(value=whole, base=raw.base, home=home, source=raw.source)
            found = raw
        return found
