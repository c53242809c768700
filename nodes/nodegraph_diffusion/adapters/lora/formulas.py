"""What an adapter does to a weight, for each published kind. Pure functions of float32 tensors.

A weight has `out` rows; the other dimensions of a convolution count as columns. Adapters are stored as factors:

- LoRA (Hu et al. 2021, sec. 4.1): up @ down, and through a core of the kernel's size if a convolution was split in three.
- LoHa (Hyeon-Woo et al. 2021, FedPara, sec. 2.2): the entrywise product of two such products.
- LoKr (Edalati et al. 2022, KronA; Yeh et al. 2023, LyCORIS): a Kronecker product whose factors may be products themselves.
- GLoRA (Chavan et al. 2023; in LyCORIS): weight @ a1 @ a2 + b1 @ b2.
- diff: the difference itself.
- DoRA (Liu et al. 2024, eq. 5): any of them, whose sum is then scaled to a learned norm for each row (or column).
- IA3 (Liu et al. 2022, sec. 3.3): a factor for each row or column.
- OFT and BOFT: see `rotations`.
- set_weight: the whole weight.

The differences are multiplied by alpha / rank, or by the scale in the config of the file's trainer; by one if there is no alpha,
and for a LoKr of two whole factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nodegraph_diffusion.adapters.lora.rotations import is_rotation, rotated
from nodegraph_diffusion.checkpoint.layouts.adapter_shapes import WrongShapeError, check_size
from nodegraph_diffusion.checkpoint.layouts.peft_config import ModuleOptions

Factors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Change:
    """The change of one weight: its factors, the numbers beside them, and what its trainer's config says."""

    factors: Factors
    alpha: float | None = None
    scalar: float = 1.0
    on_input: bool | None = None
    options: ModuleOptions = field(default_factory=ModuleOptions)

    def scaling(self, rank: int | None) -> float:
        """The number that a difference is multiplied by: alpha / rank, or else the config's scale, or else 1; times the scalar."""
        if self.alpha is not None:
            return self.scalar if rank is None else self.scalar * self.alpha / rank
        return self.scalar if self.options.scale is None else self.scalar * self.options.scale


def changed(weight: Tensor, change: Change, strength: float) -> Tensor:
    """`weight`, float32, under the adapter at `strength`: a new tensor of the same shape.

    Raises ValueError if the factors do not fit each other, and WrongShapeError if they do not fit the weight.
    """
    factors = change.factors
    try:
        if "set_weight" in factors:
            return torch.lerp(weight, _fitted(factors["set_weight"], weight), strength)
        if (scales := ia3_scales(weight, change, strength)) is not None:
            return weight * scales
        if is_rotation(factors):
            return rotated(weight, factors, constraint=change.alpha, strength=strength, options=change.options)
        difference, rank = _difference(factors, weight)
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join(f"{role} {list(factor.shape)}" for role, factor in sorted(factors.items()))
        raise ValueError(f"expected factors that fit each other, found {shapes}") from error
    difference = _fitted(difference, weight) * change.scaling(rank)
    learned = _norms(factors, weight)
    if learned is None:
        return weight + strength * difference
    norms, dims = learned
    decomposed = weight + difference
    lengths = torch.linalg.vector_norm(decomposed, dim=dims, keepdim=True)
    decomposed = torch.where(lengths > 0, decomposed * (norms / lengths), decomposed)  # a row of zeros has no direction: it stays
    return torch.lerp(weight, decomposed, strength)


def ia3_scales(weight: Tensor, change: Change, strength: float) -> Tensor | None:
    """The factors of an IA3, shaped to multiply `weight`; None for other kinds. LyCORIS stores the differences from one."""
    if "ia3_weight" in change.factors:
        scales, on_input = 1 + strength * change.factors["ia3_weight"], bool(change.on_input)
    elif "ia3_l" in change.factors:
        stored = change.factors["ia3_l"]
        scales, on_input = 1 + strength * (stored - 1), _is_on_input(stored, weight, change.options.on_input)
    else:
        return None
    side = 1 if on_input and weight.dim() > 1 else 0
    if scales.numel() != weight.shape[side]:
        raise WrongShapeError(f"{weight.shape[side]} factors", f"{scales.numel()}")
    return scales.reshape([-1 if dim == side else 1 for dim in range(weight.dim())])


