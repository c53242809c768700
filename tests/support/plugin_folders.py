"""The folders of the plugins that tests load."""

from __future__ import annotations

from pathlib import Path

ENGINE_PLUGINS = Path(__file__).parent / "plugins"
"""Holds `stub_pack`, the plugin for tests of the engine."""

CLI_PLUGINS = Path(__file__).parent / "cli_plugins"
"""Holds `stub.py`, the plugin for tests of the command line."""
