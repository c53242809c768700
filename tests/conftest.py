"""Settings of every test: one thread for tensors, except in large tests. Work that is the same for each test is done once.

Modules that a test writes and imports are forgotten at its end.
"""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; also for the processes that tests start

import pytest
import torch
from hypothesis import settings

from nodegraph.plugins import discovery
from nodegraph.plugins.code import loads, shared_modules
from nodegraph.plugins.code.code_files import CodeFiles
from nodegraph.plugins.code.plugin_code import Code
from tests.support import synthetic_checkpoints
from tests.support.imported_modules import forget_modules_in

THREADS = os.cpu_count() or 1

settings.register_profile("any speed", deadline=None)  # the machine may be slow, or busy
settings.load_profile("any speed")

# plugins that are installed here beside ours are not tested: neither are they documented, nor are their names expected
_entry_points = importlib.metadata.entry_points
_FOREIGN = {point.dist.name for point in _entry_points(group=discovery.GROUP) if point.dist is not None} - {"nodegraph"}


def _our_entry_points(**selected: Any) -> importlib.metadata.EntryPoints:
    points = _entry_points(**selected)
    return importlib.metadata.EntryPoints(point for point in points if point.dist is None or point.dist.name not in _FOREIGN)


if _FOREIGN:
    importlib.metadata.entry_points = _our_entry_points
    # the same in the processes that tests start
    _folder = tempfile.TemporaryDirectory(prefix="nodegraph-tests-")
    Path(_folder.name, "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "_all = m.entry_points\n"
        "def _some(**selected):\n"
        f"    return m.EntryPoints(p for p in _all(**selected) if p.dist is None or p.dist.name not in {_FOREIGN!r})\n"
        "m.entry_points = _some\n",
        encoding="utf-8",
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_folder.name, os.environ.get("PYTHONPATH")]))

# what these modules hold is compared whenever a plugin is loaded, which takes a second for the hundreds of our tests
shared_modules.PACKAGES.update({"docs", "fuzz", "tests"})

# container images often forbid bytecode: then every process that a test starts compiles all modules again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False  # until the test modules are imported

# a shell that starts the tests in the background lets them ignore Ctrl-C, and tests raise it
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Hide the imported modules and the collected tests from the garbage collector: they live to the end, and are many.

    No bytecode is written from here on: a test edits a module twice within a second, which Python does not notice.
    """
    gc.collect()
    gc.freeze()
    sys.dont_write_bytecode = True


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> None:
    """Networks of a few thousand weights are slower with several threads; those of full size need them all."""
    torch.set_num_threads(THREADS if request.node.get_closest_marker("large") else 1)


@pytest.fixture(autouse=True)
def forgotten_modules(request: pytest.FixtureRequest) -> Iterator[None]:
    """A later test would find their files edited, and keep no result of a node that may have imported them."""
    folder = str(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else None
    count = len(sys.modules)
    yield
    if folder is not None and len(sys.modules) != count:
        forget_modules_in(Path(folder))
    if folder is not None:
        for path in [path for path in loads.last_loads() if path.startswith(folder)]:
            del loads._loaded_states._last[path], loads._loaded_states._states[path]
            loads._loaded_states._by_nodes.pop(path, None)


@pytest.fixture(scope="session", autouse=True)
def digests_of_the_packs() -> Iterator[None]:
    """Our installed packs do not change meanwhile, so their files are read once, not again for each command of a test."""
    ours = {point.value for point in _our_entry_points(group=discovery.GROUP)}
    compute = discovery._code_of
    known = functools.cache(lambda name: compute(name, loads=(), files=CodeFiles()))

    def code_of(name: str, **options: Any) -> Code:
        return known(name) if name in ours else compute(name, **options)

    discovery._code_of = code_of
    yield
    discovery._code_of = compute


@pytest.fixture(scope="session")
def sd15_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of Stable Diffusion 1.5 with made-up weights, of 2.1 GB; NODEGRAPH_TEST_SD15 names one that is there already."""
    own = os.environ.get("NODEGRAPH_TEST_SD15")
    path = Path(own) if own else tmp_path_factory.mktemp("sd15") / "synthetic.safetensors"
    if not path.exists():
        synthetic_checkpoints.write(synthetic_checkpoints.read_layout("sd15-ldm"), path)
    yield path
    if not own:
        path.unlink()
