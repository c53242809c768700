"""The values that nodes pass to each other. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nodegraph.plugin_api import dataclass
from nodegraph_nodes.model_files import OpenedFile, OpenedPart, Patch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture
    from torch import Tensor

    from nodegraph import Run
    from nodegraph_diffusion.checkpoint import (
        ControlNetFile,
        GligenFile,
        ImageEncoderFile,
        OtherUpscalerFile,
        T2IAdapterFile,
        TextPart,
        UNetPart,
        UpscalerFile,
        VAEPart,
    )
    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.denoising import Denoiser as DenoiserFunction
    from nodegraph_diffusion.denoising.unet_denoiser import Control as ControlFunction
    from nodegraph_diffusion.networks.config import LatentSpace
    from nodegraph_diffusion.networks.gligen import TextBox


class _Value:
    """A value that shows itself in one line: tensors by dtype and shape."""

    def __repr__(self) -> str:
        shown = (
            f"{field.name} {_shown(getattr(self, field.name))}"
            for field in fields(self)  # type: ignore[arg-type]
            if field.repr or getattr(self, field.name) is not None
        )
        return f"<{type(self).__name__}: {', '.join(shown)}>"


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, shape))}"
    if isinstance(value, _Value) or value is None or isinstance(value, int | float | str):
        return repr(value)
    if hasattr(value, "scaling_factor"):
        return f"of {value}"
    if isinstance(value, tuple | Mapping):
        if isinstance(value, tuple) and value and all(isinstance(item, int | float) for item in value):
            return "x".join(map(str, value))
        return f"{len(value)} {'item' if len(value) == 1 else 'items'}"
    files = getattr(value, "files", None)
    return f"from {files[0].path.name}" if files else type(value).__name__


@dataclass(frozen=True, eq=False, repr=False)
class Image(_Value):
    """Pictures: `pixels` (B, H, W, 3), float32 in [0, 1].

    Where a node expects one, Python may also give a Pillow picture or an array. A notebook shows the pictures beside each other.
    """

    pixels: Tensor

    def to_pil(self, index: int = 0) -> Picture:
        """One of the pictures, for Pillow: mode RGB, 8 bits."""
        from nodegraph_nodes.pictures.sheets import as_pillow

        return as_pillow(self.pixels[index])

    def numpy(self) -> NDArray[Any]:
        """The pixels as an array (B, H, W, 3), float32 in [0, 1]."""
        array: NDArray[Any] = self.pixels.detach().cpu().numpy()
        return array

    def _repr_png_(self) -> bytes:
        from nodegraph_nodes.pictures.sheets import as_png

        return as_png(self.pixels)

    def as_html(self) -> str:
        """An element with the pictures, for notebooks."""
        from nodegraph_nodes.pictures.sheets import as_html

        return as_html(self._repr_png_())


@dataclass(frozen=True, eq=False, repr=False)
class Mask(_Value):
    """What to repaint: `values` (B, H, W), float32 in [0, 1]; 1 (white) is repainted, 0 (black) is kept."""

    values: Tensor

    def to_pil(self, index: int = 0) -> Picture:
        """One of the masks, for Pillow: mode L, 8 bits."""
        from nodegraph_nodes.pictures.sheets import as_pillow

        return as_pillow(self.values[index])

    def numpy(self) -> NDArray[Any]:
        """The values as an array (B, H, W), float32 in [0, 1]."""
        array: NDArray[Any] = self.values.detach().cpu().numpy()
        return array

    def _repr_png_(self) -> bytes:
        from nodegraph_nodes.pictures.sheets import as_png

        return as_png(self.values[..., None].expand(-1, -1, -1, 3))

    def as_html(self) -> str:
        """An element with the masks, for notebooks."""
        from nodegraph_nodes.pictures.sheets import as_html

        return as_html(self._repr_png_())


@dataclass(frozen=True, eq=False, repr=False)
class Latent(_Value):
    """Encoded pictures: `samples` (B, C, h, w), float32, scaled as the UNet expects them.

    `size` is the height and width of the pictures in pixels. Encoding pads pictures if needed; decoding crops them to `size`.
    `space` describes the autoencoder that it belongs to: its channels and its scale. None means that it is not known. `numbers` say
    which picture of a batch each one is, for `Noise`; None means 0, 1, ... .
    """

    samples: Tensor
    size: tuple[int, int]
    space: LatentSpace | None = field(default=None, repr=False)
    numbers: tuple[int, ...] | None = field(default=None, repr=False)

    def require_space(self, space: LatentSpace | None, use: str) -> None:
        """Raise ValueError if the latent is of another space than `space`, that of what is to `use` it; None fits any."""
        if self.space is not None and space is not None and not space.holds(self.space):
            raise ValueError(
                f"latent: expected one of {space}, which this {use}, found one of {self.space}; decode it with its own VAE, and "
                f"encode the picture with the VAE of this model"
            )

    def numpy(self) -> NDArray[Any]:
        """The samples as an array (B, C, h, w), float32."""
        array: NDArray[Any] = self.samples.detach().cpu().numpy()
        return array

    @property
    def padding(self) -> tuple[int, int]:
        """The rows and columns of pixels that the latent covers beyond `size`."""
        from nodegraph_diffusion.masks import padding

        return padding((self.samples.shape[-2], self.samples.shape[-1]), self.size)


@dataclass(frozen=True, eq=False, repr=False)
class Conditioning(_Value):
    """Encoded prompts; several are mixed. Their tensors are float32 on the CPU."""

    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Noise(_Value):
    """Noise to start from: `values` (B, C, h, w), float32 on the CPU, drawn from `seed` in the way that `draw` says, if known.

    `numbers` are those of the latent that it was drawn for.
    """

    values: Tensor
    seed: int
    draw: Literal["per_picture", "sequential", "none"] | None = field(default=None, repr=False)
    numbers: tuple[int, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Sigmas(_Value):
    """The noise levels of a run: `values` (steps + 1,), float32 on the CPU, decreasing unless they were reversed."""

    values: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Denoiser(_Value):
    """A function of (x, sigma) that returns the denoised x, both (B, C, h, w), and knows the model's noise levels.

    `latent` describes the latents that it denoises; previews need it.
    """

    function: DenoiserFunction
    latent: LatentSpace | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Concat(_Value):
    """Channels to concatenate to the latent for a UNet of this `kind`: `values` (B, C, h, w), float32, scaled as it expects."""

    values: Tensor
    kind: Literal["inpaint", "pix2pix", "map", "picture"]


@dataclass(frozen=True, eq=False, repr=False)
class UNetModel(_Value):
    """A model's UNet, with the changes that adapter nodes made."""

    opened: OpenedPart[UNetPart]
    patches: tuple[Patch, ...] = ()
    controls: tuple[Control | Grounding | Guide, ...] = ()
    concat: Concat | None = None

    @property
    def part(self) -> UNetPart:
        return self.opened.part


