"""Nodes that run in actors of Ray: the same results as in threads, whatever becomes of the actors."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodegraph import Cancelled, DeviceError, Engine, NodeError, PluginError, RayWorkers, Workflow, sweep
from nodegraph.run import events
from nodegraph.run.workers.ray import messages, start
from nodegraph.run.workers.ray import workers as ray_workers
from tests.support.model_plugin import write_plugin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray leaves files open when actors end
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ROOT = Path(__file__).parents[2]

Make = Callable[..., Engine]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def plugin_dir(folder: Path) -> Path:
    return write_plugin(folder / "plugins")


@pytest.fixture(scope="module")
def received() -> list[Any]:
    """The events of `engine`."""
    return []


@pytest.fixture(scope="module")
def engine(folder: Path, plugin_dir: Path, received: list[Any]) -> Iterator[Engine]:
    """An engine with two actors, which all tests share that do not need their own."""
    workers = RayWorkers(workers=2, previews=True)
    with Engine(folder / "cache", device="cpu", plugin_dirs=[plugin_dir], on_event=received.append, workers=workers) as engine:
        yield engine


@pytest.fixture(scope="module")
def with_threads(folder: Path, plugin_dir: Path) -> Iterator[Engine]:
    """An engine with threads and a cache of its own."""
    with Engine(folder / "with_threads", device="cpu", plugin_dirs=[plugin_dir], on_event=lambda event: None) as engine:
        yield engine


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes an engine with actors and a plugin of its own."""
    engines: list[Engine] = []

    def make(**options: Any) -> Engine:
        workers = RayWorkers(**{"workers": 1, **options})
        folder = tmp_path / "plugins"
        if not folder.exists():
            write_plugin(folder)
        engines.append(Engine(tmp_path / "cache", device="cpu", plugin_dirs=[folder], on_event=lambda event: None, workers=workers))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def square(x: int, *, seconds: float = 0.0, steps: int = 1, model: str = "m") -> Workflow:
    w = Workflow("square")
    opened = w.add("OpenModel", kind=model)
    w.output("text", w.add("Compute", model=opened, x=x, seconds=seconds, steps=steps))
    return w


def pids(engine: Engine, count: int = 20) -> set[int]:
    """The processes that nodes run in, once all actors have started."""
    engine.run(square(random.randrange(2**20)))
    until = time.monotonic() + 120
    while not all(actor.is_ready for actor in engine._workers._actors):
        assert time.monotonic() < until
        time.sleep(0.05)
    handles = []
    for x in range(count):
        w = Workflow("where")
        w.output("pid", w.add("Where", model=w.add("OpenModel", kind=f"m{x}"), x=random.randrange(2**40)))
        handles.append(engine.start(w))
    return {handle.result()["pid"] for handle in handles}


def test_runs_use_all_workers_and_not_this_process(engine):
    assert len(pids(engine)) == 2
    assert os.getpid() not in pids(engine)


def test_results_and_keys_are_those_of_threads(engine, with_threads, folder, plugin_dir):
    w = Workflow("joined")
    w.output("text", w.add("Joined", texts=[w.add("Compute", model=w.add("OpenModel", kind="m"), x=x) for x in range(5)]))
    with_ray, here = engine.run(w), with_threads.run(w)
    assert with_ray["text"] == here["text"] == "m 0 m 1 m 4 m 9 m 16"
    assert {name: node.key for name, node in with_ray.nodes.items()} == {name: node.key for name, node in here.nodes.items()}
    with Engine(folder / "cache", device="cpu", plugin_dirs=[plugin_dir], on_event=lambda event: None) as later:
        again = later.run(w)
    assert again["text"] == with_ray["text"]
    assert {node.status for node in again.nodes.values()} <= {"cached", "pruned"}


