"""`describe`: one call finds out everything about a file or folder, from names, headers and configs, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_contents, folder_contents, header_contents
from nodegraph_diffusion.checkpoint.detect.controlnet import ControlNetFile, file_controlnet, folder_controlnet
from nodegraph_diffusion.checkpoint.detect.embedding import EmbeddingFile, file_embedding
from nodegraph_diffusion.checkpoint.detect.extra_networks.gligen import GligenFile, file_gligen
from nodegraph_diffusion.checkpoint.detect.extra_networks.image_encoder import (
    ImageEncoderFile,
    file_image_encoder,
    folder_image_encoder,
)
from nodegraph_diffusion.checkpoint.detect.extra_networks.other_upscaler import OtherUpscalerFile
from nodegraph_diffusion.checkpoint.detect.extra_networks.t2i_adapter import T2IAdapterFile, file_t2i_adapter, folder_t2i_adapter
from nodegraph_diffusion.checkpoint.detect.extra_networks.taesd import Half, TAESDFile, file_taesd, folder_taesd
from nodegraph_diffusion.checkpoint.detect.extra_networks.upscaler import UpscalerFile, file_upscaler
from nodegraph_diffusion.checkpoint.detect.lora import LoraFile, file_lora, folder_lora
from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, TextEncoders, UNetPart, VAEPart
from nodegraph_diffusion.checkpoint.detect.sources import checked, checked_controlnet
from nodegraph_diffusion.checkpoint.detect.text_encoders import TextSource, read_text_encoders
from nodegraph_diffusion.checkpoint.errors import CHECK_PATH, CheckpointError, Content, ExtraContent
from nodegraph_diffusion.checkpoint.families import NAMES, TEXT_PARTS, Kind, Part
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache

ExtraNetwork = UpscalerFile | OtherUpscalerFile | ImageEncoderFile | T2IAdapterFile | GligenFile
ExtraNetworks = Mapping[ExtraContent, ExtraNetwork | CheckpointError]

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Description:
    """What a file or folder holds. Everything was read when it was made: nothing here opens a file.

    `content` is what it is, None if that is unknown or not supported. Each other field describes something that can be loaded
    from it, or is the error that says why it cannot. The methods return the description, or raise the error, a CheckpointError
    that names what was found instead.
    """

    path: Path
    content: Content | None
    models: Mapping[Kind, Checkpoint] | CheckpointError
    unet_or_error: UNetPart | CheckpointError
    vae_or_error: VAEPart | CheckpointError
    text_sources: tuple[TextSource, ...] | CheckpointError
    lora_or_error: LoraFile | CheckpointError
    controlnet_or_error: ControlNetFile | CheckpointError
    embedding_or_error: EmbeddingFile | CheckpointError
    taesd_or_error: Mapping[Half, TAESDFile | CheckpointError]
    extra_networks: ExtraNetworks
    headers: HeaderCache = field(repr=False)

    def __repr__(self) -> str:
        return f"<Description of {self.path}: {self.content or 'unknown'}>"

    def model(self, kind: Kind | None = None) -> Checkpoint:
        """The whole model, read as one of family `kind`. Raises CheckpointError if it does not have the parts of one."""
        models = _value(self.models)
        model = next(iter(models.values()))
        if kind is None or kind in models:
            return model if kind is None else models[kind]
        needed = {
            "sdxl": "two text encoders, and a UNet that receives sizes",
            "sdxl-refiner": "one text encoder with a projection, and a UNet that receives sizes",
        }
        raise CheckpointError(
            self.path,
            expected=f"a {NAMES[kind]} model ({needed.get(kind, 'one text encoder, and a UNet that receives no sizes')})",
            found=f"{NAMES[model.kind]}, {model.text.reason}",
            hint=f"Leave out 'kind: {kind}', or give another model.",
        )

    def unet(self) -> UNetPart:
        """The UNet, of a whole model or by itself."""
        return _value(self.unet_or_error)

    def vae(self) -> VAEPart:
        """The autoencoder, of a whole model or by itself."""
        return _value(self.vae_or_error)

    def text_encoders(self, kind: Kind | None = None, part: Part | None = None) -> TextEncoders:
        """The text encoders, of a whole model or by themselves, read as those of family `kind`, or as only this part of them."""
        found = read_text_encoders(self.path, _value(self.text_sources), kind, part)
        return replace(found, parts=tuple(checked(text, self.headers) for text in found.parts))

    def model_or_part(self) -> Checkpoint | UNetPart | VAEPart | TextEncoders:
        """The whole model, or its part if that is all that is there."""
        if self.content == "unet":
            return self.unet()
        if self.content == "vae":
            return self.vae()
        return self.text_encoders() if self.content == "text_encoder" else self.model()

    def lora(self) -> LoraFile:
        """The LoRA, LoHa, LoKr or DoRA."""
        return _value(self.lora_or_error)

    def controlnet(self) -> ControlNetFile:
        """The ControlNet."""
        return _value(self.controlnet_or_error)

    def embedding(self) -> EmbeddingFile:
        """The textual inversion."""
        return _value(self.embedding_or_error)

    def extra_network(self, content: ExtraContent) -> ExtraNetwork:
        """A network beside those of a model."""
        return cast(ExtraNetwork, _value(self.extra_networks[content]))

    def upscaler(self) -> UpscalerFile | OtherUpscalerFile:
        """The upscaling network."""
        return cast("UpscalerFile | OtherUpscalerFile", _value(self.extra_networks["upscaler"]))

    def image_encoder(self) -> ImageEncoderFile:
        """CLIP's image encoder."""
        return cast(ImageEncoderFile, _value(self.extra_networks["image_encoder"]))

    def t2i_adapter(self) -> T2IAdapterFile:
        """The T2I-Adapter."""
        return cast(T2IAdapterFile, _value(self.extra_networks["t2i_adapter"]))

    def gligen(self) -> GligenFile:
        """GLIGEN's layers."""
        return cast(GligenFile, _value(self.extra_networks["gligen"]))

    def taesd(self, half: Half = "decoder") -> TAESDFile:
        """Half of a TAESD."""
        return _value(self.taesd_or_error[half])


