"""Nodes that measure a model and write it to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from nodegraph import Choice, Help, Range, Run, Seed, node
from nodegraph_nodes.types import VAE, Image, Mask, TextEncoder, UNetModel
from nodegraph_training.types import DataSet, TrainedImageEncoder


class Evaluation(NamedTuple):
    """What was measured, the first pictures that were painted, and all of them."""

    figures: dict[str, Any]
    pictures: Image
    painted: Image


class Reconstruction(NamedTuple):
    """What was measured, and the decoded pictures."""

    figures: dict[str, Any]
    pictures: Image


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
    from nodegraph_training.training.evaluation import judged, reconstructed
    from nodegraph_training.training.painting import HowToPaint, Model, paint

    pictures, model = data.pictures, Model(unet=unet, vae=vae, text_encoder=text_encoder)
    figures: dict[str, Any] = {} if vae is None else {"autoencoder_psnr": round(reconstructed(pictures, vae, count, run)[0], 3)}
    how = HowToPaint(count=count, cfg=cfg, sampler=sampler, schedule=schedule, steps=steps, seed=seed)
    painted = paint(pictures, model, how, run)
    figures |= {"captions" if model.kind == "text" else "pictures": len(painted), **judged(model.kind, pictures, painted)}
    return Evaluation(figures, Image(painted[:64]), Image(painted))


@node("EvaluateAutoencoder", numeric=True)
def evaluate_autoencoder(
    vae: VAE,
    data: Annotated[DataSet, Help("pictures that were not learned, such as the held-out ones of PictureWorld")],
    count: Annotated[int, Range(1, 100_000), Help("pictures to encode and decode")] = 100,
    run: Run = Run(),
) -> Reconstruction:
    """Measure an autoencoder: pictures to latents and back.

    `psnr` is in dB, `factor` the pixels per cell along a side, and `numbers` the share of the numbers of a picture that its latent
    has. Give the pictures to `FrechetDistance`.
    """
    from nodegraph_training.training.evaluation import reconstructed

    psnr, decoded = reconstructed(data.pictures, vae, count, run)
    config = vae.part.config
    figures = {
        "psnr": round(psnr, 3),
        "factor": config.factor,
        "numbers": config.latent_channels / (3 * config.factor**2),
        "codes": config.codes,
    }
    return Reconstruction(figures, Image(decoded))


@node("JudgePictures")
def judge_pictures(
    image: Annotated[Image, Help("a batch of pictures that were painted from the same text")],
    text: Annotated[str, Help("what each of them should show, as a caption of PictureWorld says it")],
    things: Annotated[bool, Help("whether the things count that the text names, and no others; false: only place and time")] = True,
) -> dict[str, Any]:
    """Measure how many pictures show a text, and how different they are.

    A program that was not trained judges them: `right` is the share in which nothing is wrong that the text demands, and `wrong`
    counts each kind of fault. `diversity` is how different two of the pictures are on average: the root of the mean squared
    difference of their colours, which are from 0 to 1.
    """
    from nodegraph_training.training.evaluation import as_bytes, diversity, right_about

    figures = right_about([text] * len(image.pixels), as_bytes(image.pixels), things=things)
    return {"pictures": len(image.pixels), **figures, "diversity": round(diversity(image.pixels), 6)}


@node("ComparePictures")
def compare_pictures(
    image: Image,
    other: Image,
    outside: Annotated[Mask | None, Help("compare only where this mask is black; default: everywhere")] = None,
) -> dict[str, Any]:
    """Measure how similar pictures are, such as one before and after inpainting.

    `psnr` is in dB, `same` is the share of the pixels that are the same in 8 bits.
    """
    from nodegraph_training.training.evaluation import compared

    if image.pixels.shape != other.pixels.shape:
        raise ValueError(f"other: expected pictures of {_shape(image)}, found {_shape(other)}; resize them, or take other ones")
    return compared(image.pixels, other.pixels, None if outside is None else outside.values == 0)


def _shape(image: Image) -> str:
    count, height, width, _ = image.pixels.shape
    return f"{count} times {width}x{height}"


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
