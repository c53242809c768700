"""The engine as a whole: in one process and across several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodegraph import DeviceError, Engine, Workflow, WorkflowError
from nodegraph.engine import DEFAULT
from nodegraph.plugin_api import CpuBackend, Numerics
from nodegraph.plugins.manager import Plugins
from nodegraph.run.events import Event, Notice
from nodegraph.settings import DIRECTORY_VARIABLE


def sum_of(a: float, b: float) -> Workflow:
    workflow = Workflow("sum")
    workflow.output("sum", workflow.add("Plus", name="plus", a=workflow.add("Number", name="number", value=a), b=b))
    return workflow


# --- the facade


def test_workflow_is_checked_planned_and_run(engine: Engine) -> None:
    workflow = sum_of(1.0, 2.0)
    assert list(engine.check(workflow).nodes) == ["number", "plus"]
    plan = engine.plan(workflow)
    assert (plan.names("run"), plan.names("cached")) == (["number", "plus"], [])
    assert engine.run(workflow)["sum"] == 3.0
    plan = engine.plan(workflow)
    assert plan.actions == {"number": "pruned", "plus": "cached"}
    assert plan.keys["plus"] == engine.run(workflow).nodes["plus"].key


def test_params_and_targets_are_names_or_handles(engine: Engine) -> None:
    workflow = Workflow("w")
    value = workflow.param("value", 1.0)
    number = workflow.add("Number", name="number", value=value)
    plus = workflow.add("Plus", name="plus", a=number)
    result = engine.run(workflow, params={"value": 2.0, "plus.b": 5.0}, targets=[plus, "number.output"])
    assert (result[plus], result[number], result["plus.output"]) == (7.0, 2.0, 7.0)
    assert result.graph.params == {"value": 2.0}


def test_wrong_workflow_runs_nothing(engine: Engine, stubs: types.ModuleType, events: list[Event]) -> None:
    workflow = sum_of(1.0, 2.0)
    workflow.add("Pluss", name="wrong")
    with pytest.raises(WorkflowError, match="Did you mean 'Plus'"):
        engine.run(workflow)
    assert (stubs.CALLS, events) == ([], [])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            {"overrides": {"value": 2.0}},
            "[E110] overrides: expected a list of Override objects, found {value: 2.0}. Pass ",
        ),
        ({"overrides": {"plus": {"b": 2.0}}}, "[E110] overrides: expected a list of Override objects, found {plus: {b: 2.0}}. "),
        ({"overrides": [{"b": 1}]}, "[E110] overrides: expected a list of Override objects, found [{b: 1}]. "),
        ({"overrides": 3}, "[E110] overrides: expected a list of Override objects, found 3. "),
        ({"params": ["value"]}, "[E110] params: expected a mapping of names to values, found ['value']. For example: "),
        ({"params": {3: 1}}, "[E110] params: expected names as text, found 3. Write 'name' or 'node.input'."),
        (
            {"params": {"plus": {"b": 2.0}}},
            (
                "[E120] 'plus': the workflow has no such param or node input. "
                "It is a node: name its inputs one by one, such as 'plus.b'."
            ),
        ),
        ({"params": {"plus": 2.0}}, "[E120] 'plus': the workflow has no such param or node input. It is a node: "),
        ({"targets": [3]}, "[E120] expected the name or the handle of a node, found 3."),
        ({"targets": "pluss"}, "[E120] target 'pluss': there is no such node"),
        ({"force": "pluss"}, "[E120] force 'pluss': there is no such node. Did you mean 'plus'?"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_wrong_call_says_what_is_expected(engine: Engine, call: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        engine.run(sum_of(1.0, 2.0), **call)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_what_is_no_workflow_is_named(engine: Engine) -> None:
    with pytest.raises(WorkflowError, match=r"\[E100\] expected a workflow or the path of its file, found 3\. "):
        engine.run(3)  # type: ignore[arg-type]


def test_single_target_may_stand_alone(engine: Engine) -> None:
    workflow = sum_of(1.0, 2.0)
    assert engine.run(workflow, targets="number")["number"] == 1.0  # type: ignore[arg-type]
    assert engine.run(workflow, force="plus").ran == ("plus",)


def test_value_of_another_kind_gets_a_hint(engine: Engine) -> None:
    workflow = Workflow("w")
    workflow.add("Grow", name="it", blob="hello")
    with pytest.raises(WorkflowError) as caught:
        engine.check(workflow)
    assert str(caught.value).partition(" ")[2] == (
        "[E110] 'blob' of node 'it': expected a link to an output of type Blob, found 'hello'. "
        "Give the output of a node, such as node.output, or an object of type Blob."
    )
    in_file = "nodegraph: 1\nnodes: {it: {use: Grow, blob: hello}}"
    with pytest.raises(WorkflowError, match=r"found 'hello'\. Write '\$node' or '\$node\.port'\.$"):
        engine.check(Workflow.parse(in_file))


def test_workflow_without_outputs_is_an_error(engine: Engine) -> None:
    workflow = Workflow("w")
    workflow.add("Number")
    assert engine.check(workflow).outputs == {}
    with pytest.raises(WorkflowError, match="nothing to run"):
        engine.run(workflow)


def test_random_seed_is_drawn_and_recorded(engine: Engine) -> None:
    workflow = Workflow("w")
    workflow.output("seed", workflow.add("Draw", seed=workflow.param("seed", "random")))
    result = engine.run(workflow)
    assert result["seed"] == result.graph.params["seed"]
    assert engine.run(workflow, params={"seed": result["seed"]}).cached == ("draw",)
    record = json.loads((engine.cache_dir / "runs" / f"{result.run}.json").read_text())  # type: ignore[operator]
    assert record["params"] == {"seed": result["seed"]}


def test_run_leaves_a_record(engine: Engine, tmp_path: Path) -> None:
    result = engine.run(sum_of(1.0, 2.0), out=tmp_path / "out")
    record = json.loads((tmp_path / "cache" / "runs" / f"{result.run}.json").read_text())
    assert (record["workflow"], record["status"], record["error"]) == ("sum", "done", None)
    assert record["nodes"]["plus"]["status"] == "ran"
    assert record["nodes"]["plus"]["key"] == result.nodes["plus"].key
    assert record["outputs"] == {"sum": [str(tmp_path / "out" / "sum-sum.json")]}
    assert Workflow.parse(record["document"]).nodes.keys() == {"number", "plus"}
    failed = engine.run(failing(), raise_errors=False)
    record = json.loads((tmp_path / "cache" / "runs" / f"{failed.run}.json").read_text())
    assert (record["status"], record["nodes"]["fails"]["status"]) == ("failed", "failed")
    assert "no pixels" in record["error"]


def failing() -> Workflow:
    workflow = Workflow("failing")
    workflow.output("x", workflow.add("Fails", name="fails"))
    return workflow


def test_engine_without_a_directory_caches_in_memory(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    engine = make_engine(cache_dir=None)
    assert engine.run(sum_of(1.0, 2.0)).ran == ("number", "plus")
    assert engine.run(sum_of(1.0, 2.0)).cached == ("plus",)
    assert make_engine(cache_dir=None).run(sum_of(1.0, 2.0)).ran == ("number", "plus")
    assert list(tmp_path.iterdir()) == []


def test_default_cache_directory_is_the_users(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "own"))
    engine = make_engine(cache_dir=DEFAULT)
    engine.run(sum_of(1.0, 2.0))
    assert (tmp_path / "own" / "records").is_dir()


def test_unwritable_cache_warns_once(make_engine: Callable[..., Engine], tmp_path: Path, events: list[Event]) -> None:
    (tmp_path / "blocked").touch()
    engine = make_engine(cache_dir=tmp_path / "blocked")
    for _ in range(2):
        events.clear()
        result = engine.run(sum_of(1.0, 2.0), out=tmp_path / "out")
        assert (result.status, result["sum"]) == ("done", 3.0)
        (notice,) = [event for event in events if isinstance(event, Notice)]
        assert notice.node is None
        assert "cannot be written" in notice.message
        engine.cache.free()
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        make_engine(cache_dir=tmp_path / "blocked", on_event=None).run(sum_of(1.0, 2.0))


def test_damaged_value_is_recomputed_with_one_warning(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    make_engine().run(sum_of(1.0, 2.0))
    for path in (tmp_path / "cache" / "blobs").rglob("*.json"):
        path.write_bytes(b"9.9")
    result = make_engine().run(sum_of(1.0, 2.0))
    assert (result["sum"], result.ran) == (3.0, ("number", "plus"))
    assert ["was changed" in notice.message for notice in result.notices] == [True]
    assert make_engine().run(sum_of(1.0, 2.0)).cached == ("plus",)


# --- numerics


class Devices(CpuBackend):
    """A backend that knows devices and counts its calls."""

    def __init__(self, driver: str = "1") -> None:
        self.driver, self.asked = driver, 0

    def fingerprint(self) -> str:
        return f"driver {self.driver}"

    def resolve(self, device: str, dtype: str) -> Numerics:
        self.asked += 1
        if device == "tpu":
            raise ValueError("there is no tpu here")
        device, dtype = ("cpu" if device == "auto" else device), ("float32" if dtype == "auto" else dtype)
        return Numerics(device=device, dtype=dtype, name=f"{device}/{dtype}/{self.driver}")


@contextmanager
def knowing(plugins: Plugins, devices: Devices) -> Iterator[Devices]:
    before, plugins.backend = plugins.backend, devices
    try:
        yield devices
    finally:
        plugins.backend = before


def numeric() -> Workflow:
    workflow = Workflow("numeric")
    workflow.output("where", workflow.add("Numeric", name="numeric"))
    return workflow


def test_auto_is_resolved_once_per_machine_state(make_engine: Callable[..., Engine], plugins: Plugins) -> None:
    with knowing(plugins, Devices()) as devices:
        assert make_engine().run(numeric())["where"] == "cpu/float32"
        assert make_engine().run(numeric()).cached == ("numeric",)
        assert devices.asked == 1
        assert make_engine(dtype="float16").run(numeric())["where"] == "cpu/float16"
        assert devices.asked == 2
    with knowing(plugins, Devices(driver="2")) as devices:
        assert make_engine().run(numeric()).ran == ("numeric",)
        assert devices.asked == 1


def test_graph_without_numeric_nodes_asks_no_backend(make_engine: Callable[..., Engine], plugins: Plugins) -> None:
    with knowing(plugins, Devices()) as devices:
        make_engine().run(sum_of(1.0, 2.0))
        assert devices.asked == 0


def test_missing_device_error_has_a_next_step(make_engine: Callable[..., Engine], plugins: Plugins) -> None:
    with knowing(plugins, Devices()), pytest.raises(Exception, match=r"'tpu'.*there is no tpu here.*'auto'"):
        make_engine(device="tpu").run(numeric())


def test_misspelt_device_and_dtype_are_refused_when_the_engine_is_made(
    make_engine: Callable[..., Engine], plugins: Plugins
) -> None:
    class Named(Devices):
        def check_names(self, device: str, dtype: str) -> None:
            if dtype == "fp61":
                raise ValueError("expected float32, found 'fp61'")

    with knowing(plugins, Named()):
        with pytest.raises(DeviceError) as caught:
            make_engine(dtype="fp61")
        assert make_engine(dtype="float32").dtype == "float32"
    assert str(caught.value) == (
        "[E305] device 'auto' with dtype 'fp61' cannot be used: expected float32, found 'fp61'. 'auto' uses what the machine has"
    )


def test_damaged_numerics_memo_is_replaced(make_engine: Callable[..., Engine], plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "numerics.json").write_text("[1")
    with knowing(plugins, Devices()) as devices:
        make_engine().run(numeric())
        make_engine().plan(numeric())
        assert devices.asked == 1


# --- other processes


RUN = """
import json, sys
from nodegraph import Engine, Workflow
engine = Engine(cache_dir="cache", plugin_dirs=["plugins"])
workflow = Workflow("w")
greeting = workflow.add("Greeting", name="greeting", text="hello")
styled = workflow.add("Styled", name="styled", text=greeting, style="loud")
workflow.output("styled", styled)
result = engine.run(workflow, out="out")
modules = [name for name in ("torch", "numpy", "PIL") if name in sys.modules]
print(json.dumps({"ran": result.ran, "cached": result.cached, "value": result["styled"], "modules": modules}))
"""

NODES = """
from typing import Annotated
from nodegraph import Choice, hookimpl, hookspec, node

