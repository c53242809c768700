"""Items of lists among the values of a result: each has a port of its own, `output[2]`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodegraph.cache.snapshots import Snapshot, part_of
from nodegraph.cache.store.records import LostResultError, Record
from nodegraph.node_types.item_ports import is_item, item_port, list_port, split_item


def items_at(record: Record, port: str) -> list[str]:
    """The ports of the items of the list at `port` that are stored one by one."""
    items: list[str] = []
    while (item := item_port(port, len(items))) in record.outputs:
        items.append(item)
    return items


def blobs_of(record: Record, ports: Iterable[str]) -> set[str]:
    """The blobs that hold the values of these ports, and the items of lists."""
    found, pending = set(), list(ports)
    while pending:
        port = pending.pop()
        stored = record.outputs.get(port)
        if stored is None:
            pending += [list_port(port)] if is_item(port) else []
        else:
            found.add(stored.blob)
            pending += items_at(record, port)
    return found


def held_values(values: Mapping[str, Snapshot], ports: Iterable[str]) -> dict[str, Snapshot]:
    """The snapshots of `ports`, which may be items of lists, as far as they are in `values`."""
    found = {}
    for port in ports:
        base, indexes = split_item(port) if is_item(port) else (port, ())
        if base in values and (not indexes or _has_item(values[base], indexes)):
            found[port] = part_of(values[base], indexes)
    return found


def with_items(digests: Mapping[str, str], snapshots: Mapping[str, Snapshot]) -> Mapping[str, str]:
    """`digests` with those of items of lists."""
    items = {port: snapshot.digest for port, snapshot in snapshots.items() if snapshot.digest is not None and is_item(port)}
    return {**items, **digests} if items else digests


def _has_item(snapshot: Snapshot, indexes: Iterable[int]) -> bool:
    try:
        part_of(snapshot, indexes)
    except (LostResultError, TypeError):
        return False
    return True
