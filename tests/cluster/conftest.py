"""A Ray of this machine for all tests of this folder, and a plugin whose nodes compute with a model."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from nodegraph.run.workers.ray.cluster import import_ray


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of this machine. Tests of one process share it; their actors are their own."""
    ray = import_ray()
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options = {"num_cpus": 2, "labels": {"card": "stub"}, "include_dashboard": False, "log_to_driver": False}
    try:
        ray.init(address="local", logging_level="ERROR", **options)
    except Exception:  # a busy machine: Ray waits for half a minute
        ray.shutdown()
        ray.init(address="local", logging_level="ERROR", **options)
    yield
    ray.shutdown()
