"""Models that nodes trained. Each is of the type of a model that was opened from files, so every node that takes one takes it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from nodegraph_diffusion.checkpoint import ControlNetFile, TextPart, UNetPart, VAEPart
from nodegraph_diffusion.checkpoint.detect.model import Weights
from nodegraph_diffusion.checkpoint.detect.trained import REASON, network_config
from nodegraph_diffusion.networks.config import CLIPTextConfig, LatentSpace, UNetConfig, VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_nodes.model_files import OpenedFile, OpenedPart
from nodegraph_nodes.trained.codec import TrainedCodec
from nodegraph_nodes.trained.files import file_of, write_once
from nodegraph_nodes.types import VAE, ControlNetModel, TextEncoder, Trained, TrainedEmbedding, TrainedLora, UNetModel

if TYPE_CHECKING:
    from nodegraph.plugin_api import Codec
    from nodegraph_diffusion.checkpoint.families import Part


class _TrainedModel(Trained):
    """Weights that are opened like files when a node needs the model.

    `dataclasses.replace` makes an opened model of it, of the class `opened_as`: one with a patch, for example, is not stored.
    """

    opened_as: ClassVar[type]

    def __new__(cls, *weights: Any, **values: Any) -> Self:
        if weights or "tensors" in values:
            return object.__new__(cls)
        opened: Self = cls.opened_as(**values)
        return opened

    @cached_property
    def _file(self) -> OpenedFile:
        return file_of(self)


class TrainedUNet(_TrainedModel, UNetModel):
    """A UNet, with the names of our networks."""

    opened_as = UNetModel

    @cached_property
    def opened(self) -> OpenedPart[UNetPart]:
        """The UNet as a part of a model."""
        file, settings = self._file, self.settings
        part = UNetPart(
            path=file.path,
            kind=settings["kind"],
            config=network_config(UNetConfig, settings),
            weights=_weights("unet", file.path),
            noise_schedule=NoiseSchedule(**settings["noise_schedule"]),
            latent=LatentSpace(*settings["latent"]),
            files=(file.path,),
            reason=REASON,
        )
        return OpenedPart(part, (file,))


class TrainedVAE(_TrainedModel, VAE):
    """An autoencoder, with the names of our networks."""

    opened_as = VAE

    @cached_property
    def opened(self) -> OpenedPart[VAEPart]:
        """The autoencoder as a part of a model."""
        file = self._file
        part = VAEPart(
            path=file.path,
            config=network_config(VAEConfig, self.settings),
            weights=_weights("vae", file.path),
            files=(file.path,),
            reason=REASON,
            trained_size=self.settings["size"],
        )
        return OpenedPart(part, (file,))


class TrainedTextEncoder(_TrainedModel, TextEncoder):
    """A text encoder with its vocabulary."""

    opened_as = TextEncoder
    embeddings: Mapping[str, Any] = {}

    @cached_property
    def opened(self) -> tuple[OpenedPart[TextPart], ...]:
        """The text encoder as the only one of a model."""
        file, settings, folder = self._file, self.settings, None
        if settings["tokenizer"] is not None:
            folder = file.path.with_suffix("")
            for name, text in settings["tokenizer"].items():
                write_once(folder / name, text.encode())
        part = TextPart(
            path=file.path,
            config=network_config(CLIPTextConfig, settings),
            weights=_weights("text_encoder", file.path),
            files=(file.path,),
            tokenizer=folder,
        )
        return (OpenedPart(part, (file,)),)


class TrainedControlNet(_TrainedModel, ControlNetModel):
    """A ControlNet."""

    opened_as = ControlNetModel

    @cached_property
    def file(self) -> ControlNetFile:
        """The ControlNet as a file."""
        return ControlNetFile(
            path=self._file.path,
            weights=self._file.path,
            layout="ldm",
            difference=False,
            config=network_config(UNetConfig, self.settings),
            hint_widths=tuple(self.settings["hint_widths"]),
        )

    @cached_property
    def files(self) -> tuple[OpenedFile, ...]:
        """Its only file."""
        return (self._file,)


TRAINED_CODECS: Final[Mapping[type, Codec]] = {
    kind: TrainedCodec(kind)
    for kind in (TrainedUNet, TrainedVAE, TrainedTextEncoder, TrainedControlNet, TrainedLora, TrainedEmbedding)
}


def _weights(part: Part, path: Path) -> Weights:
    return Weights(part, "ldm", (path,))
