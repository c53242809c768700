"""State of the process never changes a result without changing its key, and nodes do not change it for others."""

from __future__ import annotations

import importlib.machinery
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageFile
from torch.nn.attention import SDPBackend, sdpa_kernel

from nodegraph import Engine, Workflow
from nodegraph.plugin_api import CpuBackend
from nodegraph.plugins.manager import load_plugins
from nodegraph.run.events import NodeFinished
from nodegraph.run.node.process_state import ProcessWatch
from nodegraph_nodes import process_state
from nodegraph_nodes.models import device, residency
from nodegraph_nodes.models.backend import TorchBackend
from nodegraph_nodes.process_state import KnownSwitches, generator_states

PLUGIN = """
import os, threading
from nodegraph import hookimpl, node

@node("Product", numeric=True)
def product(seed: int) -> str:
    import torch
    made = torch.rand(64, 64, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.conv2d(made[None, None], made[None, None, :5, :5])
    result = (made @ made).sum() + image.sum()
    switches = torch.get_default_dtype(), torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()
    return f"{result.item()} {result.dtype} {switches} {torch.is_autocast_enabled('cpu')}"

@node("Draws", numeric=True)
def draws(how: str) -> float:
    import random, numpy, torch
    return float(eval(how))

@node("Seeds", numeric=True)
def seeds(seed: int) -> float:
    import torch
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return float(torch.randn(1))

@node("Meddles")
def meddles(text: str) -> str:
    os.environ["MEDDLED"] = text
    os.environ.pop("MEDDLE_WITH_THIS", None)
    os.chdir("/")
    return text

@node("Switches", numeric=True)
def switches(text: str) -> str:
    import torch
    torch.set_default_dtype(torch.float64)
    torch.backends.mkldnn.enabled = False
    return text

@node("SwitchesBeside")
def switches_beside(which: str) -> str:
    import torch
    from PIL import ImageFile
    BEGUN.wait(10)
    if which == "dtype":
        torch.set_default_dtype(torch.float64)
    elif which == "picture":
        ImageFile.LOAD_TRUNCATED_IMAGES = True
    SWITCHED.set()
    return which

@node("Beside")
def beside(text: str) -> str:
    import torch
    from PIL import ImageFile
    if not SWITCHED.is_set():
        BEGUN.set()
        SWITCHED.wait(10)
        ENDED.wait(10)
    return f"{torch.tensor([1.0]).dtype} {ImageFile.LOAD_TRUNCATED_IMAGES}"

BEGUN, SWITCHED, ENDED = threading.Event(), threading.Event(), threading.Event()

class Box:
    def __init__(self, number):
        self.number = number

@node("Box")
def box(number: float) -> Box:
    return Box(number)

@node("Unbox")
def unbox(box: Box) -> float:
    return box.number

@node("NotNumeric")
def not_numeric(how: str) -> str:
    import torch
    made = torch.full((8, 8), 1.001)
    return f"{eval(how)} {(made @ made).sum().item()}"

@hookimpl
def register_nodes(register):
    register(not_numeric)
    register(beside)
    register(switches_beside)
    for function in (product, draws, seeds, meddles, switches, box, unbox):
        register(function)
"""


DRAWS_NUMPY = """
from nodegraph import hookimpl, node

@node("DrawsNumPy")
def draws_numpy() -> float:
    import numpy
    return float(numpy.random.rand())

@hookimpl
def register_nodes(register):
    register(draws_numpy)
"""


@pytest.fixture
def engine(tmp_path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "stateful.py").write_text(textwrap.dedent(PLUGIN))
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def one(type: str, **inputs) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


class Mkldnn:
    def __enter__(self):
        torch.backends.mkldnn.enabled = False

    def __exit__(self, *error):
        torch.backends.mkldnn.enabled = True


class Dtype:
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error):
        torch.set_default_dtype(torch.float32)


class Precision:
    def __enter__(self):
        torch.set_float32_matmul_precision("medium")

    def __exit__(self, *error):
        torch.set_float32_matmul_precision("highest")


class Deterministic:
    def __enter__(self):
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *error):
        torch.use_deterministic_algorithms(False)


STATES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no oneDNN": Mkldnn,
    "default dtype": Dtype,
    "matmul precision": Precision,
    "deterministic algorithms": Deterministic,
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_switches_of_the_process_change_no_result(engine, state):
    expected = engine.run(one("Product", seed=1))["out"]
    with state():
        assert engine.run(one("Product", seed=1), force=["node"])["out"] == expected
        assert engine.run(one("Product", seed=1)).cached == ("node",)


