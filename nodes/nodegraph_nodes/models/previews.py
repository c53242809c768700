"""Previews of a latent while it is sampled: by a linear map, or through a tiny decoder that the user has on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph.plugin_api import dataclass
from nodegraph_nodes.types import Image

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodegraph_diffusion.checkpoint import TAESDFile
    from nodegraph_diffusion.networks.config import LatentSpace
    from nodegraph_diffusion.networks.taesd import TAESD

LONGEST: Final = 256
"""Cells of a latent are enlarged up to this many pixels a side: writing a PNG takes longer than the linear map."""

_MODELS: Final = {"sd": "Stable Diffusion 1 and 2", "sdxl": "Stable Diffusion XL", "tiny": "builtin:tiny"}


@dataclass(frozen=True, eq=False)
class LatentPreview:
    """A preview of the latents `samples` (B, C, h, w) of the space `latent`; the decoded pictures have `size` (height, width).

    A call returns them side by side as one Image (1, H', W', 3), made by a linear map of each cell.
    """

    samples: Tensor
    latent: LatentSpace | None
    size: tuple[int, int]

    def __call__(self) -> Image:
        from nodegraph_diffusion.denoising.preview import enlarged, linear_map, tiled

        cells = linear_map(self.latent, self.samples.shape[1])(self.samples).cpu()  # (B, h, w, 3)
        factor = max(1, self.size[0] // cells.shape[1])
        scale = min(factor, LONGEST // max(tiled(cells).shape[1:3]))
        return Image(tiled(enlarged(cells, max(1, scale))))


class DecodedPreviews:
    """Previews through a TAESD decoder, which is loaded when the first preview is made."""

    def __init__(self, file: TAESDFile) -> None:
        self.file = file
        self._network: TAESD | None = None

    def __call__(self, preview: Callable[[], Any]) -> Image:
        """The pictures of a latent as one Image, (1, H', W', 3). Raises ValueError if the decoder does not fit the latent."""
        import torch

        from nodegraph_diffusion.denoising.preview import tiled

        if not isinstance(preview, LatentPreview):
            raise self._unusable("Stable Diffusion", "the node offers something else")
        self._require_fit(preview)
        height, width = preview.size
        with torch.no_grad():
            network = self._on(preview.samples.device)
            pictures = [network(latent[None])[:, :, :height, :width].cpu() for latent in preview.samples.float()]  # (1, 3, H, W)
        pixels = (torch.cat(pictures) / 2 + 0.5).nan_to_num().clamp(0, 1)
        return Image(tiled(pixels.movedim(1, -1)))

    def _require_fit(self, preview: LatentPreview) -> None:
        from nodegraph_diffusion.denoising.preview import latent_space

        space = None if preview.latent is None else latent_space(preview.latent)
        channels, expected = preview.samples.shape[1], self.file.config.latent_channels
        if channels != expected:
            raise self._unusable(f"{expected} channels", f"these have {channels}")
        if space not in ("sd", "sdxl") or (self.file.space is not None and self.file.space != space):
            theirs = _MODELS[space] if space else "another autoencoder"
            raise self._unusable(_MODELS[self.file.space] if self.file.space else "Stable Diffusion", f"these are of {theirs}")

    def _unusable(self, expected: str, found: str) -> ValueError:
        return ValueError(f"the preview decoder is not used: {self.file.path} decodes latents of {expected}, and {found}")

    def _on(self, device: torch.device) -> TAESD:
        """The network on the device of the latent."""
        import torch

        from nodegraph_diffusion.checkpoint import load_taesd

        if self._network is None or next(self._network.parameters()).device != device:
            self._network = load_taesd(self.file, device, torch.float32)
        return self._network


def load_preview_decoder(path: Path) -> DecodedPreviews:
    """The TAESD decoder at `path`, a file or a diffusers folder.

    Reads the header only. Raises ValueError if it is not a decoder that can be used.
    """
    from nodegraph_diffusion.checkpoint import CheckpointError, describe

    try:
        return DecodedPreviews(describe(path).taesd())
    except CheckpointError as error:
        raise ValueError(str(error)) from error
