"""The rounding mode of the processor, which C's `fesetround` sets in a thread, changes no result."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow

PLUGIN = """
import ctypes
from concurrent.futures import ThreadPoolExecutor
from nodegraph import hookimpl, node

THREADS = ThreadPoolExecutor(1)

@node("InThread")
def in_thread(number: float) -> str:
    return THREADS.submit(lambda: (number / 3).hex()).result()

@node("Sum")
def add(number: float) -> str:
    return f"{(number + 0.1).hex()} {(-number - 0.2).hex()} {(number / 3).hex()}"

@node("SetRounding")
def set_rounding(mode: int) -> str:
    ctypes.CDLL(None).fesetround(mode)
    return ""

@hookimpl
def register_nodes(register):
    register(add)
    register(in_thread)
    register(set_rounding)
"""
SHIFTS = {"x86_64": 10, "amd64": 10, "aarch64": 22, "arm64": 22}
MODES = ["up", "down", "to zero"]


@pytest.fixture
def modes() -> dict[str, int]:
    machine = platform.machine().lower()
    if machine not in SHIFTS or sys.platform not in ("linux", "darwin"):
        pytest.skip("the numbers of the modes are not known here")
    down_first = machine in ("x86_64", "amd64")
    down, up = (1, 2) if down_first else (2, 1)
    return {name: bits << SHIFTS[machine] for name, bits in (("up", up), ("down", down), ("to zero", 3))}


@contextlib.contextmanager
def rounding(mode: int) -> Iterator[None]:
    library = ctypes.CDLL(None)
    assert library.fesetround(mode) == 0
    try:
        yield
    finally:
        library.fesetround(0)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "sums.py").write_text(PLUGIN)
    return Engine(None, plugin_dirs=[tmp_path / "plugins"])


def one(type: str, **inputs: object) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


@pytest.mark.parametrize("name", MODES)
def test_rounding_of_the_program_changes_no_result_and_is_restored(engine: Engine, modes: dict[str, int], name: str) -> None:
    workflow = one("Sum", number=1.0)
    expected = engine.run(workflow, force=["node"])["out"]
    with rounding(modes[name]):
        assert engine.run(workflow, force=["node"])["out"] == expected
        assert ctypes.CDLL(None).fegetround() == modes[name]
        number = 1.0
        assert f"{(number + 0.1).hex()} {(-number - 0.2).hex()} {(number / 3).hex()}" != expected


@pytest.mark.parametrize("name", MODES)
def test_rounding_that_a_node_sets_is_restored(engine: Engine, modes: dict[str, int], name: str) -> None:
    engine.run(one("SetRounding", mode=modes[name]))
    found = ctypes.CDLL(None).fegetround()
    ctypes.CDLL(None).fesetround(0)
    assert found == 0


def test_rounding_of_other_threads_is_not_noticed(engine: Engine, modes: dict[str, int]) -> None:
    plugin: Any = engine.plugins.manager.get_plugin("sums")
    with rounding(modes["up"]):
        plugin.THREADS.submit(int).result()  # starts the thread
    number = 1.0
    assert engine.run(one("InThread", number=number))["out"] != (number / 3).hex()
    plugin.THREADS.shutdown()
