"""Nodes that measure a model and write it to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from nodegraph import Choice, Help, Range, Run, Seed, node
from nodegraph_nodes.types import VAE, Image, TextEncoder, UNetModel
from nodegraph_training.types import DataSet, TrainedImageEncoder


class Evaluation(NamedTuple):
    """What was measured, the first pictures that were painted, and all of them."""

    figures: dict[str, Any]
    pictures: Image
    painted: Image


@node("Evaluate", numeric=True)
def evaluate(
    unet: UNetModel,
    data: Annotated[DataSet, Help("pictures that were not learned, such as the held-out ones of PictureWorld")],
    vae: Annotated[VAE | None, Help("default: none, for a UNet that denoises pixels")] = None,
    text_encoder: Annotated[TextEncoder | None, Help("for a UNet that receives text")] = None,
    count: Annotated[int, Range(1, 100_000), Help("pictures to paint")] = 16,
    cfg: Annotated[float, Range(0, 100), Help("guidance scale")] = 3.0,
    sampler: Annotated[Any, Choice("samplers")] = "dpmpp_2m",
    schedule: Annotated[Any, Choice("schedules")] = "karras",
    steps: Annotated[int, Range(1, 10_000)] = 25,
    seed: Seed = 0,
    run: Run = Run(),
) -> Evaluation:
    """Measure a model: its autoencoder, and what it paints under conditions.

    `autoencoder_psnr` is in dB. A program that was not trained judges the pictures of `PictureWorld`. For captions, `right` is the
    share in which nothing is wrong that the caption demands, and `wrong` counts each kind of fault. For classes, `class_accuracy`
    is the share that shows the class. For boxes, `box_iou` is the mean overlap of things with their boxes, and `things_right` the
    share with exactly these things. For maps, `label_agreement` is the share of pixels that show their class. Enlarged pictures
    have `psnr` against the whole ones, beside that of bicubic interpolation.
    """
    from nodegraph_training.training.evaluation import judged, psnr
    from nodegraph_training.training.painting import HowToPaint, Model, paint

    pictures, model = data.pictures, Model(unet=unet, vae=vae, text_encoder=text_encoder)
    figures: dict[str, Any] = {} if vae is None else {"autoencoder_psnr": round(psnr(pictures, vae, count, run), 3)}
    how = HowToPaint(count=count, cfg=cfg, sampler=sampler, schedule=schedule, steps=steps, seed=seed)
    painted = paint(pictures, model, how, run)
    figures |= {"captions" if model.kind == "text" else "pictures": len(painted), **judged(model.kind, pictures, painted)}
    return Evaluation(figures, Image(painted[:64]), Image(painted))


@node("FrechetDistance", numeric=True)
def frechet_distance(
    images: list[Image],
    image_encoder: Annotated[TrainedImageEncoder, Help("of `TrainCLIP`: its embeddings are the features")],
    data: Annotated[DataSet, Help("pictures that were not learned, such as the held-out ones of PictureWorld")],
    run: Run = Run(),
) -> dict[str, Any]:
    """Measure how far painted pictures are from those of a data set, as a whole.

    `distance` is that of Heusel et al. 2017, eq. 6, in the features of our own CLIP: it compares only with others in the same
    features. For comparison: `blurred` is the distance of the pictures of the data set from themselves after a blur with sigma 1,
    `half_shuffled` that after half of their 64 blocks changed places. Give several hundred pictures.
    """
    import torch

    from nodegraph_diffusion.training.losses import frechet
    from nodegraph_training.training.distance import BLOCKS, blurred, features, half_shuffled
    from nodegraph_training.training.networks import own_image_encoder

    pictures = data.pictures
    if pictures.side % BLOCKS:
        raise ValueError(f"data: expected pictures whose side is a multiple of {BLOCKS}, found {pictures.side}")
    network = own_image_encoder(image_encoder, run)
    drawn = [torch.from_numpy(pictures.pixels(index)).float() / 255 for index in range(len(pictures))]
    painted = [picture for image in images for picture in image.pixels]
    known = features(network, drawn)
    sets = {
        "distance": painted,
        "blurred": [blurred(picture) for picture in drawn],
        "half_shuffled": [half_shuffled(picture, index) for index, picture in enumerate(drawn)],
    }
    distances = {name: round(frechet.frechet_distance(features(network, each), known), 6) for name, each in sets.items()}
    return {"pictures": len(painted), "drawn": len(drawn), **distances}


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
