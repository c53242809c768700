"""The port types of the pack. No torch behind them until a value is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodegraph import Run
    from nodegraph_diffusion.checkpoint import Checkpoint
    from nodegraph_diffusion.checkpoint.control import ControlFile
    from nodegraph_diffusion.checkpoint.model import Part
    from nodegraph_diffusion.clip import CLIPTextModel
    from nodegraph_diffusion.conditioning import Prompt
    from nodegraph_diffusion.config import VAEConfig
    from nodegraph_diffusion.controlnet import ControlNet
    from nodegraph_diffusion.denoiser import Control as ControlFunction
    from nodegraph_diffusion.guidance import Denoiser as DenoiserFunction
    from nodegraph_diffusion.lora.file import LoraFile
    from nodegraph_diffusion.prompt import Reader
    from nodegraph_diffusion.tokenizer import Tokenizer
    from nodegraph_diffusion.unet import UNet
    from nodegraph_diffusion.vae import AutoencoderKL

T = TypeVar("T")
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

    `vae` sizes the autoencoder whose latents these are: previews go by it.
    """

    function: DenoiserFunction
    vae: VAEConfig | None = None


class FileState(NamedTuple):
    """A file, and what tells one state of it from another without reading it."""

    file: Path
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: Path) -> FileState:
        """The file as it is now. Raises OSError where it is gone."""
        stat = file.stat()
        return cls(file, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """A checkpoint, and the state in which its files were when it was opened: what is loaded later is of this state."""

    checkpoint: Checkpoint
    state: tuple[FileState, ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ModelFiles:
        """The files as they are now. Raises OSError where one is gone."""
        return cls(checkpoint, tuple(map(FileState.of, checkpoint.files)))

    def resident(self, run: Run, part: Hashable, dtype: torch.dtype | None, load: Callable[[], T]) -> T:
        """What `load()` gives, kept by the run. Raises ValueError where the files are damaged, or others than before."""
        from nodegraph_diffusion.checkpoint import CheckpointError

        def loaded() -> T:
            value = load()
            self._require_unchanged()  # what was changed meanwhile is not kept
            return value

        self._require_unchanged()
        try:
            return run.resident((part, self.state, run.device, str(dtype)), loaded)
        except CheckpointError as error:
            raise ValueError(str(error)) from error

    def _require_unchanged(self) -> None:
        if ModelFiles.of(self.checkpoint).state != self.state:
            raise ValueError(f"the files of the model {self.checkpoint.path} were changed during the run. Run again")


@dataclass(frozen=True, eq=False)
class ModelPart:
    """A part of a checkpoint; it is loaded when a node first asks for it, and kept by the run."""

    files: ModelFiles

    @property
    def checkpoint(self) -> Checkpoint:
        return self.files.checkpoint


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
        from nodegraph_diffusion.checkpoint import CheckpointError
        from nodegraph_diffusion.lora.file import read_lora

        try:
            file = read_lora(self.path)
            if Patch.of(file, self.strength) == self:
                return file
        except (CheckpointError, OSError):
            pass
        raise ValueError(f"the file {self.path} was changed during the run. Run again")


def patched(run: Run, files: ModelFiles, part: Part, dtype: torch.dtype, patches: Sequence[Patch], load: Callable[[], N]) -> N:
    """The network that `load()` gives with the patches on it, both kept by the run. Raises ValueError as `resident` does."""
    base = files.resident(run, part, dtype, load)
    if not patches:
        return base
    from nodegraph_diffusion.lora.patch import patched

    opened = [(patch.opened(), patch.strength) for patch in patches]
    return files.resident(run, (part, *patches), dtype, lambda: patched(base, part, opened))


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
class UNetModel(ModelPart):
    """The denoising network of a checkpoint, with what adapter nodes added to it."""

    patches: tuple[Patch, ...] = ()
    controls: tuple[Control, ...] = ()
    concat: Concat | None = None

    def load(self, run: Run) -> UNet:
        """On the run's device, in its dtype. Raises ValueError where the files do not hold it."""
        import torch

        from nodegraph_diffusion.checkpoint import load_unet

        dtype = torch.float32 if run.dtype == "auto" else getattr(torch, run.dtype)
        return patched(run, self.files, "unet", dtype, self.patches, lambda: load_unet(self.checkpoint, run.device, dtype))


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
        from nodegraph_diffusion.checkpoint.control import load_control

        if ControlNetModel.of(self.file, self.base).state != self.state:
            raise ValueError(f"the files of the ControlNet {self.file.path} were changed during the run. Run again")
        dtype = torch.float32 if run.dtype == "auto" else getattr(torch, run.dtype)
        base = None if self.base is None else self.base.load(run)
        key = ("control", self.state, run.device, str(dtype), None if base is None else id(base))
        try:
            return run.resident(key, lambda: load_control(self.file, run.device, dtype, base))
        except CheckpointError as error:
            raise ValueError(str(error)) from error


class VAE(ModelPart):
    """The autoencoder of a checkpoint."""

    def load(self, run: Run) -> AutoencoderKL:
        """On the run's device, in float32: published autoencoders overflow in float16. Raises ValueError as UNetModel's does."""
        import torch

        from nodegraph_diffusion.checkpoint import load_vae

        dtype = torch.float32
        return self.files.resident(run, "vae", dtype, lambda: load_vae(self.checkpoint, run.device, dtype))


@dataclass(frozen=True, eq=False)
class TextEncoder(ModelPart):
    """The text encoders of a checkpoint, and their tokenizers, with what adapter nodes added to them.

    `embeddings` are what `embedding:NAME` in a prompt stands for, by name: for each encoder (n, width), float32, or None where
    the file has none for it.
    """

    patches: tuple[Patch, ...] = ()
    embeddings: Mapping[str, tuple[Tensor | None, ...]] = field(default_factory=dict)

    def load(self, run: Run, index: int = 0) -> CLIPTextModel:
        """On the run's device, in float32: it runs once for a prompt. Raises ValueError as UNetModel's does."""
        import torch

        from nodegraph_diffusion.checkpoint import load_text_encoder

        dtype = torch.float32
        part = self.checkpoint.text_parts[index]
        return patched(
            run, self.files, part, dtype, self.patches, lambda: load_text_encoder(self.checkpoint, run.device, dtype, index)
        )

    def tokenizer(self, run: Run, index: int = 0) -> Tokenizer:
        """The checkpoint's own, or CLIP's. Raises ValueError where its folder holds none."""
        from nodegraph_diffusion.tokenizer import load_tokenizer

        folder = self.checkpoint.tokenizers[index]
        pad = 0 if folder is None and self.checkpoint.texts[index].activation == "gelu" else None  # OpenCLIP fills up with it
        return self.files.resident(run, f"tokenizer {index}", None, lambda: load_tokenizer(folder, pad))

    def readers(self, run: Run, clip_skip: int | None = None) -> tuple[Reader, ...]:
        """Each encoder with its tokenizer and its embeddings. Raises ValueError where one has no layer `clip_skip`."""
        from nodegraph_diffusion.prompt import Reader

        layers = min(text.layers for text in self.checkpoint.texts)
        if clip_skip is not None and clip_skip > layers:
            raise ValueError(f"clip_skip: expected at most {layers}, the layers of this text encoder, found {clip_skip}")
        readers = []
        for index in range(len(self.checkpoint.texts)):
            embeddings = {name: vectors[index] for name, vectors in self.embeddings.items()}
            readers.append(Reader(self.load(run, index), self.tokenizer(run, index), embeddings))
        return tuple(readers)
