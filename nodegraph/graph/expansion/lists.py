"""The lists of an `each`, which have the same length, or may have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nodegraph.graph.graph import Awaited
from nodegraph.graph.overrides import InputValue
from nodegraph.light_dataclass import dataclass


@dataclass(frozen=True, kw_only=True, eq=False)
class Lists:
    """The items of each list, by input. `waits`: what decides which items there are, if that is not known.

    `is_example`: not even their number is known, and there is one item as an example.
    """

    lists: Mapping[str, Sequence[InputValue]]
    length: int
    waits: tuple[Awaited, ...] = ()
    is_example: bool = False


def lists_of(
    lists: Mapping[str, Sequence[InputValue]], lengths: Mapping[str, int], examples: Mapping[str, tuple[Awaited, ...]]
) -> Lists:
    """`lengths` are those of the lists that are known, all the same. Of the others, in `examples`, only the first item is used."""
    waits = (*dict.fromkeys(link for links in examples.values() for link in links),)
    length = next(iter(lengths.values())) if lengths else min(1, *map(len, lists.values()))
    repeated = {
        input: [*values[:1]] * length if input in examples and len(values) != length else values for input, values in lists.items()
    }
    if any(len(values) < length for values in repeated.values()):  # an example without items
        length = 0
    return Lists(lists=repeated, length=length, waits=waits, is_example=bool(waits) and not lengths)
