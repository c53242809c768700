"""Nodes that read, resize and take apart latents and batches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from nodegraph import Help, Range, node
from nodegraph_nodes.models.find import AnyFile
from nodegraph_nodes.types import Image, Latent

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Index = Annotated[int, Range(-4096, 4096), Help("the first one, counted from 0; -1 is the last of the batch")]
Count = Annotated[int, Range(1, 4096), Help("how many")]
LONGEST_SIDE = 32_768


@node("LoadLatent")
def load_latent(path: AnyFile) -> Latent:
    """Read a latent that was saved as an output of a workflow, a `.safetensors` file.

    The file contains the size of the pictures and the latent's space, so another model's VAE refuses it.
    """
    from nodegraph_nodes.codecs import CODECS

    try:
        data = path.read_bytes()
        latent = CODECS[Latent].decode(data)
        problem = CODECS[Latent].check(latent) or _wrong_size(latent)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(_not_a_latent(path)) from error
    if problem:
        raise ValueError(f"the latent {path}: {problem}. Save it again")
    assert isinstance(latent, Latent)
    return latent


def _not_a_latent(path: Path) -> str:
    return f"{path} is not a latent: expected a .safetensors file that a workflow wrote as an output. Name another one"


def _wrong_size(latent: Latent) -> str | None:
    """What is wrong with the size of the pictures, if it does not fit the cells."""
    cells, space = latent.samples.shape[-2:], latent.space
    if not all(type(side) is int and side > 0 for side in latent.size):
        return f"expected a height and a width in pixels, found {latent.size}"
    if space is not None and (
        space.channels != latent.samples.shape[1] or any(_cells(latent.size, space.factor)[i] != cells[i] for i in (0, 1))
    ):
        return f"expected cells for {latent.size[1]}x{latent.size[0]} pixels of {space}, found {cells[1]}x{cells[0]}"
    return None


def _cells(size: tuple[int, int], factor: int) -> tuple[int, int]:
    height, width = size
    return -(-height // factor), -(-width // factor)


@node("FromBatch", foreign_names=("LatentFromBatch",))
def from_batch(latent: Latent, index: Index = 0, count: Count = 1) -> Latent:
    """Take latents out of a batch: `count` of them, from `index` on.

    Noise for the picture k of a batch is drawn from seed + k, so draw that of the batch, and sample before you take one out.
    """
    return Latent(_part(latent.samples, index, count), latent.size, latent.space)


@node("ImageFromBatch")
def image_from_batch(image: Image, index: Index = 0, count: Count = 1) -> Image:
    """Take pictures out of a batch: `count` of them, from `index` on."""
    return Image(_part(image.pixels, index, count))


def _part(batch: Tensor, index: int, count: int) -> Tensor:
    """`count` items of a batch, from `index` on. Raises ValueError if it does not have them."""
    first = index + len(batch) if index < 0 else index
    if not 0 <= first <= first + count <= len(batch):
        found = f"{count} from {index} on"
        raise ValueError(f"index: expected pictures of a batch of {len(batch)}, counted from 0, found {found}. Choose others")
    return batch[first : first + count].contiguous()


def _check_size(**literals: Any) -> Iterable[str]:
    sides = [name for name in ("width", "height") if literals.get(name) is not None]
    if sides and literals.get("scale") is not None:
        yield f"{' and '.join(sides)} and scale both set the size; leave one out"
    if not sides and "scale" in literals and literals["scale"] is None:
        yield "a ResizeLatent needs a width, a height or a scale; give one"


@node("ResizeLatent", check=_check_size, foreign_names=("LatentUpscale", "LatentUpscaleBy"))
def resize_latent(
    latent: Latent,
    width: Annotated[int | None, Range(8, LONGEST_SIDE), Help("pixels; default: in proportion to the height")] = None,
    height: Annotated[int | None, Range(8, LONGEST_SIDE), Help("pixels; default: in proportion to the width")] = None,
    scale: Annotated[float | None, Range(0.01, 100), Help("instead of width and height; 2 doubles both")] = None,
    method: Annotated[
        Literal["nearest", "bilinear", "area", "bicubic", "bislerp"],
        Help("as in ComfyUI; bislerp turns from cell to cell along a sphere, so that values between two cells do not fade"),
    ] = "bislerp",
) -> Latent:
    """Resize latents, to be sampled again with a `strength` of about 0.5.

    Give a width, a height, both, or a scale, for the pictures in pixels. Cells are not colours: what is resized looks blurred or
    blocky until it is sampled again. `Resize` between `VAEDecode` and `VAEEncode` resizes the picture instead.
    """
    import torch.nn.functional as F

    from nodegraph_diffusion.resizing import bislerp

    rows, columns = latent.size
    if scale is not None:
        width, height = max(1, round(columns * scale)), max(1, round(rows * scale))
    if width is None and height is None:
        raise ValueError("a ResizeLatent needs a width, a height or a scale. Give one")
    width = width or max(1, round(columns * height / rows))  # type: ignore[operator]  # one of them is given
    height = height or max(1, round(rows * width / columns))
    if max(width, height) > LONGEST_SIDE:
        raise ValueError(f"expected sides of at most {LONGEST_SIDE} pixels, found {width}x{height}. Choose a smaller scale")
    factor = latent.space.factor if latent.space is not None else -(-rows // latent.samples.shape[-2])
    cells = _cells((height, width), factor)
    if method == "bislerp":
        samples = bislerp(latent.samples, cells)
    else:
        samples = F.interpolate(latent.samples, size=cells, mode="nearest-exact" if method == "nearest" else method)
    return Latent(samples.contiguous(), (height, width), latent.space)
