"""Items of lists that nodes return, as ports of their own: `output[2]`, and `output[2][0]` in a list of lists.

`[?]` stands for any item of a list whose length is not known yet. The name of the only output of a node may be left out: `[2]`.
"""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "?"
"""The index of an item of a list whose length is not known yet."""


def item_port(port: str | None, index: int | str) -> str:
    """The port of an item of the list at `port`."""
    return f"{port or ''}[{index}]"


def is_item(port: str) -> bool:
    """Whether a port is an item of a list."""
    return port[-1:] == "]"


def split_item(port: str) -> tuple[str, tuple[int, ...]]:
    """The port of the whole list, and the indexes that lead to the item."""
    base, _, rest = port.partition("[")
    return base, tuple(int(index) for index in rest[:-1].split("][")) if rest else ()


def list_port(port: str) -> str:
    """The port of the whole list that an item belongs to; `port` itself if it is no item."""
    return port.partition("[")[0]
