"""Weights that nodes trained, opened like files.

Networks, LoRAs and vectors are read from files, which are mapped into memory. So the tensors of a trained value are written to a
file of this process, once for each content; the folder is removed when the process ends.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nodegraph.plugin_api import FileState, replacing
from nodegraph_diffusion.checkpoint import ControlNetFile, EmbeddingFile, LoraFile, TextPart, UNetPart, VAEPart, describe
from nodegraph_diffusion.checkpoint.detect.model import Weights
from nodegraph_diffusion.networks.config import CLIPTextConfig, LatentSpace, UNetConfig, VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_nodes.model_files import OpenedFile, OpenedPart, Patch
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.trained.codec import TrainedCodec
from nodegraph_nodes.types import (
    VAE,
    AnyControlNet,
    AnyTextEncoder,
    AnyUNet,
    AnyVAE,
    ControlNetModel,
    TextEncoder,
    Trained,
    TrainedEmbedding,
    TrainedLora,
    UNetModel,
)

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint.families import Part

C = TypeVar("C", UNetConfig, VAEConfig, CLIPTextConfig)

_REASON = "trained by a node"


def opened_unet(unet: AnyUNet) -> UNetModel:
    """The UNet, opened."""
    if isinstance(unet, UNetModel):
        return unet
    file, settings = _file(unet), unet.settings
    part = UNetPart(
        path=file.path,
        kind=settings["kind"],
        config=network_config(UNetConfig, settings),
        weights=_weights("unet", file.path),
        noise_schedule=NoiseSchedule(**settings["noise_schedule"]),
        latent=LatentSpace(*settings["latent"]),
        files=(file.path,),
        reason=_REASON,
    )
    return UNetModel(OpenedPart(part, (file,)))


def opened_vae(vae: AnyVAE) -> VAE:
    """The autoencoder, opened."""
    if isinstance(vae, VAE):
        return vae
    file, config = _file(vae), network_config(VAEConfig, vae.settings)
    part = VAEPart(
        path=file.path,
        config=config,
        weights=_weights("vae", file.path),
        files=(file.path,),
        reason=_REASON,
        trained_size=vae.settings["size"],
    )
    return VAE(OpenedPart(part, (file,)))


def opened_text_encoder(text_encoder: AnyTextEncoder) -> TextEncoder:
    """The text encoder, opened."""
    if isinstance(text_encoder, TextEncoder):
        return text_encoder
    file, settings = _file(text_encoder), text_encoder.settings
    folder = None
    if settings["tokenizer"] is not None:
        folder = file.path.with_suffix("")
        for name, text in settings["tokenizer"].items():
            _write_once(folder / name, text.encode())
    part = TextPart(
        path=file.path,
        config=network_config(CLIPTextConfig, settings),
        weights=_weights("text_encoder", file.path),
        files=(file.path,),
        tokenizer=folder,
    )
    return TextEncoder((OpenedPart(part, (file,)),))


def opened_control_net(control_net: AnyControlNet) -> ControlNetModel:
    """The ControlNet, opened."""
    if isinstance(control_net, ControlNetModel):
        return control_net
    file = _file(control_net)
    settings = control_net.settings
    found = ControlNetFile(
        path=file.path,
        weights=file.path,
        layout="ldm",
        difference=False,
        config=network_config(UNetConfig, settings),
        hint_widths=tuple(settings["hint_widths"]),
    )
    return ControlNetModel(found, (file,))


def lora_patch(lora: TrainedLora, strength: float) -> Patch:
    """The LoRA as a patch of the networks of a model."""
    return Patch(lora=lora_file(lora), files=(_file(lora),), strength=strength)


def lora_file(lora: LoraFile | TrainedLora) -> LoraFile:
    """The file of a LoRA."""
    if isinstance(lora, LoraFile):
        return lora
    with file_errors():
        return describe(_file(lora).path).lora()


def embedding_file(embedding: EmbeddingFile | TrainedEmbedding) -> EmbeddingFile:
    """The file of the vectors of a word."""
    if isinstance(embedding, EmbeddingFile):
        return embedding
    with file_errors():
        return describe(_file(embedding).path).embedding()


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="nodegraph-trained-")


def _file(trained: Trained) -> OpenedFile:
    """A file with the tensors of a value."""
    codec = TrainedCodec(type(trained))
    digest = codec.digest(trained)
    path = Path(_folder().name) / f"{digest[:32]}{codec.suffix}"
    if not path.exists():
        with replacing(path) as temporary:
            codec.save(trained, temporary)
    return OpenedFile(path, digest, FileState.of(path))


def _write_once(path: Path, data: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(data)


def _weights(part: Part, path: Path) -> Weights:
    return Weights(part, "ldm", (path,))


def network_config(kind: type[C], settings: Mapping[str, Any]) -> C:
    """The sizes of a network, from the settings of a trained value."""
    return kind(**{name: _without_lists(value) for name, value in settings["config"].items()})


def _without_lists(value: Any) -> Any:
    return tuple(map(_without_lists, value)) if isinstance(value, list | tuple) else value
