"""Settings of every test: one thread for tensors, except in slow tests."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; also for the processes that tests start

import pytest
import torch

THREADS = os.cpu_count() or 1


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> None:
    """Networks of a few thousand weights are slower with several threads; those of full size need them all."""
    torch.set_num_threads(THREADS if request.node.get_closest_marker("slow") else 1)
