"""How far generated pictures are from real ones as a whole, by the features of a network."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """The Fréchet distance of two sets of features, (N, d) and (M, d), each taken as a Gaussian (Heusel et al. 2017, eq. 6).

    |m - m'|^2 + trace(C + C' - 2 (C C')^(1/2)) in float64. The published networks are not shipped: the features are those of a
    network trained here, such as the embeddings of a CLIP image encoder, so distances compare only with those in the same space.
    With fewer pictures than features it is much too large. Raises ValueError for fewer than two pictures in a set.
    """
    if min(len(features), len(others)) < 2:
        raise ValueError(f"Fréchet distance: expected at least 2 pictures in each set, found {len(features)} and {len(others)}")
    first, second = (each.detach().to("cpu", torch.float64) for each in (features, others))
    covariance, other = (each.T.cov().reshape(each.shape[1], -1) for each in (first, second))
    root = _root(covariance)
    # the eigenvalues of C C' are those of the symmetric C^(1/2) C' C^(1/2)
    shared = torch.linalg.eigvalsh(root @ other @ root).clamp_min(0).sqrt().sum()
    difference = first.mean(0) - second.mean(0)
    return float(difference.square().sum() + covariance.trace() + other.trace() - 2 * shared)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
