"""What loaded networks weigh and how they move: for the engine, which keeps them within a budget and knows no tensor."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from itertools import chain
from typing import Any

SHARE = 0.8  # of an accelerator's memory: the rest is for what the networks compute


def memory_of(value: Any) -> Mapping[tuple[str, int], int] | None:
    """Bytes of the storages of a network's parameters and buffers, by device and address; None for anything else."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.nn.Module):
        return None
    storages = (tensor.untyped_storage() for tensor in chain(value.parameters(), value.buffers()))
    return {(str(storage.device), storage.data_ptr()): storage.nbytes() for storage in storages}


def memory_budget(place: str) -> int | None:
    """Four fifths of a CUDA device's memory; None for other places."""
    torch = sys.modules.get("torch")
    if torch is None or not place.startswith("cuda"):
        return None
    return int(torch.cuda.get_device_properties(place).total_memory * SHARE)


def moved(value: Any, place: str) -> Any:
    """A network with the same values whose tensors lie on the device `place`; None for anything else.

    The network given keeps its own: a denoiser that holds it computes on where it is.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.nn.Module):
        return None
    tensors = chain(value.parameters(), value.buffers())
    memo = {id(tensor): _like(torch, tensor, tensor.to(place)) for tensor in tensors}
    return copy.deepcopy(value, memo)


def _like(torch: Any, tensor: Any, there: Any) -> Any:
    return torch.nn.Parameter(there, requires_grad=tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else there
