"""Opening a cache directory, with a shared store behind it if there is one."""

from __future__ import annotations

from collections.abc import Callable

from nodegraph.cache.store.store import Store
from nodegraph.settings import Remote, Settings


def open_store(settings: Settings, remote: Remote | None, *, warn: Callable[[str], None]) -> Store:
    """The cache directory. Nothing of the shared store is imported without one.

    Raises SettingsError if the library for shared stores is not installed.
    """
    if remote is None:
        return Store(settings.cache_dir, warn=warn, limit=settings.cache_size)
    from nodegraph.cache.store.remote.tiered_store import TieredStore, open_remote

    store = open_remote(remote, settings.cache_dir)
    return TieredStore(settings.cache_dir, warn=warn, limit=settings.cache_size, remote=store)
