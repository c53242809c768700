"""How to train: what all training nodes have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Help, Range, node
from nodegraph_training.types import TrainingOptions


@node("TrainingOptions")
def training_options(
    optimiser: Annotated[
        Literal["adamw", "muon"], Help("muon: fewer steps for networks that are trained from nothing, each a little slower")
    ] = "adamw",
    schedule: Annotated[
        Literal["constant", "cosine"],
        Help("constant: training can continue with more steps; cosine: the learning rate falls to zero, for the end of a training"),
    ] = "constant",
    warm_up: Annotated[int, Range(0, 1_000_000), Help("first steps, in which the learning rate rises")] = 0,
    clip: Annotated[float | None, Range(1e-6, 1e6), Help("largest norm of the gradient; null: any")] = 1.0,
    weight_decay: Annotated[float | None, Range(0, 10), Help("default: 0.01, but 0 for the decoder alone and for words")] = None,
    average: Annotated[
        float | None,
        Range(0, 0.99999),
        Help(
            "largest decay of the moving average of the weights, which is the result; default: 0.99 to 0.999, see docs/training.md"
        ),
    ] = None,
    accumulation: Annotated[int, Range(1, 100_000), Help("batches in each step: a large batch in the memory of a small one")] = 1,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Help("what is computed in; weights stay float32. auto: bfloat16 where the device is fast in it; float16 scales the loss"),
    ] = "float32",
    recompute: Annotated[bool, Help("gradient checkpointing: much less memory for a third more time")] = False,
    compile: Annotated[bool, Help("torch.compile: it takes minutes at the start, and then each step is faster")] = False,
) -> TrainingOptions:
    """Options of training nodes that seldom need a change.

    Precision, memory, gradients, the learning rate over time, the optimiser. Give the result to one or several as `options`.
    """
    return TrainingOptions(
        optimiser=optimiser,
        schedule=schedule,
        warm_up=warm_up,
        clip=clip,
        weight_decay=weight_decay,
        average=average,
        accumulation=accumulation,
        precision=precision,
        recompute=recompute,
        compile=compile,
    )
