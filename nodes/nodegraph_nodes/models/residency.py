"""How much memory loaded networks occupy, and how they move between devices."""

from __future__ import annotations

import copy
import sys
from itertools import chain
from typing import Any, Final

from nodegraph.plugin_api import Blocks

SHARE: Final = 0.8
"""The share of an accelerator's memory that networks may fill; the rest is for what they compute."""


def memory_of(value: Any) -> Blocks:
    """Bytes of the storages of a network's parameters and buffers, by device and address; empty for anything else."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.nn.Module):
        return {}
    storages = (tensor.untyped_storage() for tensor in chain(value.parameters(), value.buffers()))
    return {(str(storage.device), storage.data_ptr()): storage.nbytes() for storage in storages}


def memory_budget(device: str) -> int | None:
    """Four fifths of a CUDA device's memory, in bytes; None for other devices."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return int(torch.cuda.get_device_properties(device).total_memory * SHARE)


def move(value: Any, device: str) -> Any:
    """A network with the same values whose tensors are on `device`; None for anything else.

    The original stays unchanged: a denoiser that holds it goes on computing on the old device.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.nn.Module):
        return None
    tensors = chain(value.parameters(), value.buffers())
    memo = {id(tensor): _like(torch, tensor, tensor.to(device)) for tensor in tensors}
    return copy.deepcopy(value, memo)


def _like(torch: Any, original: Any, moved: Any) -> Any:
    """`moved` as a parameter, if `original` is one."""
    return torch.nn.Parameter(moved, requires_grad=original.requires_grad) if isinstance(original, torch.nn.Parameter) else moved
