"""Measuring a model on the pictures and conditions of a data set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_nodes.models.parts import load_vae_network
from nodegraph_training.data.picture_world import DrawnPictures
from nodegraph_training.training.conditions import FACTORS
from nodegraph_training.training.examples import pixels_of

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_nodes.types import VAE
    from nodegraph_training.types import ConditionKind, Pictures

_SURROUNDINGS: Final = ("place", "time")


@torch.no_grad()
def reconstructed(pictures: Pictures, vae: VAE, count: int, run: Run) -> tuple[float, Tensor]:
    """The first pictures after encoding and decoding, (count, H, W, 3), and their peak signal-to-noise ratio in dB.

    That is from the mean squared error in 8 bits.
    """
    network = load_vae_network(vae, run)
    errors, decoded = [], []
    for index in range(min(count, len(pictures))):
        pixels = pixels_of(pictures, [index])
        found = network.decode(network.encode(pixels.to(run.device))[0]).cpu().clamp(-1, 1)
        errors.append(float(((found - pixels) * 127.5).round().double().square().mean()))
        decoded.append(found / 2 + 0.5)
    return _decibels(errors), torch.cat(decoded).movedim(1, -1).contiguous()


def diversity(painted: Tensor) -> float:
    """How different pictures (N, H, W, 3) are: the mean of the root of the mean squared difference, over all pairs; 0 for one."""
    if len(painted) < 2:
        return 0.0
    distances = torch.pdist(painted.flatten(1).double()) / math.sqrt(painted[0].numel())
    return float(distances.mean())


def compared(pixels: Tensor, other: Tensor, where: Tensor | None) -> dict[str, Any]:
    """PSNR in dB and the share of pixels that are the same, of pictures (N, H, W, 3) in 8 bits, only `where` (N, H, W) says so."""
    difference = (as_bytes(pixels).astype(np.int64) - as_bytes(other)).reshape(-1, 3)
    if where is not None:
        difference = difference[where.expand(pixels.shape[:3]).flatten().numpy()]
    same = float((difference == 0).all(1).mean()) if len(difference) else 1.0
    error = float(np.square(difference).mean()) if len(difference) else 0.0
    return {"pixels": len(difference), "psnr": round(_decibels([error]), 3), "same": round(same, 6)}


def as_bytes(painted: Tensor) -> NDArray[np.uint8]:
    """Pictures in [0, 1] in 8 bits."""
    return (painted * 255).round().byte().numpy().astype(np.uint8)


def judged(kind: ConditionKind, pictures: Pictures, painted: Tensor) -> dict[str, Any]:
    """What is right about painted pictures (count, H, W, 3), by programs that were not trained."""
    pixels = as_bytes(painted)
    if kind in FACTORS:
        return _enlarged(kind, pictures, pixels)
    judge = _JUDGES.get(kind)
    return {} if judge is None or not isinstance(pictures, DrawnPictures) else judge(pictures, pixels)


def _decibels(errors: list[float]) -> float:
    return 10 * math.log10(255**2 / max(sum(errors) / len(errors), 1e-12))


def _captions(pictures: DrawnPictures, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The share in which nothing is wrong that the caption demands, and how often each fault occurs."""
    return right_about([pictures.caption(index) for index in range(len(pixels))], pixels)


def right_about(texts: Sequence[str], pixels: NDArray[np.uint8], *, things: bool = True) -> dict[str, Any]:
    """The share of pictures (N, H, W, 3) in which nothing is wrong that their text demands, and how often each fault occurs.

    Without `things`, only the place and the time count.
    """
    from nodegraph_diffusion.recipes.pictureworld import faults, parse
    from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import judge_by_templates

    found = zip(texts, judge_by_templates(pixels), strict=True)
    verdicts = [[name for name in faults(parse(text), reading) if things or name in _SURROUNDINGS] for text, reading in found]
    wrong = Counter(str(name) for verdict in verdicts for name in verdict)
    return {"right": sum(not verdict for verdict in verdicts) / len(verdicts), "wrong": dict(sorted(wrong.items()))}


def _classes(pictures: DrawnPictures, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The share of pictures that show their class."""
    from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import judge_by_templates

    right = 0
    for index, reading in enumerate(judge_by_templates(pixels)):
        if pictures.classes in ("place", "time"):
            right += getattr(reading, pictures.classes) == pictures.label(index)
        else:
            seen = [getattr(thing, pictures.classes) for thing in reading.things]
            right += seen == [pictures.label(index)]
    return {"class_accuracy": right / len(pixels)}


def _layouts(pictures: DrawnPictures, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The mean overlap of the boxes of things with those that were asked for, and the share with exactly these things."""
    from nodegraph_diffusion.recipes.pictureworld.judges.boxes import overlaps
    from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import boxes_by_templates

    values: list[float] = []
    right = 0
    for index, found in enumerate(boxes_by_templates(pixels)):
        demanded = pictures.boxes(index)
        values += overlaps(demanded, found)
        right += sorted(box.label for box in demanded) == sorted(box.label for box in found)
    return {"box_iou": sum(values) / max(len(values), 1), "things_right": right / len(pixels)}


def _maps(pictures: DrawnPictures, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The share of pixels that show the class of the map, and the same for the drawn pictures of these maps."""
    from nodegraph_diffusion.recipes.pictureworld.judges.maps import agreement

    maps = [pictures.class_map(index) for index in range(len(pixels))]
    painted = [agreement(picture, labels) for picture, labels in zip(pixels, maps, strict=True)]
    drawn = [agreement(pictures.pixels(index), labels) for index, labels in enumerate(maps)]
    return {"label_agreement": sum(painted) / len(painted), "label_agreement_drawn": sum(drawn) / len(drawn)}


def _enlarged(kind: ConditionKind, pictures: Pictures, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """PSNR in dB against the pictures themselves, beside that of bicubic interpolation."""
    from nodegraph_diffusion.recipes.pictureworld import downscaled
    from nodegraph_nodes.pictures.sheets import resize_pictures

    errors: dict[str, list[float]] = {"psnr": [], "psnr_bicubic": []}
    for index, picture in enumerate(pixels):
        whole = pictures.pixels(index)
        small = torch.from_numpy(downscaled(whole, FACTORS[kind]))[None].float() / 255
        bicubic = (resize_pictures(small, whole.shape[:2], "bicubic").clamp(0, 1) * 255).round()[0].numpy()
        for name, other in (("psnr", picture), ("psnr_bicubic", bicubic)):
            errors[name].append(float(np.square(other.astype(np.float64) - whole).mean()))
    return {name: round(_decibels(values), 3) for name, values in errors.items()}


_JUDGES: dict[ConditionKind, Callable[[DrawnPictures, NDArray[np.uint8]], dict[str, Any]]] = {
    "text": _captions,
    "class": _classes,
    "layout": _layouts,
    "map": _maps,
}
