"""Runs some graphs in the process that workers are forked from: what is made at the first use is then made once for all of them."""

from __future__ import annotations

import gc
import shutil
import tempfile
import threading
import warnings
from pathlib import Path

from tests.fuzz.preload import PLUGINS
from tests.fuzz.worker import Worker

GRAPHS = 24


def warm_up() -> None:
    """Run graphs of nodes that only compute, and free everything that they leave."""
    folder = Path(tempfile.mkdtemp(prefix="nodegraph-fuzz-"))
    threads = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        worker = Worker(PLUGINS, folder / "files")
        worker.use(folder / "cache", trimmed=False)
        worker.rehearse(GRAPHS)
        worker.close()
    shutil.rmtree(folder, ignore_errors=True)
    assert threading.active_count() == threads, "a thread goes on, which a fork would lose"


warm_up()
gc.collect()
gc.freeze()
