"""Conditioning without a text: labels, with or without boxes, or nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Conditioning, UNetModel

if TYPE_CHECKING:
    from torch import Tensor

Edge = Annotated[float, Range(0, 1), Help("edge of the box, as a fraction of the picture's side")]


@node("LabelCondition")
def label_condition(
    unet: Annotated[UNetModel, Help("a UNet that was trained with labels")],
    label: Annotated[str, Help("a class that the UNet knows")],
    left: Edge = 0.0,
    top: Edge = 0.0,
    right: Edge = 1.0,
    bottom: Edge = 1.0,
    others: Annotated[Conditioning | None, Help("labels of other things in the same picture: the output of this node")] = None,
) -> Conditioning:
    """Ask for a class, or for a thing in a box, without a text.

    For a UNet that `TrainDenoiser` trained with `condition: class` or `layout`. Chain the nodes for several things. A UNet that
    learned no boxes ignores the edges. Give `NoCondition` as the negative side.
    """
    import torch

    from nodegraph_diffusion.conditioning.prompt import Prompt

    names = _labels(unet)
    if label not in names:
        raise ValueError(f"label: expected a class of this UNet ({', '.join(names)}), found '{label}'; choose one of them")
    if left >= right or top >= bottom:
        raise ValueError(
            f"box: expected left before right and top before bottom, found {left:g} to {right:g} and {top:g} to {bottom:g}; "
            f"exchange them"
        )
    row = torch.tensor([[[names.index(label), left, top, right, bottom]]])
    return Conditioning((Prompt(row if others is None else torch.cat([_rows(others), row], dim=1)),))


@node("NoCondition")
def no_condition(unet: UNetModel) -> Conditioning:
    """Ask for nothing: what a UNet without text receives instead of a prompt.

    For the UNets that `TrainDenoiser` trains without a text. It is also the negative side of labels.
    """
    import torch

    from nodegraph_diffusion.conditioning.prompt import Prompt

    config = unet.part.config
    if config.labels is None:
        return Conditioning((Prompt(torch.zeros(1, 1, config.context_dim)),))
    return Conditioning((Prompt(torch.tensor([[[config.unsaid, 0.0, 0.0, 1.0, 1.0]]])),))


def _labels(unet: UNetModel) -> tuple[str, ...]:
    names = unet.part.config.labels
    if names is None:
        raise ValueError(
            "unet: expected one that was trained with labels, found one without; train it with 'condition: class' or "
            "'condition: layout' of TrainDenoiser"
        )
    return names


def _rows(others: Conditioning) -> Tensor:
    """The labels of a conditioning. Raises ValueError if it is something else."""
    from nodegraph_diffusion.networks.config import LABEL_WIDTH

    embedding = others.prompts[0].embedding
    if len(others.prompts) > 1 or embedding.shape[-1] != LABEL_WIDTH:
        raise ValueError("others: expected labels, found other conditioning; give the output of LabelCondition")
    return embedding