class Specs:
    @staticmethod
    @hookspec
    def register_styles(register):
        "Offer styles."

@node("Greeting")
def greeting(text: str) -> str:
    return text

@node("Styled")
def styled(text: str, style: Annotated[str, Choice("styles")]) -> str:
    return style(text)

@hookimpl
def add_hooks(pluginmanager):
    pluginmanager.add_hookspecs(Specs)

@hookimpl
def register_nodes(register):
    register(greeting)
    register(styled)
"""

STYLES = """
from nodegraph import hookimpl

def loud(text):
    return text.upper()

@hookimpl
def register_styles(register):
    register("loud", loud)
"""


@pytest.fixture
def other_process(tmp_path: Path) -> Callable[[], Any]:
    """Runs a workflow in a separate process, with plugins that the test can edit."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "greeting.py").write_text(NODES)
    (tmp_path / "plugins" / "styles.py").write_text(STYLES)

    def run() -> Any:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", textwrap.dedent(RUN)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_second_process_runs_and_imports_nothing(other_process: Callable[[], Any]) -> None:
    assert other_process() == {"ran": ["greeting", "styled"], "cached": [], "value": "HELLO", "modules": []}
    assert other_process() == {"ran": [], "cached": ["styled"], "value": "HELLO", "modules": []}


def test_edited_choice_is_a_miss_only_for_its_users(other_process: Callable[[], Any], tmp_path: Path) -> None:
    other_process()
    styles = tmp_path / "plugins" / "styles.py"
    styles.write_text(STYLES.replace("text.upper()", "text.upper() + '!'"))
    again = other_process()
    assert (again["ran"], again["cached"], again["value"]) == (["styled"], ["greeting"], "HELLO!")


def test_edited_plugin_is_a_miss_for_its_nodes(other_process: Callable[[], Any], tmp_path: Path) -> None:
    other_process()
    nodes = tmp_path / "plugins" / "greeting.py"
    nodes.write_text(NODES.replace("return text\n", "return text + ' there'\n"))
    again = other_process()
    assert (again["ran"], again["value"]) == (["greeting", "styled"], "HELLO THERE")