def test_events_arrive_in_order_with_previews(engine, received):
    received.clear()
    engine.run(square(103, seconds=1.5, steps=5))
    of_node = [event for event in received if getattr(event, "node", None) == "compute"]
    assert isinstance(of_node[0], events.NodeStarted)
    assert isinstance(of_node[-1], events.NodeFinished)
    steps = [event.step for event in of_node if isinstance(event, events.NodeProgress)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 5
    previews = [event.preview() for event in of_node if isinstance(event, events.NodeProgress) and event.preview]
    assert previews[-1] == "preview 5"
    assert "computed 103" in [event.message for event in of_node if isinstance(event, events.Notice)]


def test_an_error_of_a_node_is_that_of_threads(engine, with_threads):
    w = Workflow("wrong")
    w.output("x", w.add("Fails", model=w.add("OpenModel", kind="m"), x=3))
    with pytest.raises(NodeError) as with_ray:
        engine.run(w)
    with pytest.raises(NodeError, match="no 3") as here:
        with_threads.run(w)
    assert str(with_ray.value) == str(here.value)


def test_cancelling_reaches_a_running_step(engine):
    handle = engine.start(square(102, seconds=120, steps=1200))
    for event in handle.events():
        if isinstance(event, events.NodeProgress):
            break
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.result(100)
    assert engine.run(square(3))["text"] == "m 9"


def test_a_node_that_ends_its_process_runs_again(engine, tmp_path):
    w = Workflow("fragile")
    w.output("x", w.add("Fragile", model=w.add("OpenModel", kind="m"), x=1, marks=str(tmp_path), times=2))
    assert engine.run(w)["x"] == 1
    assert len(list(tmp_path.glob("1-*"))) == 2


def test_a_node_that_ends_three_workers_fails(engine, tmp_path):
    w = Workflow("fragile")
    w.output("x", w.add("Fragile", name="bad", model=w.add("OpenModel", kind="m"), x=2, marks=str(tmp_path), times=100))
    with pytest.raises(NodeError, match="node 'bad' has ended 3 workers"):
        engine.run(w)
    assert len(list(tmp_path.glob("2-*"))) == 3
    assert engine.run(square(4))["text"] == "m 16"


def test_actors_killed_at_random_lose_nothing(engine):
    handles, kills = [], 0
    while kills < 10:
        going_on = [handle for handle in handles if handle.status in ("queued", "running")]
        handles += [engine.start(square(200 + len(handles) + k, seconds=0.15)) for k in range(6 - len(going_on))]
        time.sleep(0.3)
        alive = [actor.process for actor in engine._workers._actors if actor.is_ready and actor.units]
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(alive), signal.SIGKILL)
                kills += 1
    found = [handle.result()["text"] for handle in handles]
    assert found == [f"m {x * x}" for x in range(200, 200 + len(handles))]


def test_models_stay_where_they_are(engine):
    pids(engine)
    handles = []
    for k in range(24):
        w = Workflow("where")
        w.output("pid", w.add("Where", model=w.add("OpenModel", kind="ab"[k % 2]), x=1000 + k))
        handles.append((k % 2, engine.start(w)))
    found = {(model, handle.result()["pid"]) for model, handle in handles}
    assert len(found) <= 4  # each model is on a worker at most once
    assert len({pid for _, pid in found}) == 2


def test_the_embedded_model_paints_the_same_with_short_messages(engine, with_threads, tmp_path, monkeypatch):
    sizes = []

    def measured(*args, **options):
        data = messages.order(*args, **options)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(ray_workers, "order", measured)
    load = pickle.loads
    monkeypatch.setattr(ray_workers, "pickle", SimpleNamespace(loads=lambda data: sizes.append(len(data)) or load(data)))
    for name, on in (("ray", engine), ("threads", with_threads)):
        over, few = {"seed": "1..16"}, {"sampled.steps": 2}
        file = ROOT / "workflows" / "txt2img.yaml"
        result = sweep(file, over=over, params=few, engine=on, out=tmp_path / name, metadata=False)
        assert [point.status for point in result] == ["done"] * 16
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).glob("0*")} for name in ("ray", "threads")]
    assert len(files[0]) == 16
    assert files[0] == files[1]
    assert len(sizes) >= 32
    assert max(sizes) < 100_000  # the previews are in them


def touching(mark: Path, x: int = 1) -> Workflow:
    """A node of this process, which leaves a mark, and one for a worker."""
    w = square(x)
    w.output("mark", w.add("Touch", mark=str(mark)))
    return w


def test_other_versions_are_refused_before_anything_runs(make, monkeypatch, tmp_path):
    monkeypatch.setattr(start, "versions", lambda plugins: {"python": "3.1", "nodegraph": "0"})
    with pytest.raises(PluginError, match=r"has other versions\. Expected"):
        make().run(touching(tmp_path / "mark"))
    assert not (tmp_path / "mark").exists()


def test_a_worker_that_cannot_start_says_why(make, tmp_path):
    engine = make()
    (tmp_path / "plugins" / "stubs.py").write_text("raise RuntimeError('broken by hand')")
    with pytest.raises(
        PluginError, match=r"a worker on .* has other code of the plugin .stubs.\. .* found a broken one: .*broken by hand"
    ):
        engine.run(square(1))


