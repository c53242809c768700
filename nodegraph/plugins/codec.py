"""What a codec is: how the values of one port type are stored and exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Codec(Protocol):
    """How the values of one port type are stored and exported."""

    name: str  # part of the record of what was stored
    suffix: str  # of the stored file, with its dot
    extension: str  # of an exported file, with its dot

    def digest(self, value: Any) -> str:
        """SHA-256, in hex, over type, dtype, shape and raw bytes: equal values, equal digests."""

    def save(self, value: Any, path: Path) -> None:
        """Write `value` to the new file `path`, without loss."""

    def load(self, path: Path) -> Any:
        """Read what `save` wrote, mapped into memory if possible."""

    def encode(self, value: Any) -> bytes:
        """The content of the file that `save` writes. With this and `decode`, small values pass between nodes without a file."""

    def decode(self, data: bytes) -> Any:
        """The value that `encode` made `data` of, as a new object."""

    def export(self, value: Any) -> list[bytes]:
        """The contents of the files that a user gets, one for each item of a batch, without metadata."""

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """An exported file with `metadata` inside it; `data` itself if the format has no place for it."""

    def extract(self, data: bytes) -> tuple[bytes, Mapping[str, str]]:
        """An exported file without the metadata that `embed` put into it, and that metadata. May raise for other files.

        The first part is the same whatever the metadata is. Without this method, every run writes its outputs to new files.
        """

    def convert(self, value: Any) -> Any:
        """A value of the type, made from another Python object such as an array; None if it is of no kind that is known.

        Raises ValueError, with what was expected and found, for an object of a known kind that does not fit. The value must not
        share memory with the object. This method may be missing: then only values of the type itself can be given in Python.
        """

    def check(self, value: Any) -> str | None:
        """What is wrong with `value` (NaN, Inf), or None."""

    def size(self, value: Any) -> int:
        """Bytes that `value` takes in memory."""


class FormatsCodec(Codec, Protocol):
    """A codec that can export in several file formats."""

    def in_format(self, extension: str, options: Mapping[str, Any]) -> Codec:
        """This codec, exporting files with `extension` (in small letters, with its dot): `save: {file: "a.ext", option: value}`.

        What it returns is used for `extension`, `export`, `embed` and `extract` only. Raises ValueError for an unknown extension
        or option. Outputs of a codec without this method have the codec's own extension, and no options.
        """
