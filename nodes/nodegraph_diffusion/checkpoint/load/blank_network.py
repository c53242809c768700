"""Networks without values, which are filled from a file later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Config = TypeVar("Config")
Network = TypeVar("Network")


class _NoInitialisation(TorchFunctionMode):
    """Skips the initialisation of modules: on the meta device it would import a compiler, which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else keywords["tensor"]
        return func(*args, **keywords)


def blank(build: Callable[[Config], Network], config: Config) -> Network:
    """The network on the meta device: its tensors have the right shapes, but no values, and take no memory."""
    with torch.device("meta"), _NoInitialisation():
        return build(config)
