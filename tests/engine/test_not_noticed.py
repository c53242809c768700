"""What the cache does not notice, as docs/cache.md says. A test that fails here means that the table can promise more."""

from __future__ import annotations

import decimal
import importlib
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from tests.support.imported_modules import forget_modules_in
from tests.support.slow import slow_after

PLUGIN = """
import os, random, time
from pathlib import Path
from nodegraph import File, Run, hookimpl, node
import an_installed_library

COUNT = {"calls": 0}
DRAWN = random.random()

def helper(text):
    return text + " helper"

class Settings:
    mark = "!"

@node("Time")
def time_of_day(text: str) -> str:
    return f"{text} {time.time_ns()}"

@node("Environment")
def environment(variable: str) -> str:
    return os.environ.get(variable, "")

@node("Directory")
def directory(text: str) -> str:
    return os.getcwd()

@node("Count")
def count(text: str) -> int:
    COUNT["calls"] += 1
    return COUNT["calls"]

@node("Helped")
def helped(text: str) -> str:
    return helper(text) + Settings.mark

@node("Contents")
def contents(path: Path) -> str:
    return Path(path).read_text()

@node("Data")
def data(text: str) -> str:
    return (Path(__file__).parent.parent / "data.txt").read_text()

@node("Library")
def library(text: str) -> str:
    return an_installed_library.inner.VALUE

@node("Set")
def order_of_a_set(text: str) -> str:
    return " ".join({*text.split()})

@node("Hash")
def hashed(text: str) -> int:
    return hash(text)

@node("Drawn")
def drawn(text: str) -> float:
    return DRAWN

@node("Name")
def name_of_a_file(path: File) -> str:
    return path.name

@node("Random")
def random_bytes(text: str) -> str:
    return os.urandom(8).hex()

@node("Unseeded")
def unseeded(how: str) -> float:
    import random
    import numpy
    return float(eval(how))

@node("Digits")
def digits(text: str) -> str:
    try:
        return str(10**5000)
    except ValueError:
        return "too long"

@node("Switched")
def switched(path: File, to: str) -> str:
    link, target = Path(path).parent, os.readlink(Path(path).parent)
    for current in (to, target):
        link.unlink()
        link.symlink_to(current)
        text = text if current == target else Path(path).read_text()
    return text

@node("Kept")
def kept(number: int, run: Run = Run()) -> int:
    return run.resident("a key without the number", lambda: number)

@hookimpl
def register_nodes(register):
    register(kept)
    register(order_of_a_set)
    register(unseeded)
    register(digits)
    register(hashed)
    register(drawn)
    register(name_of_a_file)
    for function in (time_of_day, environment, directory, count, helped, contents, data, library, random_bytes, switched):
        register(function)
"""


