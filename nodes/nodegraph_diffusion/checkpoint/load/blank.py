"""Networks without values, which come from a file later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Config = TypeVar("Config")
Network = TypeVar("Network")


class _Undrawn(TorchFunctionMode):
    """What modules begin with is not drawn: to draw nothing on the meta device imports a compiler, which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def blank(build: Callable[[Config], Network], config: Config) -> Network:
    """The network on the meta device: tensors of the right shapes, which hold no values and take no memory."""
    with torch.device("meta"), _Undrawn():
        return build(config)
