"""The fixtures of the sweeps' tests: those of the engine."""

from tests.support.engine_fixtures import engine, events, make_engine, plugins, stubs, workers

__all__ = ["engine", "events", "make_engine", "plugins", "stubs", "workers"]
