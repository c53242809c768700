"""Values without a codec, such as models, that a node changes in place: what torch counts is noticed, and other changes are not."""

from __future__ import annotations

import pytest

from nodegraph import Engine, Workflow
from nodegraph.errors import NodeError

PLUGIN = """
from nodegraph import hookimpl, node

class Network:
    def __init__(self, weight):
        self.weight = weight

@node("MakeNetwork")
def make_network(level: float) -> Network:
    import torch
    return Network(torch.full((4,), level))

@node("Spoil", numeric=True)
def spoil(network: Network, how: str) -> float:
    exec(how)
    return 0.0

@node("Weight", numeric=True)
def weight(network: Network, after: float = 0.0) -> float:
    return float(network.weight.sum())

@hookimpl
def register_nodes(register):
    for function in (make_network, spoil, weight):
        register(function)
"""


@pytest.fixture
def engine(tmp_path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "networks.py").write_text(PLUGIN)
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def spoiled(how: str) -> Workflow:
    workflow = Workflow("spoiled")
    network = workflow.add("MakeNetwork", name="network", level=1.0)
    after = workflow.add("Spoil", name="spoiled", network=network, how=how)
    workflow.output("weight", workflow.add("Weight", name="weight", network=network, after=after))
    return workflow


def clean() -> Workflow:
    workflow = Workflow("clean")
    network = workflow.add("MakeNetwork", name="network", level=1.0)
    workflow.output("weight", workflow.add("Weight", name="weight", network=network))
    return workflow


@pytest.mark.parametrize("how", ["network.weight.zero_()", "network.weight[:2] = 0", "network.weight.view(2, 2).mul_(3)"])
def test_model_that_is_changed_in_place_is_not_used_again(engine, how):
    with pytest.raises(NodeError, match="changed its input 'network' in place"):
        engine.run(spoiled(how))
    assert engine.run(clean())["weight"] == 4.0


@pytest.mark.parametrize(
    "how", ["network.weight.data.zero_()", "network.weight.numpy()[:] = 0", "network.weight = 0 * network.weight"]
)
def test_change_that_torch_does_not_count_is_not_noticed(engine, how):
    assert engine.run(spoiled(how))["weight"] == 0.0