@pytest.mark.parametrize("name", ["autocast", "default dtype"])
def test_node_that_is_not_declared_numeric_runs_with_known_switches_if_its_plugin_imports_torch(engine, name):
    expected = engine.run(one("NotNumeric", how="1"))["out"]
    with STATES[name]():
        assert engine.run(one("NotNumeric", how="1"), force=["node"])["out"] == expected


def test_draw_of_a_node_that_is_not_declared_numeric_is_noticed_if_its_plugin_imports_torch(engine):
    for _ in range(2):
        assert engine.run(one("NotNumeric", how="torch.rand(1)")).ran == ("node",)
    engine.run(one("NotNumeric", how="2"))
    assert engine.run(one("NotNumeric", how="2")).cached == ("node",)


IMPORTS = {
    "import os": False,
    "import torch": True,
    "import numpy": True,
    "import nodegraph_nodes.types": True,
    "import safetensors.torch": True,
    "import torchsde": True,
    "import packaging": False,
    "import networkx": True,
    "import its_own_helper": True,
}


@pytest.mark.parametrize("line", IMPORTS)
def test_node_is_watched_if_its_plugin_imports_torch_even_through_a_library(tmp_path, monkeypatch, line):
    (tmp_path / "its_own_helper.py").write_text("import torch")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plain.py").write_text(PLAIN + f"    {line}\n")
    plugins = load_plugins([tmp_path / "plugins"])
    assert plugins.watched["Plain"] == IMPORTS[line]


@pytest.mark.parametrize("line", ["__import__('to' + 'rch')", "import importlib; importlib.import_module('to' + 'rch')"])
def test_node_is_watched_if_its_plugin_imports_modules_by_computed_names(tmp_path, line):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plain.py").write_text(PLAIN + f"    {line}\n")
    assert load_plugins([tmp_path / "plugins"]).watched["Plain"]


@pytest.mark.parametrize("line", ["exec('imp' + 'ort torch')", "import sys; sys.modules.get('torch')"])
def test_torch_without_an_import_is_not_noticed(tmp_path, line):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plain.py").write_text(PLAIN + f"    {line}\n")
    assert not load_plugins([tmp_path / "plugins"]).watched["Plain"]


TAKEN = {
    **dict.fromkeys(["list[Any]", "Any", "object", "list", "dict", "tuple", "set", "list | None", "dict[str, list]"], True),
    **dict.fromkeys(["Sequence", "Iterable | None", "HasPixels", "Annotated[list, Help('some')]", "TypeVar('T')"], True),
    **dict.fromkeys(
        ["int", "str | None", "list[int]", "dict[str, float]", "tuple[int, ...]", "Path", "Literal['a']", "Box"], False
    ),
    "Sequence[int]": False,
}


@pytest.mark.parametrize("taken", TAKEN)
def test_node_that_takes_any_value_is_watched(tmp_path, taken):
    lines = (
        "from collections.abc import Iterable, Sequence",
        "from pathlib import Path",
        "from typing import Annotated, Any, Literal, Protocol, TypeVar",
        "from nodegraph import Help",
        "class HasPixels(Protocol):\n    pixels: object",
        "class Box:\n    pass",
        PLAIN.replace("plain()", f"plain(values: {taken})"),
    )
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plain.py").write_text("\n".join(lines))
    assert load_plugins([tmp_path / "plugins"]).watched["Plain"] == TAKEN[taken]


PLAIN = """
from nodegraph import hookimpl, node

@hookimpl
def register_nodes(register):
    register(plain)

@node("Plain")
def plain() -> int:
    return 1
"""


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_switches_are_restored(state):
    def switches():
        return (
            torch.is_autocast_enabled("cpu"),
            torch.get_default_dtype(),
            torch.backends.mkldnn.enabled,
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
        )

    with state():
        before = switches()
        with KnownSwitches():
            assert switches() == (False, torch.float32, True, "highest", False)
        assert switches() == before


def test_plugin_is_imported_in_the_known_state(tmp_path):
    """What its module and its hooks compute then does not depend on what the program has set."""
    (tmp_path / "table.py").write_text(
        "import torch\nfrom nodegraph import hookimpl, node\nTABLES = [torch.ones(1)]\n"
        "@node('Table')\ndef table() -> str:\n    return ' '.join(str(table.dtype) for table in TABLES)\n"
        "@hookimpl\ndef register_nodes(register):\n    TABLES.append(torch.ones(1))\n    register(table)\n"
    )
    torch.set_default_dtype(torch.float64)
    try:
        engine = Engine(None, plugin_dirs=[tmp_path])
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert engine.run(one("Table"))["out"] == "torch.float32 torch.float32"


