"""The port types of the pack. No torch behind them until a value is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, Protocol, Self, TypeVar

from nodegraph_diffusion.checkpoint import TextEncoders, TextPart, UNetPart, VAEPart
from nodegraph_nodes.models.errors import refusal
from nodegraph_nodes.models.part_files import FileState, P, PartFiles

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodegraph import Run
    from nodegraph_diffusion.adapters.lora.file import LoraFile
    from nodegraph_diffusion.checkpoint.detect.control import ControlFile
    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.denoising import Denoiser as DenoiserFunction
    from nodegraph_diffusion.denoising.unet_denoiser import Control as ControlFunction
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.networks.config import LatentSpace
    from nodegraph_diffusion.networks.controlnet import ControlNet
    from nodegraph_diffusion.networks.unet import UNet
    from nodegraph_diffusion.networks.vae import AutoencoderKL
    from nodegraph_diffusion.text.encode import Reader
    from nodegraph_diffusion.text.tokenizer import Tokenizer

N = TypeVar("N", "UNet", "CLIPTextModel")


@dataclass(frozen=True, eq=False)
class Image:
    """Pictures: `pixels` (B, H, W, 3), float32 in [0, 1]."""

    pixels: Tensor


@dataclass(frozen=True, eq=False)
class Mask:
    """What is to be repainted: `values` (B, H, W), float32 in [0, 1]; 1, white, is repainted."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Latent:
    """Encoded pictures: `samples` (B, C, h, w), float32, scaled as the UNet sees them.

    `size` is the height and width of the pictures in pixels: decoding crops to it what encoding padded.
    """

    samples: Tensor
    size: tuple[int, int]

    @property
    def padding(self) -> tuple[int, int]:
        """The rows and columns of pixels that the latent covers beyond `size`.

        An autoencoder's factor is a power of two: the least one with which the latent covers the pictures.
        """
        cells = self.samples.shape[-2:]
        factor = 1 << max(0, *(math.ceil(math.log2(side / count)) for side, count in zip(self.size, cells, strict=True)))
        return cells[0] * factor - self.size[0], cells[1] * factor - self.size[1]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Encoded prompts, mixed where there are several: their tensors are float32 on the CPU."""

    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise to start from: `values` (B, C, h, w), float32 on the CPU; `seed` is what it was drawn from."""

    values: Tensor
    seed: int


@dataclass(frozen=True, eq=False)
class Sigmas:
    """Noise levels to walk along: `values` (steps + 1,), float32 on the CPU; they decrease unless they were turned round."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A function of (x, sigma) that returns the denoised x, both (B, C, h, w), with the noise levels that it knows.

    `latent` is the space that it denoises in: previews go by it.
    """

    function: DenoiserFunction
    latent: LatentSpace | None = None


@dataclass(frozen=True, eq=False)
class ModelPart(Generic[P]):
    """A part of a model; its network is loaded when a node first asks for it, and kept by the run."""

    files: PartFiles[P]

    @classmethod
    def of(cls, part: P) -> Self:
        """The files as they are now. Raises OSError where one is gone."""
        return cls(PartFiles.of(part))

    @property
    def part(self) -> P:
        return self.files.part


@dataclass(frozen=True)
class Patch:
    """Changes of weights, at a path, with their files in the state in which they were opened, and how much they count."""

    path: Path
    state: tuple[FileState, ...]
    strength: float

    @classmethod
    def of(cls, file: LoraFile, strength: float) -> Patch:
        """The files as they are now. Raises OSError where one is gone."""
        return cls(file.path, tuple(map(FileState.of, file.files)), strength)

    def opened(self) -> LoraFile:
        """What the files hold. Raises ValueError where they were changed since, or are no adapter any more."""
        from nodegraph_diffusion.adapters.lora.file import read_lora
        from nodegraph_diffusion.checkpoint import CheckpointError

        try:
            file = read_lora(self.path)
            if Patch.of(file, self.strength) == self:
                return file
        except (CheckpointError, OSError):
            pass
        raise ValueError(f"the file {self.path} was changed during the run. Run again")


def patched(run: Run, files: PartFiles[P], dtype: torch.dtype, patches: Sequence[Patch], load: Callable[[], N]) -> N:
    """The network that `load()` gives with the patches on it, both kept by the run. Raises ValueError as `resident` does."""
    base = files.resident(run, "network", dtype, load)
    if not patches:
        return base
    from nodegraph_diffusion.adapters.lora.patch import patched

    opened = [(patch.opened(), patch.strength) for patch in patches]
    return files.resident(run, ("patched", *patches), dtype, lambda: patched(base, files.part.weights.part, opened))


class Control(Protocol):
    """What guides a UNet besides its prompts; its network is loaded when a node first denoises with it."""

    def load(self, run: Run) -> ControlFunction:
        """On the run's device. Raises ValueError where the files do not hold it."""
        ...


