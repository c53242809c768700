"""Nodes that run in actors of Ray: the same results as in threads, whatever becomes of the actors."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Cancelled, DeviceError, Engine, NodeError, PluginError, RayWorkers, Workflow
from nodegraph.run import events
from nodegraph.run.workers.ray import start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray leaves files open when actors end
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ROOT = Path(__file__).parents[2]

Make = Callable[..., Engine]


@pytest.fixture
def make(tmp_path: Path, plugin_dir: Path) -> Iterator[Make]:
    engines: list[Engine] = []

    def make(*, cache: str = "cache", on_event: Any = lambda event: None, ray: bool = True, **options: Any) -> Engine:
        time.sleep(0.02)  # the plugin was written just now
        workers = RayWorkers(**{"workers": 2, **options}) if ray else None
        engine = Engine(tmp_path / cache, device="cpu", plugin_dirs=[plugin_dir], on_event=on_event, workers=workers)
        engines.append(engine)
        return engine

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


def test_runs_use_all_workers_and_not_this_process(make):
    engine = make()
    assert len(pids(engine)) == 2
    assert os.getpid() not in pids(engine)


def test_results_and_keys_are_those_of_threads(make):
    w = Workflow("joined")
    w.output("text", w.add("Joined", texts=[w.add("Compute", model=w.add("OpenModel", kind="m"), x=x) for x in range(5)]))
    with_ray, alone = make().run(w), make(cache="other", ray=False).run(w)
    assert with_ray["text"] == alone["text"] == "m 0 m 1 m 4 m 9 m 16"
    assert {name: node.key for name, node in with_ray.nodes.items()} == {name: node.key for name, node in alone.nodes.items()}
    again = make(ray=False).run(w)
    assert again["text"] == with_ray["text"]
    assert {node.status for node in again.nodes.values()} <= {"cached", "pruned"}


def test_events_arrive_in_order_with_previews(make):
    received: list[Any] = []
    engine = make(on_event=received.append, previews=True)
    engine.run(square(3, seconds=1.5, steps=5))
    of_node = [event for event in received if getattr(event, "node", None) == "compute"]
    kinds = [type(event) for event in of_node]
    assert kinds[0] is events.NodeStarted
    assert kinds[-1] is events.NodeFinished
    steps = [event.step for event in of_node if isinstance(event, events.NodeProgress)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 5
    assert len(steps) >= 3
    previews = [event.preview() for event in of_node if isinstance(event, events.NodeProgress) and event.preview]
    assert previews
    assert previews[-1] == "preview 5"
    assert "computed 3" in [event.message for event in of_node if isinstance(event, events.Notice)]


def test_an_error_of_a_node_is_that_of_threads(make):
    w = Workflow("wrong")
    w.output("x", w.add("Fails", model=w.add("OpenModel", kind="m"), x=3))
    with pytest.raises(NodeError) as with_ray:
        make().run(w)
    with pytest.raises(NodeError) as alone:
        make(cache="other", ray=False).run(w)
    assert str(with_ray.value) == str(alone.value)
    assert "no 3" in str(with_ray.value)


def test_cancelling_reaches_a_running_step(make):
    engine = make()
    engine.run(square(1))
    handle = engine.start(square(2, seconds=60, steps=600))
    for event in handle.events():
        if isinstance(event, events.NodeProgress):
            break
    began = time.monotonic()
    handle.cancel()
    with pytest.raises(Cancelled):
        handle.result()
    assert time.monotonic() - began < 30  # of 60
    assert engine.run(square(3))["text"] == "m 9"


def test_a_node_that_ends_its_process_runs_again_elsewhere(make, tmp_path):
    engine = make()
    w = Workflow("fragile")
    w.output("x", w.add("Fragile", model=w.add("OpenModel", kind="m"), x=1, marks=str(tmp_path), times=2))
    assert engine.run(w)["x"] == 1
    assert len(list(tmp_path.glob("1-*"))) == 2


def test_a_node_that_ends_three_workers_fails(make, tmp_path):
    engine = make()
    w = Workflow("fragile")
    w.output("x", w.add("Fragile", name="bad", model=w.add("OpenModel", kind="m"), x=2, marks=str(tmp_path), times=100))
    with pytest.raises(NodeError, match="node 'bad' has ended 3 workers"):
        engine.run(w)
    assert len(list(tmp_path.glob("2-*"))) == 3
    assert engine.run(square(4))["text"] == "m 16"


def test_actors_killed_at_random_lose_nothing(make):
    engine = make()
    known = pids(engine)
    handles = [engine.start(square(x, seconds=0.15)) for x in range(60)]
    kills = 0
    while kills < 10 and any(handle.status in ("queued", "running") for handle in handles):
        time.sleep(0.4)
        alive = [pid for pid in known if Path(f"/proc/{pid}").exists()]
        if alive:
            os.kill(random.choice(alive), signal.SIGKILL)
            kills += 1
        known = {actor.process for actor in engine._workers._actors if actor.is_ready}
    assert [handle.result()["text"] for handle in handles] == [f"m {x * x}" for x in range(60)]
    assert kills >= 5


def test_models_stay_where_they_are(make):
    engine = make()
    pids(engine)
    handles = []
    for k in range(24):
        w = Workflow("where")
        w.output("pid", w.add("Where", model=w.add("OpenModel", kind="ab"[k % 2]), x=1000 + k))
        handles.append((k % 2, engine.start(w)))
    found = {(model, handle.result()["pid"]) for model, handle in handles}
    assert len(found) <= 4  # each model is on a worker at most once
    by_model = [pid for model, pid in found]
    assert len(set(by_model)) == 2


def test_other_versions_are_refused(make, monkeypatch):
    monkeypatch.setattr(start, "versions", lambda plugins: {"python": "3.1", "nodegraph": "0"})
    with pytest.raises(PluginError, match=r"has other versions\. Expected"):
        make().run(square(1))


def test_other_plugins_are_refused(make, monkeypatch):
    monkeypatch.setattr(start, "codes_of", lambda plugins: {"other": "x"})
    with pytest.raises(PluginError, match="has other code of the plugin"):
        make().run(square(1))


def test_a_worker_that_cannot_start_says_why(make, plugin_dir):
    engine = make()
    (plugin_dir / "stubs.py").write_text("raise RuntimeError('broken by hand')")
    with pytest.raises(
        PluginError, match=r"a worker on .* has other code of the plugin .stubs.\. .* found a broken one: .*broken by hand"
    ):
        engine.run(square(1))


def test_more_gpus_than_there_are(make):
    with pytest.raises(DeviceError, match="3 workers with 1 GPUs each were asked for, and this machine has 0 GPUs"):
        make(workers=3, gpus_per_worker=1).run(square(1))


def test_the_embedded_model_paints_the_same(make):
    engine, alone = make(), make(cache="other", ray=False)
    for seed in (1, 2):
        options: Any = {"params": {"seed": seed}, "overrides": []}
        file = ROOT / "workflows" / "txt2img.yaml"
        a, b = engine.run(file, **options), alone.run(file, **options)
        for name in a.outputs:
            assert (a[name].pixels == b[name].pixels).all()


def test_a_killed_driver_goes_on_where_it_was(tmp_path, plugin_dir):
    """Its actors end with it; what they had stored counts."""
    program = textwrap.dedent("""
        import sys
        from nodegraph import Engine, RayWorkers, Workflow
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