def test_more_gpus_than_there_are(make, tmp_path):
    with pytest.raises(DeviceError, match="3 workers with 1 GPU each were asked for, and this machine has 0 GPUs"):
        make(workers=3, gpus_per_worker=1).run(touching(tmp_path / "mark"))
    assert not (tmp_path / "mark").exists()


def test_machines_are_chosen_by_label(make, tmp_path):
    """The Ray of these tests has the label card=stub."""
    with pytest.raises(DeviceError, match=r"has no machine with the label card=in\(A100, H100\)\. There are card=stub"):
        make(labels={"card": "in(A100, H100)"}).run(touching(tmp_path / "mark"))
    assert not (tmp_path / "mark").exists()
    assert make(labels={"card": "in(A100, stub)"}).run(square(7))["text"] == "m 49"


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs a path that leads to another folder in each process")
def test_models_are_sent_to_machines_that_lack_them(make, tmp_path, monkeypatch):
    """The path of the model is that of a file in the current folder, which is not that of the worker."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/weights").write_text("w")
    monkeypatch.chdir(tmp_path / "own")

    def with_file(x: int) -> Workflow:
        w = Workflow("with_file")
        opened = w.add("OpenFile", path="/proc/self/cwd/weights")
        w.output("text", w.add("Compute", model=opened, x=x))
        w.output("mark", w.add("Touch", mark=str(tmp_path / "mark")))
        return w

    with pytest.raises(DeviceError, match=r"lacks /proc/self/cwd/weights: there is no such file\. .*--ship-models"):
        make(address="auto").run(with_file(2))
    assert not (tmp_path / "mark").exists()
    engine = make(address="auto", ship_models=True)
    result = engine.run(with_file(3))
    assert result["text"] == "w 9"
    assert result.nodes["compute"].key is not None
    (sent,) = list((tmp_path / "cache/models").glob("??/*"))
    (tmp_path / "own/weights").write_text("changed")
    assert engine.run(with_file(4))["text"] == "changed 16"
    assert sent.read_text() == "w"
    assert engine.run(with_file(3)).nodes["compute"].status == "ran"


def test_a_run_without_work_for_workers_starts_none(engine, make, folder, plugin_dir, tmp_path):
    """All is in the cache, or the nodes that have to run compute with no model."""
    engine.run(square(5))
    with Engine(folder / "cache", device="cpu", plugin_dirs=[plugin_dir], workers=RayWorkers(workers=1)) as other:
        assert other.run(square(5)).nodes["compute"].status == "cached"
        assert other.run(touching(tmp_path / "mark", x=5)).ran == ("touch",)
        assert other._workers._crew is None


def test_a_sweep_gives_the_same_files(engine, with_threads, tmp_path):
    w = Workflow("square")
    x = w.param("x", 0)
    w.output("text", w.add("Compute", model=w.add("OpenModel", kind="m"), x=x, seconds=0.02), save="{x}")
    for name, on in (("ray", engine), ("threads", with_threads)):
        result = sweep(w, over={"x": "1000..1199"}, engine=on, out=tmp_path / name)
        assert [point.status for point in result] == ["done"] * 200
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).glob("0*")} for name in ("ray", "threads")]
    assert files[0] == files[1]
    assert len(files[0]) == 200


def test_a_killed_driver_goes_on_where_it_was(tmp_path, plugin_dir):
    """Its actors end with it; what they had stored counts."""
    program = textwrap.dedent("""
        import sys
        from nodegraph import Engine, RayWorkers, Workflow, sweep
        if __name__ == "__main__":
            with Engine(sys.argv[1], device="cpu", plugin_dirs=[sys.argv[2]], workers=RayWorkers(workers=2)) as engine:
                for x in range(8):
                    w = Workflow("square")
                    w.output("text", w.add("Compute", model=w.add("OpenModel", kind="m"), x=x, seconds=0.5))
                    print(engine.run(w).nodes["compute"].status, flush=True)
    """)
    command = [sys.executable, "-c", program, str(tmp_path / "cache"), str(plugin_dir)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ran\n"
    assert process.stdout.readline() == "ran\n"
    process.kill()
    process.wait()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split()[:2] == ["cached", "cached"]
    assert done.stdout.split()[-1] == "ran"
