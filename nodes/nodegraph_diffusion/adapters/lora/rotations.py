"""OFT and BOFT: a weight's rows or columns, turned by orthogonal matrices. Pure functions of float32 tensors.

A turn is made from a skew-symmetric Q by Cayley's transform, R = (I + Q)(I - Q)^-1 (Qiu et al. 2023, OFT, sec. 3.2). An OFT turns
blocks of neighbours. A BOFT (Liu et al. 2024, sec. 4) turns several times, blocks that are further apart each time: the butterfly.
LyCORIS and kohya turn the rows of a weight, PEFT its columns. The files and formulas are those of these programs.

At `strength` s a turn is I + s (R - I), and a scale is 1 + s (scale - 1): at 1 they are what was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nodegraph_diffusion.checkpoint.layouts.peft_config import ModuleOptions


def is_rotation(factors: Mapping[str, Tensor]) -> bool:
    """Whether the factors are those of an OFT or a BOFT."""
    return not {"oft_blocks", "oft_r", "boft_r"}.isdisjoint(factors)


def rotated(
    weight: Tensor, factors: Mapping[str, Tensor], *, constraint: float | None, strength: float, options: ModuleOptions
) -> Tensor:
    """`weight` turned by an OFT or BOFT. Raises ValueError if the blocks do not fit it.

    `constraint` is the alpha of LyCORIS and kohya: the norm of Q is at most alpha times the number of rows; 0 is no limit.
    """
    matrix = weight.flatten(1)
    if "oft_blocks" in factors:
        turned = _by_rows(matrix, factors["oft_blocks"], constraint=constraint or 0.0, strength=strength)
        if "rescale" in factors:
            turned = turned * _scales(factors["rescale"], len(matrix), strength)
    elif "oft_r" in factors:
        turns = _eased(_peft_turns(factors["oft_r"], options), strength)
        rows = matrix.T
        turns = turns.expand(len(rows) // turns.shape[-1], -1, -1) if len(turns) == 1 else turns
        turned = _turn(rows, turns).T
    else:
        blocks = _square(factors["boft_r"], 4)
        turned = _butterfly(matrix.T, _eased(cayley((blocks.mT - blocks) / 2), strength), piece=blocks.shape[-1] // 2).T
        turned = turned * _scales(factors["boft_s"], len(matrix), strength)
    return turned.reshape(weight.shape)


def cayley(skew: Tensor) -> Tensor:
    """(I + Q)(I - Q)^-1 of skew-symmetric matrices (..., b, b): orthogonal ones."""
    identity = torch.eye(skew.shape[-1], device=skew.device, dtype=skew.dtype)
    turn: Tensor = torch.linalg.solve(identity - skew, identity + skew, left=False)
    return turn


def _by_rows(matrix: Tensor, blocks: Tensor, *, constraint: float, strength: float) -> Tensor:
    """The turns of LyCORIS and kohya: of blocks (n, b, b) for an OFT, which is applied transposed, (m, n, b, b) for a BOFT."""
    blocks = _square(blocks, 3 if blocks.dim() == 3 else 4)
    skew = blocks - blocks.mT
    if constraint > 0:
        norm = torch.linalg.vector_norm(skew)
        skew = skew * (constraint * len(matrix) / (norm + 1e-8)).clamp(max=1)
    turns = _eased(cayley(skew), strength)
    return _turn(matrix, turns.mT) if turns.dim() == 3 else _butterfly(matrix, turns, piece=1)


def _peft_turns(vectors: Tensor, options: ModuleOptions) -> Tensor:
    """PEFT's turns (n, b, b) from the upper triangles (n, b (b - 1) / 2) of their Q."""
    if vectors.dim() != 2:
        raise ValueError(f"expected a vector for each block, found a tensor of shape {list(vectors.shape)}")
    side = (1 + math.isqrt(1 + 8 * vectors.shape[1])) // 2
    if side * (side - 1) // 2 != vectors.shape[1]:
        raise ValueError(f"expected the upper triangles of square blocks, found {vectors.shape[1]} numbers for each")
    row, column = torch.triu_indices(side, side, 1, device=vectors.device)
    upper = torch.zeros(len(vectors), side, side, device=vectors.device)
    upper[:, row, column] = vectors
    skew = upper - upper.mT
    if options.largest_norm is not None:
        norms = torch.linalg.vector_norm(skew, dim=(1, 2), keepdim=True)
        skew = skew * (options.largest_norm / math.sqrt(len(skew)) / norms).clamp(max=1).nan_to_num(1.0)
    if options.neumann_terms is None:
        return cayley(-skew)
    return _neumann(skew, options.neumann_terms)


def _neumann(skew: Tensor, terms: int) -> Tensor:
    """PEFT's approximation of Cayley's transform, I + 2 Q + 2 Q^2 + ... + Q^n, as it counts its terms."""
    turns = torch.eye(skew.shape[-1], device=skew.device).expand_as(skew)
    if terms < 2:
        return turns
    if terms == 2:
        return turns + 2 * skew
    last = max(terms - 1, 3)
    power = skew
    for _ in range(1, last):
        turns = turns + 2 * power
        power = power @ skew
    return turns + power


def _butterfly(matrix: Tensor, turns: Tensor, *, piece: int) -> Tensor:
    """The rows of `matrix` turned by (m, n, b, b), one after the other.

    Turn i is of blocks that take pieces alternately from the two halves of each 2^i b rows.
    """
    size = turns.shape[-1]
    for i, turn in enumerate(turns):
        half = 2**i * (size // 2)
        if size % 2 or len(matrix) % (2 * half):
            raise ValueError(f"expected blocks of an even size that fit {len(matrix)} rows or columns, found {list(turns.shape)}")
        columns = matrix.shape[1]
        shuffled = matrix.reshape(-1, 2, half // piece, piece, columns).transpose(1, 2)
        turned = _turn(shuffled.reshape(-1, columns), turn).reshape(-1, half // piece, 2, piece, columns)
        matrix = turned.transpose(1, 2).reshape(-1, columns)
    return matrix


def _turn(matrix: Tensor, turns: Tensor) -> Tensor:
    """The rows of `matrix`, (n b, columns), turned block by block by (n, b, b)."""
    if turns.shape[0] * turns.shape[1] != len(matrix):
        raise ValueError(f"expected blocks for {len(matrix)} rows or columns, found {list(turns.shape)}")
    blocks = matrix.reshape(*turns.shape[:2], matrix.shape[1])
    return (turns @ blocks).flatten(0, 1)


def _eased(turns: Tensor, strength: float) -> Tensor:
    return turns if strength == 1 else torch.lerp(torch.eye(turns.shape[-1], device=turns.device), turns, strength)


def _scales(scales: Tensor, rows: int, strength: float) -> Tensor:
    """A scale for each row, (rows, 1)."""
    if scales.numel() != rows:
        raise ValueError(f"expected a scale for each of {rows} rows, found a tensor of shape {list(scales.shape)}")
    return 1 + strength * (scales.reshape(rows, 1) - 1)


def _square(blocks: Tensor, dimensions: int) -> Tensor:
    if blocks.dim() != dimensions or blocks.shape[-1] != blocks.shape[-2]:
        raise ValueError(f"expected square blocks, found a tensor of shape {list(blocks.shape)}")
    return blocks
