"""Networks in files that training nodes wrote: their sizes, and what they were trained with, are in the header."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from nodegraph_diffusion.checkpoint.detect.model import UNetPart, VAEPart, Weights
from nodegraph_diffusion.checkpoint.errors import DOWNLOAD_AGAIN, CheckpointError
from nodegraph_diffusion.checkpoint.families import Part
from nodegraph_diffusion.checkpoint.files.header import Header
from nodegraph_diffusion.networks.config import CLIPTextConfig, CLIPVisionConfig, LatentSpace, UNetConfig, VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule

C = TypeVar("C", UNetConfig, VAEConfig, CLIPTextConfig, CLIPVisionConfig)
P = TypeVar("P", UNetPart, VAEPart)

REASON: Final = "trained by a node"


def network_config(kind: type[C], settings: Mapping[str, Any]) -> C:
    """The sizes of a network, from the settings of a trained value. Raises KeyError, TypeError and ValueError."""
    return kind(**{name: _without_lists(value) for name, value in settings["config"].items()})


def trained_unet(header: Header) -> UNetPart | None:
    """The UNet in a file that a training node wrote; None for other files. Raises CheckpointError if its settings are damaged."""

    def read(settings: Mapping[str, Any]) -> UNetPart:
        return UNetPart(
            path=header.path,
            kind=settings["kind"],
            config=network_config(UNetConfig, settings),
            weights=_weights("unet", header),
            noise_schedule=NoiseSchedule(**settings["noise_schedule"]),
            latent=LatentSpace(*settings["latent"]),
            files=(header.path,),
            reason=REASON,
        )

    return _read(header, "noise_schedule", read)


def trained_vae(header: Header) -> VAEPart | None:
    """The autoencoder in a file that a training node wrote; None for other files. Raises CheckpointError as `trained_unet` does."""

    def read(settings: Mapping[str, Any]) -> VAEPart:
        return VAEPart(
            path=header.path,
            config=network_config(VAEConfig, settings),
            weights=_weights("vae", header),
            files=(header.path,),
            reason=REASON,
            trained_size=int(settings["size"]),
        )

    return _read(header, "size", read)


def _read(header: Header, mark: str, read: Callable[[Mapping[str, Any]], P]) -> P | None:
    text = header.metadata.get("fields")
    if text is None:
        return None
    try:
        settings = json.loads(text)["settings"]
        return read(settings) if mark in settings else None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            header.path,
            expected="the settings of a network that a node trained",
            found=f"damaged ones ({type(error).__name__}: {error})",
            hint=DOWNLOAD_AGAIN,
        ) from error


def _weights(part: Part, header: Header) -> Weights:
    return Weights(part, "ldm", (header.path,))


def _without_lists(value: Any) -> Any:
    return tuple(map(_without_lists, value)) if isinstance(value, list | tuple) else value
