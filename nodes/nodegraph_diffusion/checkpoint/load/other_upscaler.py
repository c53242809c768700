"""Upscaling networks that spandrel builds, used in the same way as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nodegraph_diffusion.checkpoint.detect.extra_networks.other_upscaler import OtherUpscalerFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.upscaler import PREFIXES
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile

if TYPE_CHECKING:
    from types import ModuleType

_EXPECTED = "an upscaling network that spandrel knows"
_OTHER = "Give another file."


class OtherUpscaler(nn.Module):
    """Enlarges pictures `scale` times with a network of spandrel, which crops and pads as the network needs it."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.network: nn.Module = found.model
        self.scale: int = found.scale
        self._found = found

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, scale * H, scale * W), in the dtype of the network."""
        out: Tensor = self._found(pixels.to(next(self.network.parameters())))
        return out


def load_other_upscaler(file: OtherUpscalerFile, device: torch.device | str, dtype: torch.dtype) -> OtherUpscaler:
    """The network, in evaluation mode, without gradients; in float32 if it does not work in `dtype`.

    Raises CheckpointError if spandrel does not know it or cannot be imported, or if the network does something else.
    """
    spandrel = _library(file)
    with MappedFile(file.path) as mapped:
        names = mapped.header.tensors
        prefix = next((prefix for prefix in PREFIXES[1:] if any(name.startswith(prefix) for name in names)), "")
        state = {name.removeprefix(prefix): mapped.tensor(name).clone() for name in names if name.startswith(prefix)}
    try:
        found = spandrel.ModelLoader().load_from_state_dict(state)
    except spandrel.UnsupportedModelError:
        raise CheckpointError(file.path, expected=_EXPECTED, found="another kind of file", hint=_OTHER) from None
    except (KeyError, ValueError, RuntimeError, AttributeError, TypeError, AssertionError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(file.path, expected=_EXPECTED, found=f"a damaged one ({problem})", hint=_OTHER) from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        name = f"a network of the kind {found.architecture.name}, which does something else"
        raise CheckpointError(file.path, expected="a network that enlarges pictures in colour", found=name, hint=_OTHER)
    halves = {torch.float16: found.supports_half, torch.bfloat16: found.supports_bfloat16}
    network = OtherUpscaler(found).to(device, dtype if halves.get(dtype, True) else torch.float32)
    return network.requires_grad_(False).eval()


def _library(file: OtherUpscalerFile) -> ModuleType:
    try:
        import spandrel
    except (ImportError, RuntimeError, OSError) as error:  # torchvision's wheel for another torch raises RuntimeError
        problem = str(error).splitlines()[0]
        raise CheckpointError(
            file.path,
            expected="spandrel, which reads this kind of network",
            found=f"one that cannot be imported ({problem})",
            hint=f"Its torchvision must be made for your torch {torch.__version__}: install both from the same place.",
        ) from error
    module: ModuleType = spandrel
    return module
