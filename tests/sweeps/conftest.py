"""The fixtures of the engine's tests: sweeps run on the same stub nodes."""

from tests.engine.conftest import engine, events, make_engine, plugins, stubs, workers

__all__ = ["engine", "events", "make_engine", "plugins", "stubs", "workers"]
