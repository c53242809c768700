"""Fixtures of the tests of the engine and of sweeps: engines with stub nodes and a temporary cache."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.run.events import Event
from tests.support.copying_workers import use_copying_workers
from tests.support.plugin_folders import STUB_PLUGINS


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return load_plugins([STUB_PLUGINS])


@pytest.fixture
def stubs(plugins: Plugins) -> types.ModuleType:
    """The stub pack, with its counters at zero."""
    module = plugins.manager.get_plugin("stub_pack")
    assert isinstance(module, types.ModuleType)
    module.CALLS.clear()
    module.MOST_ALIVE.clear()
    module.STARTED.clear()
    module.BlobCodec.decoded = module.BlobCodec.exported = 0
    return module


@pytest.fixture
def events() -> list[Event]:
    """The events of the engines that `make_engine` makes."""
    return []


@pytest.fixture
def workers() -> str:
    """Which workers run the nodes: `with_both_workers` runs a test with each of them."""
    return "threads"


@pytest.fixture
def make_engine(
    tmp_path: Path, plugins: Plugins, stubs: types.ModuleType, events: list[Event], workers: str
) -> Callable[..., Engine]:
    """Makes engines that share one cache directory, as consecutive processes would."""

    def make(**options: Any) -> Engine:
        engine = Engine(**{"cache_dir": tmp_path / "cache", "plugins": plugins, "on_event": events.append, **options})
        if workers == "copying" and engine.cache_dir is not None:
            use_copying_workers(engine)
        return engine

    return make


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()
