"""Nodes that measure a model and write it to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from nodegraph import Choice, Help, Range, Run, Seed, node
from nodegraph_nodes.types import VAE, Image, TextEncoder, UNetModel
from nodegraph_training.types import DataSet


class Evaluation(NamedTuple):
    """What was measured, and the first pictures that were painted."""

    figures: dict[str, Any]
    pictures: Image


@node("Evaluate", numeric=True)
def evaluate(
    unet: UNetModel,
    vae: VAE,
    text_encoder: TextEncoder,
    data: Annotated[DataSet, Help("pictures that were not learned, such as the held-out ones of PictureWorld")],
    count: Annotated[int, Range(1, 100_000), Help("captions to paint")] = 16,
    cfg: Annotated[float, Range(0, 100), Help("guidance scale")] = 3.0,
    sampler: Annotated[Any, Choice("samplers")] = "dpmpp_2m",
    schedule: Annotated[Any, Choice("schedules")] = "karras",
    steps: Annotated[int, Range(1, 10_000)] = 25,
    seed: Seed = 0,
    run: Run = Run(),
) -> Evaluation:
    """Measure a model: its autoencoder, and what it paints from captions.

    `autoencoder_psnr` is in dB. For captions of `PictureWorld`, a program that was not trained judges the pictures: `right` is the
    share in which nothing is wrong that the caption demands, and `wrong` counts each kind of fault.
    """
    from nodegraph_training.training.evaluation import paint_and_judge, psnr

    figures: dict[str, Any] = {"autoencoder_psnr": round(psnr(data.pictures, vae, count, run), 3)}
    painted, judged = paint_and_judge(
        data.pictures,
        (unet, vae, text_encoder),
        count=count,
        cfg=cfg,
        sampler=sampler,
        schedule=schedule,
        steps=steps,
        seed=seed,
        run=run,
    )
    return Evaluation({**figures, **judged}, Image(painted[:64]))


@node("ExportModel", pure=False, numeric=True)
def export_model(
    unet: UNetModel,
    vae: VAE,
    text_encoder: TextEncoder,
    path: Annotated[str, Help("the folder or file to write, below the current folder; what is there is replaced")],
    layout: Annotated[
        Literal["diffusers", "single_file"],
        Help("diffusers: a folder; single_file: one file, for sizes of a known family"),
    ] = "diffusers",
    dtype: Literal["float16", "bfloat16", "float32"] = "float16",
    run: Run = Run(),
) -> str:
    """Write a model to disk, for our nodes, diffusers and other programs.

    Returns the path.
    """
    from nodegraph_training.training.export import write_model

    target = Path.cwd() / path
    if not path or target.resolve() == Path.cwd().resolve() or not target.resolve().is_relative_to(Path.cwd().resolve()):
        raise ValueError(f"path: expected a name below the current folder, found '{path}'; leave out '..' and a leading '/'")
    write_model(target, unet, vae, text_encoder, layout=layout, dtype=dtype, run=run)
    return path