def _is_on_input(stored: Tensor, weight: Tensor, declared: bool | None) -> bool:
    """Whether PEFT's factors (out, 1) or (1, in), or (1, n, 1, 1) for a convolution, are for the input; see its config."""
    if stored.dim() == 2:
        return stored.shape[0] == 1 and weight.shape[0] != 1
    return stored.numel() != weight.shape[0] if declared is None else declared


def _fitted(tensor: Tensor, weight: Tensor) -> Tensor:
    """A difference or new value in the shape of the weight. Raises WrongShapeError."""
    check_size(tuple(weight.shape), tuple(tensor.shape))
    return tensor.reshape(weight.shape)


def _difference(factors: Factors, weight: Tensor) -> tuple[Tensor, int | None]:
    """The change before scaling, and the rank by which alpha is divided, None if there is none."""
    if "diff" in factors:
        return factors["diff"], None
    if "up" in factors:
        return _product(factors["up"], factors["down"], factors.get("mid")), factors["down"].shape[0]
    if "embedding_up" in factors:
        return (factors["embedding_up"] @ factors["embedding_down"]).T, factors["embedding_down"].shape[0]
    if "hada_w1_a" in factors:
        pairs = ((f"hada_w{i}_a", f"hada_w{i}_b", f"hada_t{i}") for i in (1, 2))
        first, second = (_tucker(factors[a], factors[b], factors.get(core)) for a, b, core in pairs)
        return first * second, factors["hada_w1_b"].shape[0]
    if "a1" in factors:
        return _general(factors, weight)
    return _kronecker(factors)


def _general(factors: Factors, weight: Tensor) -> tuple[Tensor, int]:
    """GLoRA. In LyCORIS up to 1.8 the second factors came first: weight @ a2 @ a1 + b2 @ b1."""
    a1, a2, b1, b2 = (factors[name] for name in ("a1", "a2", "b1", "b2"))
    if a1.shape[0] != weight.shape[1]:
        a1, a2, b1, b2 = a2, a1, b2, b1
    added = _fitted(_product(b1, b2, factors.get("bm")), weight).reshape(weight.shape)
    return torch.einsum("oi...,ij->oj...", weight, a1.flatten(1) @ a2.flatten(1)) + added, a2.shape[0]


def _product(up: Tensor, down: Tensor, core: Tensor | None) -> Tensor:
    """up (out, r, ...), down (r, in, ...) and a core (r, r, kh, kw) -> (out, in, kh, kw), or (out, rest) without a core."""
    if core is None:
        return up.flatten(1) @ down.flatten(1)
    return torch.einsum("om,mnkl,ni->oikl", up.flatten(1), core, down.flatten(1))


def _tucker(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """a (out, r) @ b (r, rest); with a core (r, r, kh, kw), a is (r, out) and b (r, in) -> (out, in, kh, kw)."""
    return a @ b.flatten(1) if core is None else torch.einsum("mnkl,mo,ni->oikl", core, a, b)


def _kronecker(factors: Factors) -> tuple[Tensor, int | None]:
    rank = None
    if (first := factors.get("lokr_w1")) is None:
        rank = factors["lokr_w1_b"].shape[0]
        first = factors["lokr_w1_a"] @ factors["lokr_w1_b"]
    if (second := factors.get("lokr_w2")) is None:
        rank = factors["lokr_w2_b"].shape[0]
        core = factors.get("lokr_t2")
        second = _tucker(factors["lokr_w2_a"], factors["lokr_w2_b"], core)
    return torch.kron(first.reshape(*first.shape, *[1] * (second.dim() - 2)), second.contiguous()), rank


def _norms(factors: Factors, weight: Tensor) -> tuple[Tensor, tuple[int, ...]] | None:
    """DoRA's norms, shaped to multiply `weight`, and the dimensions over which they are taken.

    PEFT's `magnitude` has one norm for each row. A `dora_scale` has one for each row if its first dimension has as many, or else
    for each column.
    """
    if (norms := factors.get("magnitude", factors.get("dora_scale"))) is None:
        return None
    rows, *rest = weight.shape
    by_row = "magnitude" in factors or (norms.dim() > 0 and norms.shape[0] == rows) or not rest
    if norms.numel() != (rows if by_row else rest[0]):
        raise ValueError(f"expected norms for the rows or columns of {list(weight.shape)}, found {list(norms.shape)}")
    others = tuple(range(1, weight.dim()))
    if by_row:
        return norms.reshape(rows, *[1] * len(rest)), others
    return norms.reshape(1, rest[0], *[1] * (len(rest) - 1)), (0, *others[1:])
