"""How much memory loaded networks occupy, and how they move between devices."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from itertools import chain
from operator import attrgetter
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from nodegraph.plugin_api import Blocks
from nodegraph_nodes.imported_torch import imported_torch

SHARE: Final = 0.8
"""The share of an accelerator's memory that networks may fill; the rest is for what they compute."""


MAX_OBJECTS: Final = 10_000
"""In an object of more parts than this, changes are not looked for."""

_WITHOUT_TENSORS: Final = (type(None), bool, int, float, str, bytes, type, ModuleType, FunctionType, MethodType, Path)
_VERSION: Final = attrgetter("_version")
_tensors: WeakKeyDictionary[Any, list[ref[Any]]] = WeakKeyDictionary()  # by network


def memory_of(value: Any) -> Blocks:
    """Bytes of the storages of a network's parameters and buffers, by device and address; empty for anything else."""
    torch = imported_torch()
    if torch is None or not isinstance(value, torch.nn.Module):
        return {}
    storages = (tensor.untyped_storage() for tensor in chain(value.parameters(), value.buffers()))
    return {(str(storage.device), storage.data_ptr()): storage.nbytes() for storage in storages}


def version_of(value: Any) -> int | None:
    """How often torch has counted a change of a tensor in `value`: a tensor, a network, or an object, list or mapping of these.

    None if there are no tensors in it, or if torch does not count their changes. Objects inside functions are not seen, and
    neither are changes through `tensor.data`, NumPy, or by replacing a tensor with another one.
    """
    torch = imported_torch()
    if torch is None:
        return None
    total, has_tensors = 0, False
    pending, seen = [value], {id(value)}
    while pending:
        item = pending.pop()
        if isinstance(item, torch.Tensor):
            tensors = [item]
        elif isinstance(item, torch.nn.Module):
            tensors = _tensors_of(item)
        else:
            inner = item.values() if isinstance(item, Mapping) else item if isinstance(item, list | tuple) else _attributes(item)
            for part in inner:
                if id(part) not in seen and not isinstance(part, _WITHOUT_TENSORS):
                    seen.add(id(part))
                    pending.append(part)
            if len(seen) > MAX_OBJECTS:
                return None
            continue
        try:
            total += sum(map(_VERSION, tensors))
        except RuntimeError:  # torch counts no changes of a tensor that was made in inference mode
            return None
        has_tensors = has_tensors or bool(tensors)
    return total if has_tensors else None


def _tensors_of(network: Any) -> list[Any]:
    """The parameters and buffers of a network, remembered: finding them takes longer than looking at them.

    Tensors that the network no longer has are not kept in memory.
    """
    tensors = [tensor() for tensor in _tensors.get(network, ())]
    if not tensors or any(tensor is None for tensor in tensors):
        tensors = [*network.parameters(), *network.buffers()]
        _tensors[network] = list(map(ref, tensors))
    return tensors


def _attributes(item: Any) -> Collection[Any]:
    return getattr(item, "__dict__", {}).values()


def memory_budget(device: str) -> int | None:
    """Four fifths of a CUDA device's memory, in bytes; None for other devices."""
    torch = imported_torch()
    if torch is None or not device.startswith("cuda"):
        return None
    return int(torch.cuda.get_device_properties(device).total_memory * SHARE)


def move(value: Any, device: str) -> Any:
    """A network with the same values whose tensors are on `device`; None for anything else.

    The original stays unchanged: a denoiser that holds it goes on computing on the old device.
    """
    torch = imported_torch()
    if torch is None or not isinstance(value, torch.nn.Module):
        return None
    tensors = chain(value.parameters(), value.buffers())
    memo = {id(tensor): _like(torch, tensor, tensor.to(device)) for tensor in tensors}
    return copy.deepcopy(value, memo)


def _like(torch: Any, original: Any, moved: Any) -> Any:
    """`moved` as a parameter, if `original` is one."""
    return torch.nn.Parameter(moved, requires_grad=original.requires_grad) if isinstance(original, torch.nn.Parameter) else moved