def describe(path: str | Path) -> Description:
    """The description of the file or folder at `path`. Reads headers and configs only, each once.

    Name, shape and dtype of every tensor of what can be loaded are checked. Raises CheckpointError if there is nothing, or if a
    file is damaged or in an unknown format.
    """
    path = Path(path)
    if not os.path.lexists(path):  # unlike Path's methods, it does not raise for impossible paths
        raise CheckpointError(path, expected="a .safetensors file or a diffusers folder", found="nothing", hint=CHECK_PATH)
    return _describe_folder(path, HeaderCache()) if path.is_dir() else _describe_file(path, HeaderCache())


def pair_text_encoders(first: Description, second: Description) -> TextEncoders:
    """Stable Diffusion XL's two text encoders, each from its own file or folder. Raises CheckpointError if they are swapped."""
    pairs = zip((first, second), TEXT_PARTS, strict=True)
    parts = [text for found, part in pairs for text in found.text_encoders("sdxl", part).parts]
    widths = [text.config.width for text in parts]
    if widths[0] >= widths[1]:
        raise CheckpointError(
            first.path,
            expected="the narrower of Stable Diffusion XL's text encoders, CLIP-L, as its first",
            found=f"one of width {widths[0]}, beside one of {widths[1]}",
            hint="Swap text_encoder and text_encoder_2, or give those of this family.",
        )
    return TextEncoders(first.path, "sdxl", tuple(parts), "because there are two")


def _describe_file(path: Path, headers: HeaderCache) -> Description:
    from nodegraph_diffusion.checkpoint.detect.single_file import file_models, file_text_sources, file_unet, file_vae

    header = headers.read(path)
    contents = header_contents(header)
    models = _attempt(lambda: file_models(header, contents, headers))
    if contents.is_whole_model:
        unet, vae = _part(models, lambda model: model.unet), _part(models, lambda model: model.vae)
    else:
        unet = _attempt(lambda: file_unet(header, contents, headers))
        vae = _attempt(lambda: file_vae(header, contents))
    unet, vae = _attempt(lambda: checked(_value(unet), headers)), _attempt(lambda: checked(_value(vae), headers))
    lora = _attempt(lambda: file_lora(header, contents))
    controlnet = _attempt(lambda: checked_controlnet(file_controlnet(header, contents), headers))
    embedding = _attempt(lambda: file_embedding(header, contents))
    return Description(
        path=path,
        content=_content(contents, {"lora": lora, "controlnet": controlnet, "embedding": embedding}),
        models=_attempt(lambda: _checked_models(_value(models), _value(unet), vae=_value(vae), headers=headers)),
        unet_or_error=unet,
        vae_or_error=vae,
        text_sources=_attempt(lambda: file_text_sources(header, contents)),
        lora_or_error=lora,
        controlnet_or_error=controlnet,
        embedding_or_error=embedding,
        taesd_or_error={
            "encoder": _attempt(lambda: file_taesd(header, "encoder")),
            "decoder": _attempt(lambda: file_taesd(header, "decoder")),
        },
        extra_networks=_extra_networks(header, contents),
        headers=headers,
    )


