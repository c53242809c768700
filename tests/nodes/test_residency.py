"""The memory size of networks, and moving them between devices without changing the original."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from nodegraph_nodes.models.residency import MAX_OBJECTS, memory_budget, memory_of, move, version_of


def network() -> nn.Module:
    layer = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).requires_grad_(False).eval()
    layer.register_buffer("offset", torch.arange(3.0))
    return layer


def test_network_size_counts_parameters_and_buffers():
    weights = memory_of(network())
    assert {device for device, _ in weights} == {"cpu"}
    assert sum(weights.values()) == 4 * (12 + 3 + 4 * 3 + 3) + 8  # BatchNorm counts its batches in an int64


def test_shared_storage_counts_once():
    base, other = network(), network()
    other[0].weight = base[0].weight
    together = {**memory_of(base), **memory_of(other)}
    assert sum(together.values()) == 2 * sum(memory_of(base).values()) - 4 * 12


def test_moved_network_computes_the_same():
    here = network()
    there = move(here, "meta")
    assert {str(tensor.device) for tensor in there.state_dict().values()} == {"meta"}
    assert {str(tensor.device) for tensor in here.state_dict().values()} == {"cpu"}
    again = move(here, "cpu")
    x = torch.randn(2, 4)
    assert torch.equal(again(x), here(x))
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_other_values_have_no_size():
    assert memory_of("text") == {}
    assert move("text", "cpu") is None
    assert memory_budget("cpu") is None


# --- versions


class Holder:
    def __init__(self, network):
        self.parts = {"network": [network]}


CHANGED = {
    "a weight": lambda made: nn.init.zeros_(made[0].weight),
    "a buffer": lambda made: made[1].running_mean.add_(1),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("wrap", [lambda made: made, Holder, lambda made: (1, [made])], ids=["network", "object", "list"])
def test_version_changes_with_a_tensor(wrap, change):
    made = network()
    value = wrap(made)
    before = version_of(value)
    made[0](torch.rand(1, 4))
    assert version_of(value) == before is not None
    change(made)
    assert version_of(value) != before


def test_value_without_countable_tensors_has_no_version():
    with torch.inference_mode():
        made = torch.rand(2)
    assert version_of(made) is None
    assert version_of("text") is None
    assert version_of(Holder(None)) is None
    assert version_of([[i] for i in range(MAX_OBJECTS + 1)]) is None


def test_replaced_tensors_of_a_network_are_freed():
    network = nn.Linear(2, 2)
    version_of(network)
    replaced = weakref.ref(network.weight)
    network.weight = nn.Parameter(torch.ones(2, 2))
    assert replaced() is None
    before = version_of(network)
    with torch.no_grad():
        network.weight.zero_()
    assert version_of(network) == before + 1
