"""Nodes that read, resize and compose latents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import Help, Range, node
from nodegraph_nodes.models.find import AnyFile
from nodegraph_nodes.types import VAE, Latent, Mask

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.config import LatentSpace

LONGEST_SIDE = 32_768


@node("LoadLatent")
def load_latent(
    path: AnyFile,
    vae: Annotated[VAE | None, Help("of the model that the latent is for: a file of ComfyUI's does not say it")] = None,
) -> Latent:
    """Read a latent that was saved as an output of a workflow, or by ComfyUI.

    The file is a `.safetensors` or `.latent` one. What a workflow saved contains the size of the pictures and the latent's space,
    so another model's VAE refuses it.
    """
    from nodegraph_diffusion.latent_files import is_latent_file
    from nodegraph_nodes.codecs import CODECS

    space = None if vae is None else vae.part.config.latent
    try:
        data = path.read_bytes()
        latent = _of_comfyui(data, space) if is_latent_file(data) else CODECS[Latent].decode(data)
        problem = latent and (CODECS[Latent].check(latent) or _wrong_size(latent))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(_not_a_latent(path)) from error
    if latent is None:
        raise ValueError(f"{path} is a latent of ComfyUI's, which does not say for which model. Give the 'vae' of that")
    if problem:
        raise ValueError(f"the latent {path}: {problem}. Save it again")
    assert isinstance(latent, Latent)
    latent.require_space(space, "VAE makes")
    return latent


def _of_comfyui(data: bytes, space: LatentSpace | None) -> Latent | None:
    """The latent in a file of ComfyUI's; None if neither the file nor `space` says which space it is of.

    Files that were written here keep the fields of a Latent.
    """
    from nodegraph_diffusion.latent_files import decode_latent
    from nodegraph_diffusion.networks.config import LatentSpace

    unscaled, texts = decode_latent(data)
    fields = json.loads(texts.get("fields", "{}"))
    own = LatentSpace(*fields["space"]) if "space" in fields else space
    if own is None:
        return None
    rows, columns = fields.get("size") or (side * own.factor for side in unscaled.shape[-2:])
    numbers = tuple(fields["numbers"]) if "numbers" in fields else None
    return Latent(unscaled * own.scaling_factor, (rows, columns), own, numbers)


def _not_a_latent(path: Path) -> str:
    expected = "a .safetensors file that a workflow wrote as an output, or a .latent file"
    return f"{path} is not a latent: expected {expected}. Name another one"


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


def _check_size(**literals: Any) -> Iterable[str]:
    sides = [name for name in ("width", "height") if literals.get(name) is not None]
    if sides and literals.get("scale") is not None:
        yield f"{' and '.join(sides)} and scale both set the size; leave one out"
    if not sides and "scale" in literals and literals["scale"] is None:
        yield "a ResizeLatent needs a width, a height or a scale; give one"


@node("ResizeLatent", version=2, check=_check_size, foreign_names=("LatentUpscale", "LatentUpscaleBy"))
def resize_latent(
    latent: Latent,
    width: Annotated[int | None, Range(8, LONGEST_SIDE), Help("pixels; default: in proportion to the height")] = None,
    height: Annotated[int | None, Range(8, LONGEST_SIDE), Help("pixels; default: in proportion to the width")] = None,
    scale: Annotated[
        float | None, Range(0.01, 100), Help("instead of width and height; 2 doubles both; rounded to whole cells")
    ] = None,
    method: Annotated[
        Literal["nearest", "bilinear", "area", "bicubic", "bislerp"],
        Help("as in ComfyUI; bislerp turns from cell to cell along a sphere, so that values between two cells do not fade"),
    ] = "bislerp",
    crop: Annotated[bool, Help("cut what does not fit the new proportions, around the centre, instead of stretching")] = False,
) -> Latent:
    """Resize latents, to be sampled again with a `strength` of about 0.5.

    Give a width, a height, both, or a scale, for the pictures in pixels. Cells are not colours: what is resized looks blurred or
    blocky until it is sampled again. `Resize` between `VAEDecode` and `VAEEncode` resizes the picture instead.
    """
    import torch.nn.functional as F

    from nodegraph_diffusion.resizing import bislerp, cropped

    rows, columns = latent.size
    factor = latent.space.factor if latent.space is not None else -(-rows // latent.samples.shape[-2])
    if scale is not None:
        down, across = latent.samples.shape[-2:]
        height, width = _scaled(rows, down, factor, scale=scale), _scaled(columns, across, factor, scale=scale)
    if width is None and height is None:
        raise ValueError("a ResizeLatent needs a width, a height or a scale. Give one")
    width = width or max(1, round(columns * height / rows))  # type: ignore[operator]  # one of them is given
    height = height or max(1, round(rows * width / columns))
    if max(width, height) > LONGEST_SIDE:
        raise ValueError(f"expected sides of at most {LONGEST_SIDE} pixels, found {width}x{height}. Choose a smaller scale")
    cells = _cells((height, width), factor)
    samples = cropped(latent.samples, cells) if crop else latent.samples
    if method == "bislerp":
        samples = bislerp(samples, cells)
    else:
        samples = F.interpolate(samples, size=cells, mode="nearest-exact" if method == "nearest" else method)
    return replace(latent, samples=samples.contiguous(), size=(height, width))


def _scaled(side: int, cells: int, factor: int, *, scale: float) -> int:
    """The side of a picture of `side` pixels in `cells` cells after scaling these to a whole number, as ComfyUI does."""
    scaled = max(1, round(cells * scale))
    return min(max(round(side * scale), (scaled - 1) * factor + 1), scaled * factor)


@node("CompositeLatent", foreign_names=("LatentComposite", "LatentCompositeMasked"))
def composite_latent(
    latent: Latent,
    original: Latent,
    x: Annotated[int, Range(0, LONGEST_SIDE), Help("pixels from the left; rounded down to whole cells")] = 0,
    y: Annotated[int, Range(0, LONGEST_SIDE), Help("pixels from the top; rounded down to whole cells")] = 0,
    feather: Annotated[int, Range(0, 8192), Help("pixels over which sides inside `original` fade in")] = 0,
    mask: Annotated[Mask | None, Help("for `latent`: only its white part is pasted")] = None,
    stretch: Annotated[bool, Help("stretch `latent` to the size of `original` first")] = False,
) -> Latent:
    """Paste `latent` onto `original`.

    What is outside `original` is cut off. Sample the result again, so that the two fit together.
    """
    import torch.nn.functional as F

    from nodegraph_diffusion.denoising.mask import latent_mask
    from nodegraph_diffusion.masks import faded

    latent.require_space(original.space, "original is")
    rows, columns = original.samples.shape[-2:]
    above = F.interpolate(latent.samples, size=(rows, columns), mode="bilinear") if stretch else latent.samples
    factor = original.space.factor if original.space is not None else -(-original.size[0] // rows)
    top, left = y // factor, x // factor
    if top >= rows or left >= columns:
        raise ValueError(f"expected x and y inside the original of {original.size[1]}x{original.size[0]} pixels, found {x} and {y}")
    if len(above) not in (1, len(original.samples)):
        raise ValueError(
            f"latent: expected one, or one for each of {len(original.samples)}, found {len(above)}. Give as many of each"
        )
    height, width = above.shape[-2:]
    sides = (left > 0, top > 0, left + width < columns, top + height < rows)
    height, width = min(height, rows - top), min(width, columns - left)
    pasted = above[..., :height, :width]
    weight = faded((height, width), feather // factor, sides)
    if mask is not None:
        weight = weight * latent_mask(mask.values, above)[:, :1, :height, :width]
    samples = original.samples.clone()
    area = samples[..., top : top + height, left : left + width]
    area.copy_(area * (1 - weight) + pasted * weight)
    return replace(original, samples=samples)