def _describe_folder(path: Path, headers: HeaderCache) -> Description:
    from nodegraph_diffusion.checkpoint.detect.folder import (
        folder_models,
        folder_text_sources,
        folder_unet,
        folder_vae,
        require_parts,
    )

    contents = _attempt(lambda: folder_contents(path))
    unet = _attempt(lambda: checked(folder_unet(path, headers), headers))
    vae = _attempt(lambda: checked(folder_vae(path, headers), headers))
    text_sources = _attempt(lambda: folder_text_sources(path, headers))
    lora = _attempt(lambda: folder_lora(path, headers))
    controlnet = _attempt(lambda: checked_controlnet(folder_controlnet(path, headers), headers))

    def models() -> Mapping[Kind, Checkpoint]:
        require_parts(path)
        models = folder_models(path, _value(unet), _value(vae), _value(text_sources))
        return _checked_models(models, _value(unet), vae=_value(vae), headers=headers)

    return Description(
        path=path,
        content=None if isinstance(contents, CheckpointError) else _content(contents, {"lora": lora, "controlnet": controlnet}),
        models=_attempt(models),
        unet_or_error=unet,
        vae_or_error=vae,
        text_sources=text_sources,
        lora_or_error=lora,
        controlnet_or_error=controlnet,
        embedding_or_error=_attempt(lambda: file_embedding(headers.read(path), file_contents(()))),
        taesd_or_error={
            "encoder": _attempt(lambda: folder_taesd(path, "encoder", headers)),
            "decoder": _attempt(lambda: folder_taesd(path, "decoder", headers)),
        },
        extra_networks={
            "upscaler": _attempt(lambda: file_upscaler(headers.read(path), file_contents(()))),
            "image_encoder": _attempt(lambda: folder_image_encoder(path, headers)),
            "t2i_adapter": _attempt(lambda: folder_t2i_adapter(path, headers)),
            "gligen": _attempt(lambda: file_gligen(headers.read(path), file_contents(()))),
        },
        headers=headers,
    )


def _extra_networks(header: Header, contents: Contents) -> ExtraNetworks:
    """The networks beside those of a model that a file may hold."""
    return {
        "upscaler": _attempt(lambda: file_upscaler(header, contents)),
        "image_encoder": _attempt(lambda: file_image_encoder(header, contents)),
        "t2i_adapter": _attempt(lambda: file_t2i_adapter(header, contents)),
        "gligen": _attempt(lambda: file_gligen(header, contents)),
    }


def _checked_models(
    models: Mapping[Kind, Checkpoint], unet: UNetPart, *, vae: VAEPart, headers: HeaderCache
) -> Mapping[Kind, Checkpoint]:
    """The models, of whose parts `unet` and `vae` are checked, with the notes of all. Raises CheckpointError as `checked` does.

    The parts have the same tensors in each family that the model can be read as.
    """
    model = next(iter(models.values()))
    texts = [checked(text, headers) for text in model.text.parts]
    text_notes = [note for text in texts for note in text.notes]
    notes = tuple(dict.fromkeys([*model.notes, *unet.notes, *vae.notes, *text_notes]))
    return {kind: replace(read, notes=notes) for kind, read in models.items()} if notes else models


def _content(contents: Contents, adapters: Mapping[Content, object]) -> Content | None:
    """What a file or folder is; if its names do not show it, the first adapter that can be loaded from it."""
    if contents.name is not None:
        return contents.content
    return next((content for content, found in adapters.items() if not isinstance(found, CheckpointError)), None)


def _attempt(read: Callable[[], T]) -> T | CheckpointError:
    """The result, or the error; without its traceback, which would keep the headers in memory."""
    try:
        return read()
    except CheckpointError as error:
        return error.with_traceback(None)


def _value(result: T | CheckpointError) -> T:
    if isinstance(result, CheckpointError):
        raise result
    return result


def _part(models: Mapping[Kind, Checkpoint] | CheckpointError, pick: Callable[[Checkpoint], T]) -> T | CheckpointError:
    """A part of a whole model; if the model is broken, so are its parts."""
    return models if isinstance(models, CheckpointError) else pick(next(iter(models.values())))
