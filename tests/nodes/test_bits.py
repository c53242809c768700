"""The bits of tensors: digests cover them, files keep them, and readers of fresh and of stored values see the same."""

from __future__ import annotations

import itertools

import pytest
import torch

from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.types import Sigmas

CODEC = CODECS[Sigmas]


def from_bits(*bits: int) -> torch.Tensor:
    return torch.tensor(bits, dtype=torch.int64).to(torch.int32).view(torch.float32)


TENSORS = {
    "zeros": torch.zeros(3),
    "negative zero": torch.tensor([0.0, -0.0, 0.0]),
    "denormal numbers": torch.tensor([1e-45, 1e-40, -1e-45]),
    "other denormal numbers": torch.tensor([3e-45, 1e-40, -1e-45]),
    "two numbers": torch.zeros(2),
    "ordinary numbers": torch.tensor([1.0, 2.0, 3.0]),
    "their order": torch.tensor([3.0, 2.0, 1.0]),
    "NaN": from_bits(0x7FC00000, 0, 0),
    "NaN with another payload": from_bits(0x7FC00001, 0, 0),
    "negative NaN": from_bits(-0x400000, 0, 0),
}


def test_bits_of_tensors_are_kept_and_covered(tmp_path):
    digests = {name: CODEC.digest(Sigmas(tensor)) for name, tensor in TENSORS.items()}
    assert all(digests[one] != digests[other] for one, other in itertools.combinations(TENSORS, 2))
    for i, tensor in enumerate(TENSORS.values()):
        path = tmp_path / f"{i}.safetensors"
        CODEC.save(Sigmas(tensor), path)
        assert torch.equal(CODEC.load(path).values.view(torch.int32), tensor.view(torch.int32))


@pytest.mark.parametrize("name", [name for name in TENSORS if "NaN" in name])
def test_nan_is_refused_whatever_its_payload(name):
    assert "NaN" in str(CODEC.check(Sigmas(TENSORS[name])))


LAYOUTS = {
    "every second number": torch.arange(6.0)[::2],
    "reversed": torch.tensor([4.0, 2.0, 0.0]).flip(0),
    "one number three times": torch.tensor(2.0).expand(3),
    "with a gradient": torch.arange(3.0).requires_grad_() * 2,
    "a parameter": torch.nn.Parameter(torch.arange(3.0)),
}


@pytest.mark.parametrize("tensor", LAYOUTS.values(), ids=LAYOUTS)
def test_layout_in_memory_is_not_part_of_a_value(tmp_path, tensor):
    """Every reader gets contiguous numbers without a gradient, whether the value is fresh or stored."""
    plain = torch.tensor(tensor.tolist())
    assert CODEC.digest(Sigmas(tensor)) == CODEC.digest(Sigmas(plain))
    CODEC.save(Sigmas(tensor), tmp_path / "file")
    loaded = CODEC.load(tmp_path / "file").values
    assert torch.equal(loaded, plain)
    assert (loaded.is_contiguous(), loaded.requires_grad) == (True, False)


def test_other_dtypes_are_refused():
    assert "expected float32" in str(CODEC.check(Sigmas(torch.zeros(3, dtype=torch.float64))))


def test_tensor_whose_values_are_the_negatives_of_its_bytes_is_stored():
    plain = torch.tensor([1.0, -2.0, 3.0])
    negative = torch._neg_view(-plain)
    assert negative.is_neg()
    assert negative.is_contiguous()
    assert CODEC.digest(Sigmas(negative)) == CODEC.digest(Sigmas(plain))
    assert CODEC.encode(Sigmas(negative)) == CODEC.encode(Sigmas(plain))