@dataclass(frozen=True, eq=False, repr=False)
class ImageEmbedding(_Value):
    """Pictures as CLIP's image encoder sees them: `values` (B, P), float32, not normalised."""

    values: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Upscaler(_Value):
    """An upscaling network on disk, with its files as they were opened."""

    file: UpscalerFile | OtherUpscalerFile
    files: tuple[OpenedFile, ...]


@dataclass(frozen=True, eq=False, repr=False)
class ImageEncoder(_Value):
    """CLIP's image encoder on disk, with its files as they were opened."""

    file: ImageEncoderFile
    files: tuple[OpenedFile, ...]


@dataclass(frozen=True, eq=False, repr=False)
class GligenLayers(_Value):
    """GLIGEN's layers on disk, with their files as they were opened."""

    file: GligenFile
    files: tuple[OpenedFile, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Grounding(_Value):
    """GLIGEN's layers, and the texts in boxes that they paint; `cell` is the side of a latent cell in pixels."""

    gligen: GligenLayers
    boxes: tuple[TextBox, ...]
    cell: int


class Guide(Protocol):
    """Something else that guides a UNet: a plugin's node may append one to `UNetModel.controls`."""

    def load(self, run: Run) -> ControlFunction:
        """The function that guides, on the run's device: `nodegraph_diffusion.denoising.unet_denoiser.Control`.

        It loads networks through `run.on_demand`.
        """
        ...


@dataclass(frozen=True, eq=False, repr=False)
class ControlNetModel(_Value):
    """A ControlNet or a T2I-Adapter on disk, with its files as they were opened.

    `base` is the UNet to add the weights to if the files hold differences from a UNet.
    """

    file: ControlNetFile | T2IAdapterFile
    files: tuple[OpenedFile, ...]
    base: UNetModel | None = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Control(_Value):
    """A ControlNet and the picture that it guides a UNet by, between `start` and `end`, fractions of the sampling.

    `blocks` is the number of residual blocks on each level of the UNet, for a T2I-Adapter.
    """

    control_net: ControlNetModel
    image: Image
    strength: float
    start: float
    end: float
    blocks: int = 2


@dataclass(frozen=True, eq=False, repr=False)
class VAE(_Value):
    """A model's autoencoder."""

    opened: OpenedPart[VAEPart]

    @property
    def part(self) -> VAEPart:
        return self.opened.part


@dataclass(frozen=True, eq=False, repr=False)
class TextEncoder(_Value):
    """A model's text encoders, with the changes that adapter nodes made.

    `embeddings` are the vectors that `embedding:NAME` in a prompt stands for, by name: for each encoder (n, width), float32, or
    None if the file has no vectors for it.
    """

    opened: tuple[OpenedPart[TextPart], ...]
    patches: tuple[Patch, ...] = ()
    embeddings: Mapping[str, tuple[Tensor | None, ...]] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[TextPart, ...]:
        return tuple(opened.part for opened in self.opened)


class Trained:
    """Weights that a node has trained: a value that is stored, unlike a model that was opened from files.

    `tensors` are on the CPU, by name; `settings` are plain JSON: the sizes of the network, and what else is needed to use it.
    """

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    def __init__(self, tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None) -> None:
        self.__dict__.update(tensors=tensors, settings=settings or {})  # not setattr: some of these classes are frozen

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.tensors)} tensors>"


class TrainedLora(Trained):
    """A LoRA with kohya's names. `LoadLora` takes it as `file`."""


class TrainedEmbedding(Trained):
    """The vectors of a word. `LoadEmbedding` takes it as `file`."""
