"""The number format that a network computes in while it trains; its weights stay float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16", "auto"]
"""float16 scales the loss so that small gradients do not vanish (Micikevicius et al. 2018, sec. 3.2). "auto" is bfloat16 on
a device that computes in it natively, else float32."""

_NATIVE = ("avx512_bf16", "amx_bf16", "bf16")  # names of `torch.cpu.get_capabilities`, on x86 and ARM


def computing_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of most operations. Raises ValueError for another name."""
    if precision not in ("float32", "bfloat16", "float16", "auto"):
        raise ValueError(f"training: expected precision float32, bfloat16, float16 or auto, found {precision!r}")
    if precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 natively; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and any(torch.cpu.get_capabilities().get(name, False) for name in _NATIVE)


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """Inside, networks compute in `dtype`."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def loss_scaler(dtype: torch.dtype, device: torch.device) -> torch.amp.GradScaler:
    """The scaler of losses: it does something only in float16."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
