"""A classifier of noisy latents, for guidance by a classifier."""

from __future__ import annotations

from torch import Tensor, nn

from nodegraph_diffusion.networks.config import UNetConfig
from nodegraph_diffusion.networks.unet import UNetEncoder


class NoisyClassifier(UNetEncoder):
    """The encoder of a UNet with a linear layer on the mean of its last map (Dhariwal & Nichol 2021, sec. 4, without attention).

    Raises ValueError if the config has transformers, which would need a prompt.
    """

    def __init__(self, config: UNetConfig, classes: int) -> None:
        if any(config.transformer_depth) or config.middle_depth:
            raise ValueError(
                f"classifier: expected transformer_depth of zeros and middle_depth 0, found {config.transformer_depth} and "
                f"{config.middle_depth}; a classifier receives no prompt"
            )
        super().__init__(config)
        channels = self.skips[-1]
        self.out = nn.Sequential(nn.GroupNorm(config.norm_groups, channels, eps=1e-5), nn.SiLU(), nn.Linear(channels, classes))

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """A noisy latent (B, in_channels, h, w) of unit variance and its timesteps (B,) -> logits (B, classes)."""
        embedding = self.embed(timesteps, None, x.dtype)
        for block in self.input_blocks:
            x = block(x, embedding, iter(()))
        x = self.middle_block(x, embedding, iter(()))
        norm, activation, linear = self.out
        out: Tensor = linear(activation(norm(x)).mean((2, 3)))
        return out
