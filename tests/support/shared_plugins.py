"""The plugins of commands that run in this process. Loading them takes longer than most commands."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest

from nodegraph.plugins import discovery, manager
from nodegraph.plugins.manager import Plugins
from nodegraph.plugins.state.locale_state import encoding_of_text
from tests.support.plugin_folders import STUB_PLUGINS

_shared: dict[Hashable, Plugins] = {}


def share_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all commands that use the installed plugins, or these and the stub pack, have the same ones, as tests change neither.

    A command with other plugin folders, or in a process with other modules or installations, loads its plugins anew.
    """

    def plugins(folders: Sequence[Path | str] = (), **options: bool) -> Plugins:
        if any(str(folder) != str(STUB_PLUGINS) for folder in folders):
            return Plugins(folders, **options)
        replaced_by_tests = importlib.metadata.entry_points, discovery._code_of, discovery._release
        key = (*map(str, folders), *sorted(options.items()), tuple(sys.path), encoding_of_text(), *replaced_by_tests)
        if key not in _shared:
            _shared[key] = Plugins(folders, **options)
        return _shared[key]

    monkeypatch.setattr(manager, "Plugins", plugins)
