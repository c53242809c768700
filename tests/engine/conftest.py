"""The fixtures of the engine's tests."""

from tests.support.engine_fixtures import engine, events, make_engine, plugins, stubs, workers

__all__ = ["engine", "events", "make_engine", "plugins", "stubs", "workers"]
