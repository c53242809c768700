"""Objects of other libraries as values of the pack: Pillow's pictures, numpy's arrays, tensors. Importing this imports neither.

Each function returns None for an object that is none of these, and raises ValueError for one that does not fit.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

from nodegraph_nodes.types import Image, Latent, Mask, Noise, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

_KINDS: Final = (("torch", "Tensor"), ("numpy", "ndarray"))

FACTOR: Final = 8
"""The pixels per cell of a latent that is given as a tensor."""


def image(value: Any) -> Image | None:
    """From a picture, or an array (H, W), (H, W, 3), (H, W, 4) or (B, H, W, 3): numbers from 0 to 1, or unsigned integers."""
    pixels = _pixels(value)
    if pixels is None:
        return None
    shape = tuple(pixels.shape)
    if pixels.ndim == 2:
        pixels = pixels[..., None].expand(*pixels.shape, 3)
    if pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (3, 4) or not pixels.numel():
        raise ValueError(f"expected pictures of shape (H, W), (H, W, 3), (H, W, 4) or (B, H, W, 3), found {shape}")
    return Image(pixels[..., :3].contiguous())


def mask(value: Any) -> Mask | None:
    """From a picture, whose brightness counts, or an array (H, W) or (B, H, W): numbers from 0 to 1, booleans, ..."""
    values = _pixels(value, grey=True)
    if values is None:
        return None
    shape = tuple(values.shape)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or not values.numel():
        raise ValueError(f"expected a mask of shape (H, W) or (B, H, W), found {shape}")
    return Mask(values.contiguous())


def latent(value: Any) -> Latent | None:
    """From a tensor or array (C, h, w) or (B, C, h, w), scaled as the UNet expects it, with 8 pixels per cell."""
    samples = _cells(value)
    if samples is None:
        return None
    height, width = samples.shape[-2:]
    return Latent(samples, (height * FACTOR, width * FACTOR))


def noise(value: Any) -> Noise | None:
    """From a tensor or array (C, h, w) or (B, C, h, w). Noise for later steps is drawn from seed 0."""
    values = _cells(value)
    return None if values is None else Noise(values, 0)


def sigmas(value: Any) -> Sigmas | None:
    """From a tensor or array (n,)."""
    values = _tensor(value)
    if values is None:
        return None
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"expected at least two noise levels of shape (n,), found {tuple(values.shape)}")
    return Sigmas(_finite(values.float()))


def _pixels(value: Any, *, grey: bool = False) -> Tensor | None:
    """Numbers from 0 to 1, float32, of a picture (H, W, 3), or (H, W) if `grey`, or of an array of any shape."""
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        from nodegraph_nodes.pictures.colours import in_srgb
        from nodegraph_nodes.pictures.files import colours_and_opacity

        with contextlib.suppress(ValueError):  # a profile that cannot be used counts as none
            value = in_srgb(value)
        colours = colours_and_opacity(value, "the picture")[0][0]
        if not grey:
            return colours
        from nodegraph_diffusion.masks import luminance

        return luminance(colours)
    tensor = _tensor(value)
    if tensor is None:
        return None
    import torch

    if tensor.dtype == torch.bool:
        return tensor.float()
    if not tensor.is_floating_point():
        bits = torch.iinfo(tensor.dtype)
        if bits.min < 0:
            raise ValueError(f"expected numbers from 0 to 1 or unsigned integers, found {_dtype(tensor)}")
        return (tensor.double() / bits.max).float()
    tensor = _finite(tensor.float())
    if tensor.numel() and (tensor.min() < 0 or tensor.max() > 1):
        raise ValueError(f"expected numbers from 0 to 1, found {tensor.min():g} to {tensor.max():g}")
    return tensor


def _cells(value: Any) -> Tensor | None:
    tensor = _tensor(value)
    if tensor is None:
        return None
    shape = tuple(tensor.shape)
    tensor = tensor[None] if tensor.ndim == 3 else tensor
    if tensor.ndim != 4 or not tensor.is_floating_point() or not tensor.numel():
        raise ValueError(f"expected floating-point numbers of shape (C, h, w) or (B, C, h, w), found {_dtype(tensor)} of {shape}")
    return _finite(tensor.float())


def _tensor(value: Any) -> Tensor | None:
    """A tensor on the CPU with its own memory, from a tensor or an array of numbers."""
    kinds = [kind for module, name in _KINDS if (kind := getattr(sys.modules.get(module), name, None)) is not None]
    if not isinstance(value, tuple(kinds)):
        return None
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    array: Any = value
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=True))
    except TypeError:
        raise ValueError(f"expected an array of numbers, found one of {array.dtype}") from None


def _finite(tensor: Tensor) -> Tensor:
    if not tensor.isfinite().all():
        raise ValueError("expected finite numbers, found NaN or infinity")
    return tensor


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
