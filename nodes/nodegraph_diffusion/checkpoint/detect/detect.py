"""Finding out what lies at a path, from names, headers and configs alone."""

from __future__ import annotations

from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.folder import detect_folder, folder_texts, folder_unet, folder_vae
from nodegraph_diffusion.checkpoint.detect.ldm import detect_ldm
from nodegraph_diffusion.checkpoint.detect.model import TEXT_PARTS, Checkpoint, Kind, Part, TextEncoders, UNetPart, VAEPart, Weights
from nodegraph_diffusion.checkpoint.detect.parts import file_texts, file_unet, file_vae
from nodegraph_diffusion.checkpoint.errors import CHECK_PATH, CheckpointError
from nodegraph_diffusion.checkpoint.files.header import read_header


def detect(path: str | Path, kind: Kind | None = None) -> Checkpoint:
    """The checkpoint at `path`: a file in the LDM layout or a diffusers folder. `kind` is what it is to be read as.

    Reads headers only, and imports no torch. Raises CheckpointError for anything that is not a whole, undamaged model
    of a supported kind. Names and shapes of all tensors are checked by `verify`, and when a part is loaded.
    """
    path = _there(path)
    if not path.is_dir():
        return detect_ldm(path, read_header(path), kind)
    checkpoint = detect_folder(path, kind)
    _require_whole(checkpoint.unet.weights, checkpoint.vae.weights, *(part.weights for part in checkpoint.text.parts))
    return checkpoint


def detect_unet(path: str | Path) -> UNetPart:
    """The UNet at `path`, alone or in a whole model: a .safetensors file or a diffusers folder. Raises as `detect`."""
    path = _there(path)
    if not path.is_dir():
        return file_unet(path, read_header(path))
    unet = folder_unet(path)
    _require_whole(unet.weights)
    return unet


def detect_vae(path: str | Path) -> VAEPart:
    """The autoencoder at `path`, alone or in a whole model: a .safetensors file or a diffusers folder. Raises as `detect`."""
    path = _there(path)
    if not path.is_dir():
        return file_vae(path, read_header(path))
    vae = folder_vae(path)
    _require_whole(vae.weights)
    return vae


def detect_texts(path: str | Path, kind: Kind | None = None, part: Part | None = None) -> TextEncoders:
    """The text encoders at `path`: alone or those of a whole model, in a .safetensors file or a diffusers folder.

    `kind` is whose they are to be read as; `part` says that only this one of such a model's is meant. Raises as `detect`.
    """
    path = _there(path)
    if not path.is_dir():
        return file_texts(path, read_header(path), kind, part)
    texts = folder_texts(path, kind, part)
    _require_whole(*(part.weights for part in texts.parts))
    return texts


def identify(path: str | Path) -> Checkpoint | UNetPart | VAEPart | TextEncoders:
    """What lies at `path`: a whole model, or a part alone. Raises CheckpointError for anything else, and for broken ones."""
    try:
        return detect(path)
    except CheckpointError as error:
        if error.holds == "unet":
            return detect_unet(path)
        if error.holds == "vae":
            return detect_vae(path)
        if error.holds == "text_encoder":
            return detect_texts(path)
        raise


def paired(first: str | Path, second: str | Path) -> TextEncoders:
    """Stable Diffusion XL's two text encoders, from a file or folder each. Raises as `detect`, and where they are swapped."""
    parts = [
        text for path, part in zip((first, second), TEXT_PARTS, strict=True) for text in detect_texts(path, "sdxl", part).parts
    ]
    widths = [text.config.width for text in parts]
    if widths[0] >= widths[1]:
        raise CheckpointError(
            Path(first),
            expected="the narrower of Stable Diffusion XL's text encoders, CLIP-L, as its first",
            found=f"one of width {widths[0]}, beside one of {widths[1]}",
            hint="Swap text_encoder and text_encoder_2, or give those of this family.",
        )
    return TextEncoders(Path(first), "sdxl", tuple(parts), "as there are two")


def _there(path: str | Path) -> Path:
    """Raises CheckpointError where nothing lies at `path`."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(path, expected="a .safetensors file or a diffusers folder", found="nothing", hint=CHECK_PATH)
    return path


def _require_whole(*parts: Weights) -> None:
    """Raises CheckpointError where a file of weights is damaged."""
    for part in parts:
        for file in part.paths:
            read_header(file)
