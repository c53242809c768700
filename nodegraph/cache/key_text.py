"""The text of which a key is the hash: canonical JSON, in pieces between the links, so that both keys of a node share them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nodegraph.graph.graph import ResolvedLink

KeyParts = Mapping[str, Any]
"""What a key covers, as JSON in which each link is a `ResolvedLink`."""

Piece = str | ResolvedLink

INPUTS: Final = "inputs"
"""The name of the part that holds the inputs; the other parts are the same for all nodes of a type."""

MANY: Final = "many"
"""The tag of a list that may have links in it."""

write: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""Returns a document as canonical JSON. Making an encoder for each document would take longer."""


class KeyWriter:
    """Writes what keys cover. Everything but the inputs is written once for each node type."""

    def __init__(self) -> None:
        self._ends: dict[tuple[Any, ...], tuple[str, str]] = {}

    def pieces(self, parts: KeyParts) -> Sequence[Piece]:
        """The text of `parts`, with links in the places of what stands for them."""
        kind = (parts["code"], *parts["type"], parts["numeric"])
        ends = self._ends.get(kind)
        if ends is None:
            ends = self._ends[kind] = _ends(parts)
        pieces: list[Piece] = [ends[0]]
        inputs, comma = parts[INPUTS], ""
        for port in sorted(inputs):
            _add(pieces, f"{comma}{write(port)}:", inputs[port])
            comma = ","
        _add_text(pieces, ends[1])
        return pieces


def joined(pieces: Sequence[Piece], link: Callable[[ResolvedLink], str]) -> str:
    """The text, in which `link(...)` stands for each link."""
    return "".join([piece if type(piece) is str else link(piece) for piece in pieces])  # type: ignore[arg-type]


def hashed(text: str) -> str:
    return hashlib.sha256(as_bytes(text)).hexdigest()


def as_bytes(text: str) -> bytes:
    # with \u escapes, two surrogates and the character they stand for would give the same bytes
    return text.encode("utf-8", "surrogatepass")


def _ends(parts: KeyParts) -> tuple[str, str]:
    """The text before the inputs, and after them."""
    before = write({name: part for name, part in parts.items() if name < INPUTS})
    after = write({name: part for name, part in parts.items() if name > INPUTS})
    return f'{before[:-1]},"{INPUTS}":{{', f"}},{after[1:]}"


def _add(pieces: list[Piece], before: str, part: Any) -> None:
    """Add `before` and the text of a part of an input."""
    if type(part) is ResolvedLink:
        _add_text(pieces, before)
        pieces.append(part)
    elif part[0] == MANY:
        _add_text(pieces, f'{before}["{MANY}",[')
        comma = ""
        for item in part[1]:
            _add(pieces, comma, item)
            comma = ","
        _add_text(pieces, "]]")
    elif len(part) == 2 and type(part[1]) is str:  # most literals; in this way it takes a quarter of the time
        _add_text(pieces, f'{before}["{part[0]}",{write(part[1])}]')
    else:
        _add_text(pieces, before + write(part))


def _add_text(pieces: list[Piece], text: str) -> None:
    if type(last := pieces[-1]) is str:
        pieces[-1] = last + text
    else:
        pieces.append(text)
