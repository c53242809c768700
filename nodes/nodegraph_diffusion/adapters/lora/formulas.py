"""What an adapter adds to a weight, for each published kind. Pure functions of float32 tensors.

A weight has `out` rows; the other dimensions of a convolution count as columns. Adapters are stored as factors:

- LoRA (Hu et al. 2021, sec. 4.1): up @ down, and through a core of the kernel's size if a convolution was split in three.
- LoHa (Hyeon-Woo et al. 2021, FedPara, sec. 2.2): the entrywise product of two such products.
- LoKr (Edalati et al. 2022, KronA; Yeh et al. 2023, LyCORIS): a Kronecker product whose factors may be products themselves.
- diff: the difference itself.
- DoRA (Liu et al. 2024, eq. 5): any of them, whose sum is then scaled to a learned norm for each row (or column).

Each is multiplied by alpha / rank, or by the scale in the config of the file's trainer; by one if there is no alpha, and for a
LoKr of two whole factors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Factors = Mapping[str, Tensor]


def changed(weight: Tensor, factors: Factors, alpha: float | None, strength: float, scale: float | None = None) -> Tensor:
    """`weight`, float32, under the adapter at `strength`: a new tensor of the same shape.

    `scale` replaces alpha / rank if there is no alpha. Raises ValueError if the factors are not of a kind above, or do not fit
    each other or the weight.
    """
    difference, rank = _difference(factors)
    if difference.numel() != weight.numel() or (difference.dim() > 0 and difference.shape[0] != weight.shape[0]):
        raise ValueError(f"expected a change of shape {list(weight.shape)}, found one of {list(difference.shape)}")
    difference = (difference * scaling(alpha, rank, scale)).reshape(weight.shape)
    learned = _norms(factors, weight)
    if learned is None:
        return weight + strength * difference
    norms, dims = learned
    decomposed = weight + difference
    decomposed = decomposed * (norms / torch.linalg.vector_norm(decomposed, dim=dims, keepdim=True))
    return torch.lerp(weight, decomposed, strength)


def scaling(alpha: float | None, rank: int | None, scale: float | None) -> float:
    """The number that a change is multiplied by: alpha / rank, or else `scale`, or else 1."""
    if alpha is not None:
        return 1.0 if rank is None else alpha / rank
    return 1.0 if scale is None else scale


def change_of_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """Rows and columns of the weight that factors of `shapes` change. Raises ValueError as `changed` does."""
    with torch.device("meta"):
        difference, _ = _difference({role: torch.empty(shape) for role, shape in shapes.items()})
    rows = difference.shape[0] if difference.dim() else 1
    return rows, difference.numel() // max(rows, 1)


def _difference(factors: Factors) -> tuple[Tensor, int | None]:
    """The change before scaling, and the rank by which alpha is divided, None if there is none."""
    try:
        if "diff" in factors:
            return factors["diff"], None
        if "up" in factors:
            return _product(factors["up"], factors["down"], factors.get("mid")), factors["down"].shape[0]
        if "hada_w1_a" in factors:
            pairs = ((f"hada_w{i}_a", f"hada_w{i}_b", f"hada_t{i}") for i in (1, 2))
            first, second = (_tucker(factors[a], factors[b], factors.get(core)) for a, b, core in pairs)
            return first * second, factors["hada_w1_b"].shape[0]
        if any(role.startswith("lokr_") for role in factors):
            return _kronecker(factors)
    except KeyError as error:
        raise ValueError(f"expected a factor {error} beside {', '.join(sorted(factors))}, found none") from error
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join(f"{role} {list(factor.shape)}" for role, factor in sorted(factors.items()))
        raise ValueError(f"expected factors that fit each other, found {shapes}") from error
    raise ValueError(f"expected a LoRA, LoHa, LoKr or difference, found only {', '.join(sorted(factors))}")


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
    by_row = "magnitude" in factors or (norms.dim() > 0 and norms.shape[0] == rows)
    if norms.numel() != (rows if by_row else rest[0]):
        raise ValueError(f"expected norms for the rows or columns of {list(weight.shape)}, found {list(norms.shape)}")
    others = tuple(range(1, weight.dim()))
    if by_row:
        return norms.reshape(rows, *[1] * len(rest)), others
    return norms.reshape(1, rest[0], *[1] * (len(rest) - 1)), (0, *others[1:])
