"""Sealing the records of a shared store: a first line tells whether the rest is as it was written, and by whom.

Without a signing key, this line is a SHA-256, which finds damage. With one, it is an HMAC, which no one can make without the key.
Both cover the name of the object, so that one object cannot take the place of another.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_ALGORITHM: Final = "sha256"


class Seal:
    """Seals objects with `key`, or only against damage without one. `space` is where objects with this seal are."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self.space = "" if key is None else f"signed-{_mac(key, b'the number of this key')[:16]}/"

    @property
    def is_signed(self) -> bool:
        return self._key is not None

    def close(self, name: str, body: bytes) -> bytes:
        """The content of the object called `name`."""
        return self._line(name, body) + body

    def open(self, name: str, content: bytes) -> bytes | None:
        """What was sealed in the object called `name`; None if it is damaged, is another object, or has no seal of this key."""
        line, end, body = content.partition(b"\n")
        expected = self._line(name, body)
        return body if hmac.compare_digest(line + end, expected) else None

    def _line(self, name: str, body: bytes) -> bytes:
        message = name.encode() + b"\n" + body
        if self._key is None:
            return f"{_ALGORITHM} {hashlib.sha256(message).hexdigest()}\n".encode("ascii")
        return f"hmac-{_ALGORITHM} {_mac(self._key, message)}\n".encode("ascii")


def body_of(content: bytes) -> bytes:
    """What is in a sealed object, whoever has sealed it: to see which blobs it needs, and never to use it."""
    return content.partition(b"\n")[2]


def _mac(key: bytes, message: bytes) -> str:
    return hmac.new(key, message, _ALGORITHM).hexdigest()