@pytest.fixture
def make_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Engine]]:
    longest = sys.get_int_max_str_digits()
    write(tmp_path / "plugins" / "odd.py", PLUGIN)
    write(tmp_path / "data.txt", "one")
    for name, text in (("__init__", "from . import inner"), ("inner", "VALUE = 'one'")):
        write(tmp_path / "site-packages" / "an_installed_library" / f"{name}.py", text)
    (tmp_path / "site-packages" / "an_installed_library-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    yield lambda: Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    sys.set_int_max_str_digits(longest)
    forget_modules_in(tmp_path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def one(type: str, **inputs: object) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


def forget_library() -> None:
    for name in [name for name in sys.modules if name.startswith("an_installed_library")]:
        del sys.modules[name]


Change = Callable[[Path, types.ModuleType], object]

CHANGES: dict[str, tuple[str, dict[str, str], Change]] = {
    "time": ("Time", {"text": ""}, lambda folder, module: None),
    "environment": ("Environment", {"variable": "NOT_NOTICED"}, lambda folder, module: os.environ.update(NOT_NOTICED="two")),
    "current directory": ("Directory", {"text": ""}, lambda folder, module: os.chdir(folder / "plugins")),
    "state of a module": ("Count", {"text": ""}, lambda folder, module: module.COUNT.update(calls=5)),
    "number drawn at the import": ("Drawn", {"text": ""}, lambda folder, module: setattr(module, "DRAWN", 2)),
    "function that a node calls": ("Helped", {"text": ""}, lambda folder, module: setattr(module, "helper", str.upper)),
    "class that a node uses": ("Helped", {"text": ""}, lambda folder, module: setattr(module.Settings, "mark", "?")),
    "file that text names": ("Contents", {"path": "data.txt"}, lambda folder, module: write(folder / "data.txt", "two")),
    "data file elsewhere": ("Data", {"text": ""}, lambda folder, module: write(folder / "data.txt", "two")),
    "file inside an installation": (
        "Library",
        {"text": ""},
        lambda folder, module: write(folder / "site-packages" / "an_installed_library" / "inner.py", "VALUE = 'two'"),
    ),
    "random bytes of the system": ("Random", {"text": ""}, lambda folder, module: None),
    "own generator without a seed": ("Unseeded", {"how": "random.Random().random()"}, lambda folder, module: None),
    "own generator of NumPy without a seed": (
        "Unseeded",
        {"how": "numpy.random.default_rng().random()"},
        lambda folder, module: None,
    ),
    "longest whole number as text": ("Digits", {"text": ""}, lambda folder, module: sys.set_int_max_str_digits(0)),
}


@pytest.mark.parametrize(("type", "inputs", "change"), slow_after(3, CHANGES.values(), several=True), ids=CHANGES)
def test_what_a_node_reads_besides_its_inputs_is_not_noticed(
    make_engine: Callable[[], Engine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    type: str,
    inputs: dict[str, str],
    change: Change,
) -> None:
    monkeypatch.setenv("NOT_NOTICED", "one")
    monkeypatch.chdir(tmp_path)
    expected = make_engine().run(one(type, **inputs))["out"]
    engine = make_engine()
    module = engine.plugins.manager.get_plugin("odd")
    assert isinstance(module, types.ModuleType)
    change(tmp_path, module)
    hit = engine.run(one(type, **inputs))
    assert (hit["out"], hit.cached) == (expected, ("node",))
    forget_library()
    fresh = Engine(None, plugin_dirs=[tmp_path / "plugins"]) if type == "Library" else Engine(None, plugins=engine.plugins)
    assert fresh.run(one(type, **inputs))["out"] != expected


THIRD = "import decimal\nTHIRD = decimal.Decimal(1) / 3\n"
THIRD_NODE = """
from nodegraph import hookimpl, node
@node("Third")
def third() -> str:
    return str(THIRD)
@hookimpl
def register_nodes(register):
    register(third)
"""


def test_plugin_is_imported_in_the_known_state(make_engine: Callable[[], Engine], tmp_path: Path) -> None:
    """What its module computes then does not depend on what the program has set."""
    write(tmp_path / "plugins" / "third.py", THIRD + THIRD_NODE)
    with decimal.localcontext(prec=4):
        assert make_engine().run(one("Third"))["out"] == "0.3333333333333333333333333333"
        assert decimal.getcontext().prec == 4


def test_state_of_the_program_when_it_imports_a_module_is_not_noticed(
    make_engine: Callable[[], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes run in a known state, but what a module computed when the program imported it is kept as it is."""
    monkeypatch.syspath_prepend(tmp_path / "lib")
    write(tmp_path / "lib" / "the_third.py", THIRD)
    write(tmp_path / "plugins" / "third.py", "from the_third import THIRD\n" + THIRD_NODE)
    time.sleep(0.03)  # a module that may have changed since it was imported is never the same again
    with decimal.localcontext(prec=4):
        importlib.import_module("the_third")
    assert make_engine().run(one("Third"))["out"] == "0.3333"
    hit = make_engine().run(one("Third"))
    assert (hit["out"], hit.cached) == ("0.3333", ("node",))


def test_name_of_a_file_is_not_noticed(make_engine: Callable[[], Engine], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, "the same")
    assert make_engine().run(one("Name", path=str(tmp_path / "one")))["out"] == "one"
    assert make_engine().run(one("Name", path=str(tmp_path / "two")))["out"] == "one"


def test_resident_value_whose_key_does_not_say_what_it_depends_on_is_not_noticed(make_engine: Callable[[], Engine]) -> None:
    engine = make_engine()
    assert [engine.run(one("Kept", number=number))["out"] for number in (1, 2)] == [1, 1]


@pytest.mark.parametrize("type", slow_after(1, ["Set", "Hash"]))
def test_seed_of_hashes_is_not_noticed(make_engine: Callable[[], Engine], tmp_path: Path, type: str) -> None:
    """The order of a set, and `hash` of text, differ between processes."""
    workflow = one(type, text="a b c d e f g h")
    write(tmp_path / "one.yaml", workflow.dump())
    code = (
        "from nodegraph import Engine, Workflow\nprint(Engine(None, plugin_dirs=['plugins']).run(Workflow.load('one.yaml'))['out'])"
    )
    orders = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path / "site-packages")}
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True
        )
        orders.add(ran.stdout)
    assert len(orders) > 1
    engine = make_engine()
    assert engine.run(workflow)["out"] == engine.run(workflow)["out"]


def test_link_that_is_switched_and_switched_back_is_not_noticed(make_engine: Callable[[], Engine], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "file", name)
    (tmp_path / "current").symlink_to("one")
    workflow = one("Switched", path=str(tmp_path / "current" / "file"), to="two")
    assert make_engine().run(workflow)["out"] == "two"
    assert make_engine().run(workflow).cached == ("node",)
