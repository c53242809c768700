"""All figures of a trained model: how they are measured, and what the targets are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.embedded import autoencoder
from nodegraph_diffusion.recipes.embedded.data import held_out_scenes, pictures
from nodegraph_diffusion.recipes.embedded.evaluation import Judge, evaluate
from nodegraph_diffusion.recipes.embedded.export import explained_by_preview
from nodegraph_diffusion.recipes.embedded.painting import Model
from nodegraph_diffusion.recipes.pictureworld.judges.accuracy import compared, judged_scenes, rejections
from nodegraph_diffusion.recipes.pictureworld.judges.distortions import DISTORTIONS, distorted
from nodegraph_diffusion.recipes.pictureworld.sheet import drawn

TARGETS: Final[Mapping[str, float]] = {"1 held-out": 0.99, "2 held-out": 0.97, "3 held-out": 0.90, "holes": 0.90}
"""The shares of right pictures, by the lower of the two judges, that were aimed at before the first training."""
DECIBELS, JUDGE_RIGHT = 33.0, 0.98
"""What was aimed at for the autoencoder, and for each judge on drawn pictures."""


def measure(
    folder: Path, model: Model, judges: Mapping[str, Judge], *, measured: int, evaluated: int
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """The figures of the model in `folder` as plain data, and the first pictures for each kind of caption.

    `measured` drawn pictures are for the autoencoder and the judges; `evaluated` captions of each kind are painted.
    """
    held_out = pictures(held_out_scenes(measured))
    results = evaluate(model, judges, evaluated)
    figures = {
        "decibels": autoencoder.psnr(model.vae, held_out),
        "measured": measured,
        "preview": explained_by_preview(folder / "preview.json", model.vae, held_out),
        "judges": {name: _judged(judge, measured) for name, judge in judges.items()},
        "painted": {
            name: {
                "disagreements": result.disagreements,
                "scores": {
                    judge: {"right": score.right, "total": score.total, "wrong": dict(score.wrong.most_common())}
                    for judge, score in result.scores.items()
                },
            }
            for name, result in results.items()
        },
    }
    return figures, {name: result.first for name, result in results.items()}


def _judged(judge: Judge, count: int) -> dict[str, str]:
    """How a judge reads drawn pictures of held-out combinations, as drawn and distorted, and which wrong captions it rejects."""
    scenes = judged_scenes(count)
    readings = {name: judge(distorted(drawn(scenes), name)) for name in DISTORTIONS}
    found = {name: str(compared(each, scenes)) for name, each in readings.items()}
    if count > 1:
        found["wrong captions rejected"] = str(rejections(readings["as drawn"], scenes))
    return found


def lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures as lines of text."""
    explained = ", ".join(f"{100 * share:.0f} %" for share in figures["preview"])
    found = [
        f"autoencoder: {figures['decibels']:.2f} dB on {figures['measured']} pictures, half of them of held-out combinations",
        f"previews: explain {explained} of the variance of red, green and blue",
    ]
    for judge, by_distortion in figures["judges"].items():
        found += [f"judge, {judge}, {name}: {value}" for name, value in by_distortion.items()]
    for kind, result in figures["painted"].items():
        found += [f"{kind}, {judge}: {score_text(score)}" for judge, score in result["scores"].items()]
        if result["disagreements"] is not None:
            found.append(f"{kind}: the judges disagree about {result['disagreements']}")
    return found


def score_text(score: Mapping[str, Any]) -> str:
    """A score such as "98 of 100 (wrong: size 2)"."""
    details = ", ".join(f"{name} {count}" for name, count in score["wrong"].items())
    return f"{score['right']} of {score['total']}" + (f" (wrong: {details})" if details else "")