@pytest.mark.parametrize("which", ["dtype", "picture", "nothing"])
def test_switch_that_a_node_leaves_while_another_runs_is_set_again_and_neither_is_kept(tmp_path, which):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "numbers.py").write_text(PLUGIN)
    ended = []

    def note_end(event):
        if isinstance(event, NodeFinished) and event.node == "switches":
            ended.append(engine.plugins.manager.get_plugin("numbers").ENDED.set())

    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"], on_event=note_end)
    workflow = Workflow("w")
    workflow.output("switched", workflow.add("SwitchesBeside", name="switches", which=which))
    workflow.output("out", workflow.add("Beside", name="beside", text="a"))
    result = engine.run(workflow)
    assert ended
    assert result["out"] == "torch.float32 False"
    stored = [record.type for record in engine.cache.entries()]
    assert sorted(stored) == (["Beside", "SwitchesBeside"] if which == "nothing" else [])
    notes = [notice.message.partition(", such")[0] for notice in result.notices]
    assert notes == [] if which == "nothing" else ["a switch that all nodes share"] * 2
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert torch.get_default_dtype() is torch.float32


def test_switches_that_a_node_sets_are_restored(engine):
    engine.run(one("Switches", text="x"))
    assert torch.get_default_dtype() == torch.float32
    assert torch.backends.mkldnn.enabled


DRAWS = ["torch.rand(1)", "random.random()", "random.gauss(0, 1)", "numpy.random.rand()", "numpy.random.randint(9)"]


@pytest.mark.parametrize("how", DRAWS)
def test_node_that_draws_from_a_global_generator_is_not_kept(engine, how):
    np.random.seed(0)
    result = engine.run(one("Draws", how=how))
    assert ["a global generator of random numbers was used" in notice.message for notice in result.notices] == [True]
    assert engine.run(one("Draws", how=how)).ran == ("node",)


@pytest.mark.parametrize("how", ["torch.rand(1, generator=torch.Generator().manual_seed(1))", "random.Random(1).random()", "1.0"])
def test_node_with_its_own_generator_is_kept(engine, how):
    assert engine.run(one("Draws", how=how)).notices == ()
    assert engine.run(one("Draws", how=how)).cached == ("node",)


def test_generator_that_is_put_back_looks_as_before():
    """Whatever the memory of the number holds that would be kept for the next call."""
    generator = torch.Generator()
    read = process_state._memory_reader(torch, generator)
    assert read is not None
    before, state = read(), generator.get_state()
    torch.randn(1, generator=generator, dtype=torch.float64)
    assert read() != before
    generator.set_state(state)
    assert read() == before


def test_node_that_seeds_the_generator_and_puts_it_back_is_kept(engine):
    assert engine.run(one("Seeds", seed=1)).notices == ()
    torch.randn(1)
    assert engine.run(one("Seeds", seed=1)).cached == ("node",)


def test_nodes_below_one_that_draws_use_its_new_value(engine):
    workflow = Workflow("w")
    draws = workflow.add("Draws", name="draws", how="random.random()")
    workflow.output("drawn", draws)
    workflow.output("below", workflow.add("Unbox", name="unbox", box=workflow.add("Box", name="box", number=draws)))
    for _ in range(2):
        result = engine.run(workflow)
        assert result["below"] == result["drawn"]
        assert result.ran == ("draws", "box", "unbox")


def test_every_second_normal_number_is_a_draw_too(engine):
    for how in ("random.gauss(0, 1)", "numpy.random.randn()"):
        for _ in range(2):
            engine.run(one("Draws", how=how))
        assert engine.run(one("Draws", how=how)).ran == ("node",)


def test_draw_from_a_library_that_the_node_itself_imports_is_noticed(tmp_path):
    code = """
        import sys
        from nodegraph import Engine, Workflow

        def run():
            workflow = Workflow("w")
            workflow.output("out", workflow.add("DrawsNumPy", name="node"))
            return engine.run(workflow).ran

        engine = Engine(sys.argv[1] + "/cache", plugin_dirs=[sys.argv[1] + "/plugins"])
        assert "numpy.random" not in sys.modules
        assert run() == ("node",)
        assert run() == ("node",)
    """
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "drawing.py").write_text(textwrap.dedent(DRAWS_NUMPY))
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True)


def test_generator_of_a_library_that_another_thread_is_importing_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy.random", types.ModuleType("numpy.random"))
    assert generator_states(False) == {"numpy": None}


def test_any_draw_changes_the_state_of_its_generator():
    random.seed(1)
    states = generator_states(True)
    assert states == generator_states(True)
    np.random.standard_normal()
    assert generator_states(True)["numpy"] != states["numpy"]
    torch.randn(1)
    assert generator_states(True)["torch"] != states["torch"]


