"""The files that values are exported to, which are stored beside the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodegraph.cache.store.store import Store
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.codecs import Codecs


def exported_files(store: Store, codecs: Codecs, codec: Codec, *, digest: str, value: Callable[[], Any]) -> list[bytes]:
    """The files of the value with this digest, from the store if they are there; `value()` is called only if they are not.

    They are stored unless the codec drew from a global generator of random numbers.
    """
    files = store.exported(digest, codec.extension)
    if files is not None:
        return files
    found, state = value(), codecs.known_state
    with state:
        before = state.generators()
        files = codec.export(found)
        drew = state.drew_since(before)
    if not drew:
        store.put_exported(digest, codec.extension, files)
    return files
