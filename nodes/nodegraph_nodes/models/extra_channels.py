"""The channels that inpainting and InstructPix2Pix UNets receive in addition to the latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from nodegraph_nodes.types import UNetModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from nodegraph_diffusion.checkpoint import UNetPart

Kind = Literal["inpaint", "pix2pix"]

_COUNTS: Final[Mapping[Kind, int]] = {"inpaint": 5, "pix2pix": 4}
_PURPOSES: Final[Mapping[Kind, str]] = {"inpaint": "inpainting", "pix2pix": "changing pictures by instructions"}
_GREY: Final = (0.8223, -0.6876, 0.6364, 0.1380)  # a latent cell of a grey picture: what inpainting UNets see without a picture


def extra_channels(unet: UNetModel) -> dict[str, Tensor | None]:
    """The channels that the UNet receives in addition to the latent, (B, C, h, w), as arguments of a `UNetDenoiser`.

    If no node gave it a picture, they stand for "no picture" and are the same in every cell: (1, C, 1, 1). For an inpainting UNet
    these are `no_picture`, since it sees what a run repaints.
    """
    import torch

    kind, beside = _kind(unet.part), unet.part.config.beside
    if unet.concat is not None:
        return {"concat": unet.concat.values}
    if beside is not None:
        raise ValueError(
            f"unet: expected a UNet that was given a {beside}, which it sees beside the latent, found one without; "
            f"give it one with {'ApplyMap' if beside == 'map' else 'ApplySmallPicture'}"
        )
    if kind == "inpaint":
        return {"no_picture": torch.tensor([1.0, *_GREY])[None, :, None, None]}
    return {"concat": None if kind is None else torch.zeros(1, 4, 1, 1)}


def require_kind(unet: UNetPart, kind: Kind) -> None:
    """Raise ValueError if the UNet does not have input channels of this kind."""
    if _kind(unet) != kind:
        config = unet.config
        expected = _COUNTS[kind] + config.out_channels
        raise ValueError(
            f"unet: expected a network with {expected} input channels, as one for {_PURPOSES[kind]} has, "
            f"found one with {config.in_channels}. Load a model that was trained for it"
        )


def _kind(unet: UNetPart) -> Kind | None:
    config = unet.config
    if config.beside is not None:
        return None
    extra = config.in_channels - config.out_channels
    return next((kind for kind, count in _COUNTS.items() if count == extra), None)
