"""A forked child can compute with torch although the thread that forked it has done so."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from nodegraph.plugins.manager import Plugins
from nodegraph_nodes.models.backend import TorchBackend

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def compute() -> float:
    return float(torch.arange(1 << 18, dtype=torch.float32).exp().sum())


def computes_in_child() -> bool:
    """Whether a forked child of this thread ends after it has computed. It is killed if it does not."""
    child = os.fork()
    if not child:
        try:
            compute()
        finally:
            os._exit(0 if torch.get_num_threads() == 1 else 3)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def test_child_of_the_thread_that_computed_does_not_hang(plugins: Plugins, two_threads: None) -> None:
    assert isinstance(plugins.backend, TorchBackend)  # which prepares the process
    results = []

    def compute_and_fork() -> None:
        compute()
        results.append(computes_in_child())

    thread = threading.Thread(target=compute_and_fork)  # as the one of numeric nodes
    thread.start()
    thread.join()
    compute()
    results.append(computes_in_child())
    assert results == [True, True]
    assert torch.get_num_threads() == 2
