"""The folder of the plugin that tests load."""

from __future__ import annotations

from pathlib import Path

STUB_PLUGINS = Path(__file__).parent / "plugins"
"""Holds `stub_pack`, the plugin for tests of the engine and of the command line."""
