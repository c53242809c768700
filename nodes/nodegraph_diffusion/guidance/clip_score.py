"""How well a picture fits a text by CLIP, for guidance by the gradient of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.networks.clip import CLIPVisionModel


class CLIPScore:
    """`scale` times the cosine similarity of decoded pictures and a text, for `GradientGuidance` (Nichol et al. 2021, sec. 2.4).

    `text` is the pooled encoding (1 or B, projection) of the text encoder that was trained with the image encoder, and `scale` the
    factor of their temperature, so that the score is a log-likelihood but for a constant. `decode` makes pixels (B, 3, H, W) in
    about [-1, 1] from latents; they are resized to the encoder's size. The image encoder was trained on clean pictures, so guide
    `through` "network" or "estimate".
    """

    def __init__(self, image: CLIPVisionModel, text: Tensor, decode: Callable[[Tensor], Tensor], *, scale: float = 100.0) -> None:
        self._image, self._text, self._decode, self._scale = image, text, decode, scale

    def __call__(self, latent: Tensor, sigma: float, /) -> Tensor:
        """(B, C, h, w) -> (B,)."""
        import torch.nn.functional as F

        pixels, size = self._decode(latent), self._image.config.size
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        embedding = self._image(pixels).float()
        return self._scale * F.cosine_similarity(embedding, self._text.to(embedding), dim=-1)
