"""Nodes that describe pictures to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from nodegraph import Help, Range, Reads, Run, Seed, node
from nodegraph_nodes.types import Image
from nodegraph_training.data.folder import FolderPictures, PictureFolder, captioned, find_folder, listed
from nodegraph_training.data.picture_world import Classes, Combinations, DrawnPictures, Style
from nodegraph_training.types import DataSet

if TYPE_CHECKING:
    from nodegraph_diffusion.training.pictures.buckets import Buckets

Side = Annotated[int, Range(8, 4096)]


@node("PictureWorld")
def picture_world(
    count: Annotated[int, Range(1, 10_000_000), Help("number of pictures")] = 10_000,
    side: Annotated[Side, Help("of the pictures, in pixels")] = 128,
    seed: Annotated[Seed, Help("each seed gives other scenes")] = 0,
    combinations: Annotated[
        Combinations, Help("training: none of the held-out combinations of things; held-out: at least one; all: any")
    ] = "training",
    things: Annotated[int | None, Range(0, 3), Help("number of things in each scene; default: it varies")] = None,
    captions: Annotated[Style, Help("full: they name everything; mixed: most things; open: few")] = "mixed",
    classes: Annotated[
        Classes, Help("what the class of a picture is, for TrainClassifier; kind and colour are those of its thing, with things: 1")
    ] = "kind",
) -> DataSet:
    """Drawn scenes with captions: houses, trees, cats and other things in a landscape.

    They are drawn when they are needed, and are the same on every machine.
    """
    return DataSet(
        DrawnPictures(count=count, side=side, seed=seed, combinations=combinations, things=things, style=captions, classes=classes)
    )


class Drawn(NamedTuple):
    """A drawn picture, and the class of each of its pixels as a picture."""

    image: Image
    map: Image


@node("DrawnPicture")
def drawn_picture(
    data: Annotated[DataSet, Help("of PictureWorld")],
    index: Annotated[int, Range(0, 10_000_000), Help("of the picture, from 0")] = 0,
) -> Drawn:
    """One of the pictures of `PictureWorld`, and its map of classes for `ApplyMap`.

    Each class has its own colour in the map.
    """
    import torch

    from nodegraph_diffusion.beside import map_picture
    from nodegraph_diffusion.recipes.pictureworld import CLASSES

    pictures = data.pictures
    if not isinstance(pictures, DrawnPictures):
        raise ValueError("data: expected the pictures of PictureWorld, found others; load a picture with LoadImage")
    if index >= len(pictures):
        raise ValueError(f"index: expected 0 to {len(pictures) - 1}, the pictures of this data set, found {index}")
    pixels, labels = torch.from_numpy(pictures.pixels(index)), torch.from_numpy(pictures.class_map(index)).long()
    return Drawn(Image(pixels[None].float() / 255), Image(map_picture(labels[None], len(CLASSES))))


@node("ImageFolder")
def image_folder(
    folder: Annotated[
        PictureFolder,
        Reads(find_folder, by_content=True),
        Help("a folder of pictures; captions in .txt or .caption files beside them, or in .csv, .jsonl or .json tables"),
    ],
    side: Annotated[Side, Help("pictures are resized and cut to squares of this side, in pixels")] = 512,
    buckets: Annotated[
        bool, Help("keep about the aspect ratio of each picture: cut it to the nearest of some sizes of side x side pixels in all")
    ] = False,
    caption: Annotated[str | None, Help("for pictures that have none")] = None,
    skip_faults: Annotated[bool, Help("leave out files that cannot be used, with a note, instead of stopping")] = False,
    run: Run = Run(),
) -> DataSet:
    """Pictures in a folder and the folders below it, with captions.

    A table names each picture in `file_name` (or `image_path`, `image`, `file`, `path`) and its caption in `text` (or `caption`,
    `prompt`, and `tags`), as the metadata of Hugging Face and of kohya's trainer do. For `TrainClassifier`, the class of a picture
    is the folder that it is in.
    """
    found, faults = captioned(folder, caption)
    if faults and not (skip_faults and found):
        raise ValueError(
            f"{folder.path}: expected pictures and captions that can be read, found {len(faults)} that cannot:\n{listed(faults)}\n"
            f"Repair or remove them, or give 'skip_faults: true' to train without them"
        )
    if faults:
        run.notice(f"{len(faults)} {'file is' if len(faults) == 1 else 'files are'} left out:\n{listed(faults)}")
    return DataSet(FolderPictures(found, side, _buckets_of(side) if buckets else None))


def _buckets_of(side: int) -> Buckets:
    """Sizes whose ratios go up to 4; for a side of 512 those of kohya's trainers."""
    from nodegraph_diffusion.training.pictures.buckets import Buckets

    step = min(64, max(8, side // 64 * 8))
    return Buckets(side=side, step=step, least=max(step, side // 2 // step * step), most=2 * side)
