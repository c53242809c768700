"""Nodes between encoded prompts: which of them count, where in the picture, when in the sampling, and how much."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from nodegraph import Help, Range, node
from nodegraph_diffusion.conditioning.prompt import Area, Prompt, SizeConditioning
from nodegraph_nodes.types import Conditioning, Mask

Strength = Annotated[float, Range(0, 100), Help("how much it counts beside other prompts, where they overlap")]


@node("CombineConditioning", foreign_names=("ConditioningCombine",))
def combine_conditioning(conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Both prompts at once.

    What the network sees under each is averaged, by their strengths, areas and masks.
    """
    return Conditioning((*conditioning_1.prompts, *conditioning_2.prompts))


@node("ConcatConditioning", foreign_names=("ConditioningConcat",))
def concat_conditioning(conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """One longer prompt: `conditioning_from` behind `conditioning_to`.

    The picture attends to both together.
    """
    import torch

    appended = _only(conditioning_from, "conditioning_from")
    _require_width(conditioning_to, appended)
    return _each(
        conditioning_to,
        lambda prompt: dataclasses.replace(prompt, embedding=torch.cat([prompt.embedding, appended.embedding], dim=1)),
    )


@node("AverageConditioning", foreign_names=("ConditioningAverage",))
def average_conditioning(
    conditioning_to: Conditioning,
    conditioning_from: Conditioning,
    conditioning_to_strength: Annotated[float, Range(0, 1), Help("1 is conditioning_to alone, 0 conditioning_from")] = 1.0,
) -> Conditioning:
    """A prompt between two, token by token.

    `conditioning_from` is cut, or filled with zeros, to the length of the other.
    """
    import torch.nn.functional as F

    other = _only(conditioning_from, "conditioning_from")
    _require_width(conditioning_to, other)
    share = conditioning_to_strength

    def averaged(prompt: Prompt) -> Prompt:
        length = prompt.embedding.shape[1]
        embedding = other.embedding[:, :length]
        embedding = F.pad(embedding, (0, 0, 0, length - embedding.shape[1]))
        pooled = other.pooled if prompt.pooled is None else prompt.pooled
        if pooled is not None and other.pooled is not None:
            pooled = pooled * share + other.pooled * (1 - share)
        return dataclasses.replace(prompt, embedding=prompt.embedding * share + embedding * (1 - share), pooled=pooled)

    return _each(conditioning_to, averaged)


def _has_area(**given: Any) -> Iterable[str]:
    for name in ("width", "height"):
        if given.get(name) == 0:
            yield f"expected an area with a {name} above 0"
    if given.get("unit") == "fraction":
        above = [name for name in ("width", "height", "x", "y") if isinstance(given.get(name), int | float) and given[name] > 1]
        if above:
            yield f"a fraction of the picture's side is at most 1, but {' and '.join(above)} is more; unit: pixels counts pixels"


@node(
    "SetArea",
    check=_has_area,
    foreign_names=("ConditioningSetArea", "ConditioningSetAreaPercentage", "ConditioningSetAreaStrength"),
)
def set_area(
    conditioning: Conditioning,
    width: Annotated[float, Range(0, 65536)],
    height: Annotated[float, Range(0, 65536)],
    x: Annotated[float, Range(0, 65536), Help("from the left")] = 0.0,
    y: Annotated[float, Range(0, 65536), Help("from the top")] = 0.0,
    unit: Annotated[Literal["pixels", "fraction"], Help("fraction: parts of the picture's sides, 0 to 1")] = "pixels",
    strength: Strength = 1.0,
) -> Conditioning:
    """A prompt for a rectangle of the picture.

    It fades in over 64 pixels at sides that are not the picture's. Combine it with a prompt for the whole picture. On the other
    side, positive or negative, the prompt around it counts there as much.
    """
    area = Area(height, width, y, x, fraction=unit == "fraction")
    return _each(conditioning, lambda prompt: dataclasses.replace(prompt, area=area, strength=strength))


@node("SetMask", foreign_names=("ConditioningSetMask",))
def set_mask(
    conditioning: Conditioning,
    mask: Annotated[Mask, Help("white is where the prompt counts; grey, where it counts less")],
    strength: Strength = 1.0,
    mask_bounds: Annotated[bool, Help("compute only the rectangle around what is not black, as if it were all there is")] = False,
) -> Conditioning:
    """A prompt for a part of the picture. Combine it with prompts for the other parts."""

    def masked(prompt: Prompt) -> Prompt:
        return dataclasses.replace(prompt, mask=mask.values, mask_strength=strength, mask_bounds=mask_bounds)

    return _each(conditioning, masked)


def _in_order(**given: Any) -> Iterable[str]:
    start, end = given.get("start"), given.get("end")
    if isinstance(start, int | float) and isinstance(end, int | float) and start > end:
        yield f"start {start} lies behind end {end}: the prompt would never count"


@node("SetRange", check=_in_order, foreign_names=("ConditioningSetTimestepRange",))
def set_range(
    conditioning: Conditioning,
    start: Annotated[float, Range(0, 1), Help("0 is all noise")] = 0.0,
    end: Annotated[float, Range(0, 1), Help("1 is the finished picture")] = 1.0,
) -> Conditioning:
    """A prompt for a part of the sampling, by training timesteps.

    The first parts lay out the picture, the last ones detail it.
    """
    return _each(conditioning, lambda prompt: dataclasses.replace(prompt, start=start, end=end))


@node("ZeroOut", foreign_names=("ConditioningZeroOut",))
def zero_out(conditioning: Conditioning) -> Conditioning:
    """A prompt that says nothing at all: zeros.

    That is not what an empty text is encoded to.
    """
    import torch

    def zeroed(prompt: Prompt) -> Prompt:
        pooled = None if prompt.pooled is None else torch.zeros_like(prompt.pooled)
        return dataclasses.replace(prompt, embedding=torch.zeros_like(prompt.embedding), pooled=pooled)

    return _each(conditioning, zeroed)


@node("SizeCondition", foreign_names=("CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner"))
def size_condition(
    conditioning: Conditioning,
    width: Annotated[int | None, Range(1, 65536), Help("of the picture before it was cropped; absent: its own")] = None,
    height: Annotated[int | None, Range(1, 65536), Help("the same")] = None,
    crop_x: Annotated[int, Range(0, 65536), Help("pixels cut off at the left")] = 0,
    crop_y: Annotated[int, Range(0, 65536), Help("pixels cut off at the top")] = 0,
    target_width: Annotated[int | None, Range(1, 65536), Help("of the picture since; absent: as width")] = None,
    target_height: Annotated[int | None, Range(1, 65536), Help("the same")] = None,
    aesthetic: Annotated[float | None, Range(0, 100), Help("for SDXL's refiner; absent: 6, or 2.5 if negative")] = None,
) -> Conditioning:
    """Tell SDXL the sizes of the pictures to paint like.

    Without this node it is told those of the picture it paints.
    """
    size = SizeConditioning(height, width, crop_y, crop_x, target_height, target_width, aesthetic)
    return _each(conditioning, lambda prompt: dataclasses.replace(prompt, size=size))


def _each(conditioning: Conditioning, change: Callable[[Prompt], Prompt]) -> Conditioning:
    return Conditioning(tuple(change(prompt) for prompt in conditioning.prompts))


def _only(conditioning: Conditioning, name: str) -> Prompt:
    if len(conditioning.prompts) != 1:
        raise ValueError(
            f"{name}: expected a single prompt, found {len(conditioning.prompts)} that are combined. Combine what this node gives"
        )
    return conditioning.prompts[0]


def _require_width(conditioning: Conditioning, other: Prompt) -> None:
    """Raises ValueError where the prompts are not of one model."""
    for prompt in conditioning.prompts:
        widths = prompt.embedding.shape[-1], other.embedding.shape[-1]
        if widths[0] != widths[1]:
            raise ValueError(
                f"expected prompts of one width, found {widths[0]} and {widths[1]}. Encode both with the text encoder of one model"
            )
