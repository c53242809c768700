"""Nodes that combine encoded prompts, and that say where, when and how much each of them counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Conditioning, Mask

if TYPE_CHECKING:
    from nodegraph_diffusion.conditioning.prompt import Prompt

Strength = Annotated[float, Range(0, 100), Help("weight relative to other prompts where they overlap")]


@node("CombineConditioning", foreign_names=("ConditioningCombine",))
def combine_conditioning(conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Use two prompts at once: the predictions under both are averaged.

    Their strengths, areas and masks are the weights.
    """
    return Conditioning((*conditioning_1.prompts, *conditioning_2.prompts))


@node("ConcatConditioning", foreign_names=("ConditioningConcat",))
def concat_conditioning(conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """Join two prompts into one longer prompt.

    `conditioning_from` follows `conditioning_to`, and the picture attends to both together.
    """
    import torch

    appended = _single_prompt(conditioning_from, "conditioning_from")
    _require_width(conditioning_to, appended)
    return _change_each(
        conditioning_to,
        lambda prompt: dataclasses.replace(prompt, embedding=torch.cat([prompt.embedding, appended.embedding], dim=1)),
    )


@node("AverageConditioning", foreign_names=("ConditioningAverage",))
def average_conditioning(
    conditioning_to: Conditioning,
    conditioning_from: Conditioning,
    conditioning_to_strength: Annotated[float, Range(0, 1), Help("1: only conditioning_to; 0: only conditioning_from")] = 1.0,
) -> Conditioning:
    """Mix two prompts token by token.

    With s for `conditioning_to_strength`: `s * conditioning_to + (1 - s) * conditioning_from`. `conditioning_from` is cut, or
    padded with zeros, to the length of the other.
    """
    import torch.nn.functional as F

    other = _single_prompt(conditioning_from, "conditioning_from")
    _require_width(conditioning_to, other)
    share = conditioning_to_strength

    def averaged(prompt: Prompt) -> Prompt:
        length = prompt.embedding.shape[1]
        embedding = other.embedding[:, :length]
        embedding = F.pad(embedding, (0, 0, 0, length - embedding.shape[1]))
        pooled = other.pooled if prompt.pooled is None else prompt.pooled
        if pooled is not None and other.pooled is not None and prompt.images is None:
            pooled = pooled * share + other.pooled * (1 - share)
        return dataclasses.replace(prompt, embedding=prompt.embedding * share + embedding * (1 - share), pooled=pooled)

    return _change_each(conditioning_to, averaged)


def _check_area(**literals: Any) -> Iterable[str]:
    for name in ("width", "height"):
        if literals.get(name) == 0:
            yield f"expected an area with a {name} above 0, found 0; give a larger one"
    if literals.get("unit") == "fraction":
        numbers = {name: literals.get(name) for name in ("width", "height", "x", "y")}
        above = [name for name, number in numbers.items() if isinstance(number, int | float) and number > 1]
        if above:
            yield f"a fraction of the picture's side is at most 1, but {' and '.join(above)} is more; unit: pixels counts pixels"


@node(
    "SetArea",
    check=_check_area,
    foreign_names=("ConditioningSetArea", "ConditioningSetAreaPercentage", "ConditioningSetAreaStrength"),
)
def set_area(
    conditioning: Conditioning,
    width: Annotated[float, Range(0, 65536)],
    height: Annotated[float, Range(0, 65536)],
    x: Annotated[float, Range(0, 65536), Help("distance from the left")] = 0.0,
    y: Annotated[float, Range(0, 65536), Help("distance from the top")] = 0.0,
    unit: Annotated[
        Literal["pixels", "fraction"], Help("of width, height, x and y; fraction: of the picture's sides, 0 to 1")
    ] = "pixels",
    strength: Strength = 1.0,
) -> Conditioning:
    """Limit a prompt to a rectangle of the picture.

    It fades in over 64 pixels at sides that are not edges of the picture. Combine it with a prompt for the whole picture. If
    only the positive or only the negative side has the area, the prompt that surrounds it on the other side counts there with
    the same strength.
    """
    from nodegraph_diffusion.conditioning.prompt import Area

    area = Area(height=height, width=width, y=y, x=x, fraction=unit == "fraction")
    return _change_each(conditioning, lambda prompt: dataclasses.replace(prompt, area=area, strength=strength))


@node("SetMask", foreign_names=("ConditioningSetMask",))
def set_mask(
    conditioning: Conditioning,
    mask: Annotated[Mask, Help("the prompt counts where it is white, and less where it is grey")],
    strength: Strength = 1.0,
    mask_bounds: Annotated[
        bool, Help("compute only the rectangle around what is not black, as if it were the whole picture")
    ] = False,
) -> Conditioning:
    """Limit a prompt to a part of the picture.

    Combine it with prompts for the other parts.
    """

    def masked(prompt: Prompt) -> Prompt:
        return dataclasses.replace(prompt, mask=mask.values, mask_strength=strength, mask_bounds=mask_bounds)

    return _change_each(conditioning, masked)


def _check_order(**literals: Any) -> Iterable[str]:
    start, end = literals.get("start"), literals.get("end")
    if isinstance(start, int | float) and isinstance(end, int | float) and start > end:
        yield f"start {start} is after end {end}: the prompt would never count; exchange them"


@node("SetRange", check=_check_order, foreign_names=("ConditioningSetTimestepRange",))
def set_range(
    conditioning: Conditioning,
    start: Annotated[float, Range(0, 1), Help("0 is pure noise")] = 0.0,
    end: Annotated[float, Range(0, 1), Help("1 is the finished picture")] = 1.0,
) -> Conditioning:
    """Limit a prompt to a part of the sampling, by training timesteps.

    The first part lays out the picture, and the last part adds detail.
    """
    return _change_each(conditioning, lambda prompt: dataclasses.replace(prompt, start=start, end=end))


@node("ZeroOut", foreign_names=("ConditioningZeroOut",))
def zero_out(conditioning: Conditioning) -> Conditioning:
    """Replace an encoded prompt by zeros.

    The encoding of an empty text is something else: it is not zero.
    """
    import torch

    def zeroed(prompt: Prompt) -> Prompt:
        pooled = None if prompt.pooled is None else torch.zeros_like(prompt.pooled)
        pooled = pooled if prompt.images is None else prompt.pooled  # pictures stay, as in ComfyUI
        return dataclasses.replace(prompt, embedding=torch.zeros_like(prompt.embedding), pooled=pooled)

    return _change_each(conditioning, zeroed)


@node("SizeCondition", foreign_names=("CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner"))
def size_condition(
    conditioning: Conditioning,
    width: Annotated[
        int | None, Range(1, 65536), Help("of the original picture, before cropping; default: the output size")
    ] = None,
    height: Annotated[
        int | None, Range(1, 65536), Help("of the original picture, before cropping; default: the output size")
    ] = None,
    crop_x: Annotated[int, Range(0, 65536), Help("pixels cropped at the left")] = 0,
    crop_y: Annotated[int, Range(0, 65536), Help("pixels cropped at the top")] = 0,
    target_width: Annotated[int | None, Range(1, 65536), Help("of the picture after cropping and scaling; default: width")] = None,
    target_height: Annotated[
        int | None, Range(1, 65536), Help("of the picture after cropping and scaling; default: height")
    ] = None,
    aesthetic: Annotated[
        float | None,
        Range(0, 100),
        Help("aesthetic score, only for SDXL's refiner; default: 6 for positive, 2.5 for negative prompts"),
    ] = None,
) -> Conditioning:
    """Set the picture sizes that SDXL is conditioned on.

    SDXL was trained with the size and the cropping of each training picture as inputs (Podell et al. 2023, sec. 2.2): it paints
    like pictures of these sizes. Without this node, they are the output size and no cropping.
    """
    from nodegraph_diffusion.conditioning.prompt import SizeConditioning

    size = SizeConditioning(
        height=height,
        width=width,
        crop_y=crop_y,
        crop_x=crop_x,
        target_height=target_height,
        target_width=target_width,
        aesthetic=aesthetic,
    )
    return _change_each(conditioning, lambda prompt: dataclasses.replace(prompt, size=size))


def _change_each(conditioning: Conditioning, change: Callable[[Prompt], Prompt]) -> Conditioning:
    return Conditioning(tuple(change(prompt) for prompt in conditioning.prompts))


def _single_prompt(conditioning: Conditioning, name: str) -> Prompt:
    """The prompt of a conditioning. Raises ValueError if there are several."""
    count = len(conditioning.prompts)
    if count != 1:
        raise ValueError(f"{name}: expected a single prompt, found {count} combined ones. Combine the outputs of this node instead")
    return conditioning.prompts[0]


def _require_width(conditioning: Conditioning, other: Prompt) -> None:
    """Raise ValueError if the prompts have different widths, which means that they are not of one model."""
    for prompt in conditioning.prompts:
        widths = prompt.embedding.shape[-1], other.embedding.shape[-1]
        if widths[0] != widths[1]:
            raise ValueError(
                f"expected prompts of one width, found {widths[0]} and {widths[1]}. Encode both with the text encoder of one model"
            )
