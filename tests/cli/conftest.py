"""Fixtures for CLI tests: in this process and in others, with stub nodes, a temporary cache and an empty working folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph.plugins import discovery
from nodegraph.plugins.discovery import LoadedPlugin
from tests.support.cli import GREETING, Cli, Ran
from tests.support.plugin_folders import STUB_PLUGINS
from tests.support.shared_plugins import share_plugins
from tests.support.small_model import save_single_file, save_small_model


@pytest.fixture(scope="session")
def load_file() -> Callable[..., LoadedPlugin]:
    """Loads a plugin as the engine does, but the stub pack only once."""
    load = discovery._load_file
    loaded: list[LoadedPlugin] = []
    modules = {}

    def load_file(name: str, path: Path, *, root: Path, **options: Any) -> LoadedPlugin:
        if root != STUB_PLUGINS / "stub_pack":
            return load(name, path, root=root, **options)
        if not loaded:
            loaded.append(load(name, path, root=root, **options))
            modules.update({name: module for name, module in sys.modules.items() if name.startswith(loaded[0].package)})
        sys.modules.update(modules)
        return loaded[0]

    return load_file


@pytest.fixture(autouse=True)
def stub_pack_is_imported_once(monkeypatch: pytest.MonkeyPatch, load_file: Callable[..., LoadedPlugin]) -> None:
    """Each command in this process loads the plugins anew. The stub pack does not change, so all commands share its modules."""
    monkeypatch.setattr(discovery, "_load_file", load_file)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    share_plugins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model as a folder and as a file. Tests must not change it."""
    folder = tmp_path_factory.mktemp("models")
    save_small_model(folder / "small")
    save_single_file(folder / "single.safetensors")
    return folder


@pytest.fixture
def greeting(cli: Cli) -> Path:
    """A workflow of two nodes and one output."""
    return cli.write(GREETING)


@pytest.fixture
def nodes_of() -> Callable[[Ran], dict[str, str]]:
    """The state of each node in the output of `run --json`."""
    return lambda ran: {name: node["status"] for name, node in ran.json["nodes"].items()}