@dataclass(frozen=True, eq=False)
class Concat:
    """Channels that a UNet of its `kind` sees beside the latent: `values` (B, C, h, w), float32, as it sees them."""

    values: Tensor
    kind: Literal["inpaint", "pix2pix"]


@dataclass(frozen=True, eq=False)
class UNetModel(ModelPart[UNetPart]):
    """A model's denoising network, with what adapter nodes added to it."""

    patches: tuple[Patch, ...] = ()
    controls: tuple[Control, ...] = ()
    concat: Concat | None = None

    def load(self, run: Run) -> UNet:
        """On the run's device, in its dtype. Raises ValueError where the files do not hold it."""
        import torch

        from nodegraph_diffusion.checkpoint import load_unet

        dtype = torch.float32 if run.dtype == "auto" else getattr(torch, run.dtype)
        return patched(run, self.files, dtype, self.patches, lambda: load_unet(self.part, run.device, dtype))


@dataclass(frozen=True, eq=False)
class ControlNetModel:
    """A ControlNet on disk, in the state in which it was opened; `base` is the UNet that it differs from."""

    file: ControlFile
    state: tuple[FileState, ...]
    base: UNetModel | None = None

    @classmethod
    def of(cls, file: ControlFile, base: UNetModel | None = None) -> ControlNetModel:
        """The files as they are now. Raises OSError where one is gone."""
        return cls(file, tuple(map(FileState.of, file.files)), base)

    def load(self, run: Run) -> ControlNet:
        """On the run's device, in its dtype. Raises ValueError where the files do not hold it, or changed."""
        import torch

        from nodegraph_diffusion.checkpoint import CheckpointError
        from nodegraph_diffusion.checkpoint.detect.control import load_control

        if ControlNetModel.of(self.file, self.base).state != self.state:
            raise ValueError(f"the files of the ControlNet {self.file.path} were changed during the run. Run again")
        dtype = torch.float32 if run.dtype == "auto" else getattr(torch, run.dtype)
        base = None if self.base is None else self.base.load(run)
        key = ("control", self.state, run.device, str(dtype), None if base is None else id(base))
        try:
            return run.resident(key, lambda: load_control(self.file, run.device, dtype, base))
        except CheckpointError as error:
            raise refusal(error) from error


class VAE(ModelPart[VAEPart]):
    """A model's autoencoder."""

    def load(self, run: Run) -> AutoencoderKL:
        """On the run's device, in float32: published autoencoders overflow in float16. Raises ValueError as UNetModel's does."""
        import torch

        from nodegraph_diffusion.checkpoint import load_vae

        dtype = torch.float32
        return self.files.resident(run, "network", dtype, lambda: load_vae(self.part, run.device, dtype))


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A model's text encoders and their tokenizers, with what adapter nodes added to them.

    Each is loaded when a node first asks for it. `embeddings` are what `embedding:NAME` in a prompt stands for, by name: for each
    encoder (n, width), float32, or None where the file has none for it.
    """

    files: tuple[PartFiles[TextPart], ...]
    patches: tuple[Patch, ...] = ()
    embeddings: Mapping[str, tuple[Tensor | None, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: TextEncoders) -> TextEncoder:
        """The files as they are now. Raises OSError where one is gone."""
        return cls(tuple(PartFiles.of(part) for part in texts.parts))

    @property
    def parts(self) -> tuple[TextPart, ...]:
        return tuple(files.part for files in self.files)

    def load(self, run: Run, index: int = 0) -> CLIPTextModel:
        """On the run's device, in float32: it runs once for a prompt. Raises ValueError as UNetModel's does."""
        import torch

        from nodegraph_diffusion.checkpoint import load_text_encoder

        dtype, files = torch.float32, self.files[index]
        return patched(run, files, dtype, self.patches, lambda: load_text_encoder(files.part, run.device, dtype))

    def tokenizer(self, run: Run, index: int = 0) -> Tokenizer:
        """The model's own, or CLIP's. Raises ValueError where its folder holds none."""
        from nodegraph_diffusion.text.tokenizer import load_tokenizer

        files = self.files[index]
        folder = files.part.tokenizer
        pad = 0 if folder is None and files.part.config.activation == "gelu" else None  # OpenCLIP fills up with it
        return files.resident(run, "tokenizer", None, lambda: load_tokenizer(folder, pad))

    def readers(self, run: Run, clip_skip: int | None = None) -> tuple[Reader, ...]:
        """Each encoder with its tokenizer and its embeddings. Raises ValueError where one has no layer `clip_skip`."""
        from nodegraph_diffusion.text.encode import Reader

        layers = min(part.config.layers for part in self.parts)
        if clip_skip is not None and clip_skip > layers:
            raise ValueError(f"clip_skip: expected at most {layers}, the layers of this text encoder, found {clip_skip}")
        readers = []
        for index in range(len(self.files)):
            embeddings = {name: vectors[index] for name, vectors in self.embeddings.items()}
            readers.append(Reader(self.load(run, index), self.tokenizer(run, index), embeddings))
        return tuple(readers)