def test_variable_that_libraries_compute_by_is_in_the_keys_of_nodes_that_use_them(engine, monkeypatch):
    """Of numeric nodes, and of others whose plugin imports torch."""
    workflows = one("Product", seed=1), one("NotNumeric", how="1")

    def keys() -> list[str]:
        return [engine.plan(workflow).keys["node"] for workflow in workflows]

    first = found = keys()
    for name in device.NUMERIC_VARIABLES:
        for value in ("1", "2"):
            monkeypatch.setenv(name, value)
            found = [*found, *keys()]
        monkeypatch.delenv(name)
    assert len({*found}) == len(found) == 2 + 4 * len(device.NUMERIC_VARIABLES)
    assert keys() == first


def test_attention_that_the_program_chose_is_in_the_keys_of_nodes_that_are_not_numeric(engine):
    """For numeric nodes, it is part of the numeric class."""
    workflow = one("NotNumeric", how="torch.backends.cuda.flash_sdp_enabled()")
    first = engine.run(workflow)["out"]
    with sdpa_kernel(SDPBackend.MATH):
        other = engine.run(workflow)
        assert (other.ran, engine.run(workflow).cached) == (("node",), ("node",))
    assert (first.startswith("True"), other["out"].startswith("False")) == (True, True)
    hit = engine.run(workflow)
    assert (hit["out"], hit.cached) == (first, ("node",))


def test_environment_and_current_directory_are_restored(engine, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDDLE_WITH_THIS", "ä")
    monkeypatch.chdir(tmp_path)
    result = engine.run(one("Meddles", text="x"))
    assert [notice.message for notice in result.notices] == [
        "it changed environment variables and the current directory of the process; the change was undone"
    ]
    assert "MEDDLED" not in os.environ
    assert os.environ["MEDDLE_WITH_THIS"] == "ä"
    assert Path.cwd() == tmp_path


def test_change_that_a_node_leaves_while_others_run_is_undone_once_none_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDDLE_WITH_THIS", "before")
    monkeypatch.chdir(tmp_path)
    changing, ending, beginning = (ProcessWatch(CpuBackend(), watched=False, plugin="some") for _ in range(3))
    ending.__enter__()
    changing.__enter__()
    os.environ["MEDDLE_WITH_THIS"] = "changed"
    os.chdir("/")
    ending.__exit__(None, None, None)
    beginning.__enter__()
    changing.__exit__(None, None, None)
    assert ending.restored == changing.restored == ()
    beginning.__exit__(None, None, None)
    assert (os.environ["MEDDLE_WITH_THIS"], Path.cwd()) == ("before", tmp_path)
    assert beginning.restored == ("environment variables", "the current directory")
    assert not beginning.ran_by_itself


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the timezone cannot be set here")
def test_timezone_that_a_node_sets_is_restored(monkeypatch):
    monkeypatch.delenv("TZ", raising=False)
    time.tzset()
    before = time.localtime(0)
    with ProcessWatch(CpuBackend(), watched=False, plugin="some"):
        os.environ["TZ"] = "XYZ-7:13"
        time.tzset()
        assert time.localtime(0) != before
    assert time.localtime(0) == before


def test_torch_that_another_thread_is_importing_is_not_used(monkeypatch):
    """A node that does not need it may run meanwhile."""
    half = types.ModuleType("torch")
    half.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    half.__spec__._initializing = True
    monkeypatch.setitem(sys.modules, "torch", half)
    with KnownSwitches():
        assert generator_states(True)["torch"] is None
    assert residency.version_of(["text"]) is None
    assert residency.memory_of(["text"]) == {}
    assert residency.move(["text"], "cpu") is None
    assert TorchBackend().is_out_of_memory(ValueError()) is False


def test_draw_of_another_thread_while_the_generator_is_first_looked_at_is_not_its_first_state(monkeypatch):
    """Otherwise the node that drew would seem not to have drawn."""
    torch.manual_seed(0)
    monkeypatch.setattr(process_state, "_torch_reader", None)
    look = process_state._state_of

    def look_and_draw(generator):
        state = look(generator)
        if generator is torch.default_generator:
            torch.rand(1)
        return state

    monkeypatch.setattr(process_state, "_state_of", look_and_draw)
    assert generator_states(True)["torch"] is not None


def test_generator_is_first_looked_at_by_one_thread(monkeypatch):
    monkeypatch.setattr(process_state, "_torch_reader", None)
    looks = []
    look = process_state._read_and_first_state

    def slow_look(torch, generator):
        looks.append(generator)
        time.sleep(0.05)
        return look(torch, generator)

    monkeypatch.setattr(process_state, "_read_and_first_state", slow_look)
    threads = [threading.Thread(target=generator_states, args=(True,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == 1
