"""Settings of every test: one thread for tensors, except in slow tests; the files of the installed pack are read once."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; also for the processes that tests start

import pytest
import torch

from nodegraph.plugins import discovery

THREADS = os.cpu_count() or 1


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> None:
    """Networks of a few thousand weights are slower with several threads; those of full size need them all."""
    torch.set_num_threads(THREADS if request.node.get_closest_marker("slow") else 1)


@pytest.fixture(scope="session", autouse=True)
def digest_of_the_pack() -> Iterator[None]:
    """Our installed pack does not change meanwhile, so its files are read once, not again for each command of a test."""
    compute = discovery._digest_of
    known = functools.cache(compute)
    discovery._digest_of = lambda name: (known if name == "nodegraph_nodes.plugin" else compute)(name)
    yield
    discovery._digest_of = compute
