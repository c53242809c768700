"""The codec of a list whose items have a codec. In the cache, each item is a value of its own (`nodegraph.cache.snapshots`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nodegraph.plugins.codec import Codec

PREFIX: Final = "list of "
"""The beginning of the names of these codecs."""

_ONE_BY_ONE: Final = "the items of a list are stored one by one"


class ListCodec:
    """Exports the items of a list one after another, as the codec of its items does. An item that is None has no file."""

    suffix = ".json"  # of the list of the items' digests

    def __init__(self, item: Codec) -> None:
        self.item = item
        self.name, self.extension = f"{PREFIX}{item.name}", item.extension

    def __repr__(self) -> str:
        return f"<codec {self.name}>"

    def digest(self, value: Sequence[Any]) -> str:
        return list_digest(digests_bytes("" if item is None else self.item.digest(item) for item in value))

    def save(self, value: Any, path: Path) -> None:
        raise TypeError(_ONE_BY_ONE)

    def load(self, path: Path) -> Any:
        raise TypeError(_ONE_BY_ONE)

    def encode(self, value: Any) -> bytes:
        raise TypeError(_ONE_BY_ONE)

    def decode(self, data: bytes) -> Any:
        raise TypeError(_ONE_BY_ONE)

    def export(self, value: Sequence[Any]) -> list[bytes]:
        return [data for item in value if item is not None for data in self.item.export(item)]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return self.item.embed(data, metadata)

    def extract(self, data: bytes) -> tuple[bytes, Mapping[str, str]]:
        return self.item.extract(data)

    def convert(self, value: Any) -> Any:
        return None

    def check(self, value: Sequence[Any]) -> str | None:
        for index, item in enumerate(value):
            message = None if item is None else self.item.check(item)
            if message:
                return f"item {index}: {message}"
        return None

    def size(self, value: Sequence[Any]) -> int:
        return sum(self.item.size(item) for item in value if item is not None)

    def in_format(self, extension: str, options: Mapping[str, Any]) -> ListCodec:
        """The same list, with its items in a file format. Raises ValueError as `FormatsCodec.in_format` does."""
        in_format = getattr(self.item, "in_format", None)
        if in_format is not None:
            return ListCodec(in_format(extension, options))
        if options:
            raise ValueError(f"a {self.extension} file has no options, found {' and '.join(options)}. Leave it out")
        if extension != self.extension:
            raise ValueError(f"this output is written as {self.extension}, found {extension}")
        return self


def digests_bytes(digests: Iterable[str]) -> bytes:
    """What is stored of a list, besides its items."""
    return b"[" + b",".join(b'"%s"' % digest.encode("ascii") for digest in digests) + b"]"


def list_digest(data: bytes) -> str:
    """The digest of a list of which `data` is stored."""
    return hashlib.sha256(b"list\0" + data).hexdigest()
