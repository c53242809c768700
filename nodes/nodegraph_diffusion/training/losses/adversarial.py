"""Training against a discriminator, which makes pictures sharp (Esser et al. 2021; Rombach et al. 2022, sec. 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MOST_WEIGHT = 1e4
_LEAST_NORM = 1e-6  # delta in eq. 7


class PatchDiscriminator(nn.Module):
    """One logit for each patch of a picture (Isola et al. 2017, sec. 3.2.2): (B, in_channels, H, W) -> (B, 1, h, w).

    With the default three `layers`, a patch is 70x70 pixels. The weights begin as there: mean 0, deviation 0.02.
    """

    def __init__(self, in_channels: int = 3, *, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = channels
        for layer in range(1, layers + 1):
            wider = channels * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            blocks += [nn.Conv2d(width, wider, 4, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
            width = wider
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(width, 1, 4, stride=1, padding=1))
        self.apply(_initialise)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, in_channels, H, W) in [-1, 1] -> (B, 1, h, w)."""
        logits: Tensor = self.blocks(pixels)
        return logits


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss from its logits of real and of generated pictures (Lim & Ye 2017, "Geometric GAN", eq. 13)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """The generator's loss from the discriminator's logits of its pictures (ibid., eq. 14)."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """The weight that gives both losses gradients of the same size at the decoder's last layer (Esser et al. 2021, eq. 7).

    A scalar without gradient, at most 10,000. `last_layer` is that layer's weight.
    """
    wanted, found = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial))
    weight: Tensor = (wanted / (found + _LEAST_NORM)).clamp(0, _MOST_WEIGHT)
    return weight.detach()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
