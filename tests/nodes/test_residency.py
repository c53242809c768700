"""The memory size of networks, and moving them between devices without changing the original."""

from __future__ import annotations

import torch
from torch import nn

from nodegraph_nodes.models.residency import memory_budget, memory_of, move


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
