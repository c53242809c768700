"""The names of tensors in files with scaled weights of eight bits, as ComfyUI reads and writes them.

A weight `X.weight` in F8_E4M3 or F8_E5M2 stands for its numbers times one number, the tensor `X.scale_weight`, or `X.weight_scale`
in files since 2025. Without such a tensor it stands for itself.
"""

from __future__ import annotations

NO_EFFECT = r"(.*\.)?(scaled_fp8|scale_input|input_scale)"
"""Names of tensors that say how to compute in eight bits, which we do not do."""

_SCALES = (".scale_weight", ".weight_scale")


def scaled_weight(key: str) -> str | None:
    """The name of the weight whose scale is the tensor `key`; None for other tensors."""
    return f"{key[: key.rindex('.')]}.weight" if key.endswith(_SCALES) else None
