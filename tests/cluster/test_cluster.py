"""What is asked of a Ray cluster, and what it has, before any worker starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nodegraph import DeviceError
from nodegraph.run.workers.ray import cluster
from nodegraph.run.workers.ray.cluster import Cluster, RayOptions


class Stand:
    """As much of the library as connecting needs. `machines` are the resources and labels of each."""

    def __init__(self, *machines: tuple[dict[str, float], dict[str, str]]) -> None:
        self.machines, self.settings, self.is_there = machines, dict[str, Any](), False

    def is_initialized(self) -> bool:
        return self.is_there

    def init(self, **settings: Any) -> None:
        self.settings, self.is_there = settings, True

    def shutdown(self) -> None:
        self.is_there = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": resources, "Labels": labels} for resources, labels in self.machines]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def connect(ray: Stand, **options: Any) -> Cluster:
        monkeypatch.setattr(cluster, "import_ray", lambda: ray)
        return Cluster(RayOptions(**options))

    return connect


def test_the_dashboard_is_off_unless_it_is_asked_for(connect):
    for options, expected in (({}, False), ({"dashboard": True}, True)):
        ray = Stand(({"CPU": 4}, {}))
        connect(ray, **options)
        assert ray.settings["address"] == "local"
        assert ray.settings["include_dashboard"] is expected


def test_there_is_a_worker_for_each_gpu_or_each_machine(connect):
    two = Stand(({"CPU": 8, "GPU": 4}, {}), ({"CPU": 8, "GPU": 2}, {}))
    assert connect(two, address="auto").count == 6
    assert connect(two, address="auto", gpus_per_worker=0.5).count == 12
    assert connect(two, address="auto", gpus_per_worker=4).count == 1  # no machine has more than four
    assert connect(two, address="auto", gpus_per_worker=0).count == 2
    assert connect(Stand(({"CPU": 8}, {})), address="auto").count == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 3}, r"3 workers with 1 GPU each were asked for, and .* has 2 GPUs on 2 machines, room for 2\. Ask for fewer"),
        ({"gpus_per_worker": 2}, r"1 worker with 2 GPUs was asked for, and .* has 2 GPUs on 2 machines, room for 0"),
        ({"labels": {"card": "L4"}, "workers": 2}, r"2 workers with 1 GPU each .* has 1 GPU with these labels"),
        ({"labels": {"card": "H100"}}, r"no machine with the label card=H100\. There are card=A100, card=L4"),
        ({"gpus_per_worker": 0, "workers": 9}, r"9 workers with 1 CPU each were asked for, and .* has 8 CPUs"),
    ],
)
def test_what_a_cluster_does_not_have(connect, options, message):
    ray = Stand(({"CPU": 4, "GPU": 1}, {"card": "A100"}), ({"CPU": 4, "GPU": 1}, {"card": "L4"}))
    with pytest.raises(DeviceError, match=message):
        connect(ray, address="auto", **options)
    assert not ray.is_there  # it has left the cluster


def test_a_machine_that_has_gone_does_not_count(connect):
    ray = Stand(({"CPU": 4, "GPU": 1}, {}))
    gone = {"Alive": False, "Resources": {"GPU": 8}, "Labels": {}}
    ray.nodes = lambda: [*Stand.nodes(ray), gone]
    assert connect(ray, address="auto").count == 1


def test_a_cluster_that_cannot_be_reached(connect):
    ray = Stand()
    ray.init = lambda **settings: (_ for _ in ()).throw(ConnectionError("no answer.\nmore"))
    with pytest.raises(DeviceError, match=r"Ray cannot be reached at 10\.0\.0\.1: no answer\. Is it running"):
        connect(ray, address="10.0.0.1")


def test_labels_and_resources_go_to_ray(connect):
    asked: dict[str, Any] = {}
    ray = Stand(({"CPU": 4, "GPU": 1}, {"card": "A100"}))
    actor = SimpleNamespace(options=lambda **options: asked.update(options) or SimpleNamespace(remote=lambda *args: "actor"))
    ray.remote = lambda **groups: lambda worker: actor
    connect(ray, address="auto", labels={"card": "in(A100, H100)"}).start(b"")
    assert asked["label_selector"] == {"card": "in(A100,H100)"}  # it waits for ever if there is a blank
    assert (asked["num_gpus"], asked["num_cpus"], asked["max_restarts"], asked["max_task_retries"]) == (1.0, 1, -1, 0)
