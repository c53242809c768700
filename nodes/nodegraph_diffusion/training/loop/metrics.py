"""What a run reports: figures as lines of JSON, as TensorBoard events, and as pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The figures of a run after `step` steps; `figures` are means over the steps since the line before.

    `seconds` is the time since the run began, without pauses; `gradients` has the norm of each network's last gradient before
    clipping.
    """

    step: int
    seconds: float
    steps_per_second: float
    learning_rate: float
    figures: Mapping[str, float]
    gradients: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is. `metrics` are the last, `preview` is the last grid of samples, (3, H, W) in [-1, 1] (None: not yet)."""

    step: int
    steps: int
    seconds_left: float | None
    metrics: Metrics | None
    preview: Tensor | None


class Observer(Protocol):
    """Receives each line of metrics."""

    def __call__(self, metrics: Metrics, /) -> None: ...


@runtime_checkable
class ShowsSamples(Protocol):
    """An observer that also receives sample pictures."""

    def show_samples(self, grid: Tensor, step: int, /) -> None:
        """A grid of samples, (3, H, W) in [-1, 1], after so many steps."""


class MetricsFile:
    """Metrics as lines of JSON in a file. Lines of steps after `step`, which the run does again, are removed first."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        partial.replace(path)

    def __call__(self, metrics: Metrics) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(asdict(metrics))) + "\n")


def _finite(record: object) -> object:
    """JSON has no infinity: null stands for it."""
    if isinstance(record, dict):
        return {key: _finite(value) for key, value in record.items()}
    return None if isinstance(record, float) and not math.isfinite(record) else record


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file, without a last one whose end a kill cut off."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


class TensorBoard:
    """Metrics and sample pictures as events for TensorBoard in a folder.

    Raises ImportError unless the extra `tensorboard` is installed.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard is not installed: pip install 'nodegraph[tensorboard]', or train without it") from error
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def __call__(self, metrics: Metrics) -> None:
        """Write the events of a line of metrics."""
        rates = {"learning_rate": metrics.learning_rate, "steps_per_second": metrics.steps_per_second}
        norms = {f"gradient/{name}": norm for name, norm in metrics.gradients.items()}
        for name, value in {**metrics.figures, **norms, **rates}.items():
            self._writer.add_scalar(name, value, metrics.step)
        self._writer.flush()

    def show_samples(self, grid: Tensor, step: int) -> None:
        """Write the event of a grid of samples."""
        self._writer.add_image("samples", grid.clamp(-1, 1) / 2 + 0.5, step)
        self._writer.flush()


def picture_grid(pictures: Tensor, gap: int = 2) -> Tensor:
    """Pictures (B, 3, H, W) in rows and columns, about as many of each, with white gaps: (3, H', W')."""
    count, channels, height, width = pictures.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = torch.ones(channels, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        grid[:, top : top + height, left : left + width] = picture
    return grid


def write_picture(picture: Tensor, path: Path) -> None:
    """Write a picture, (3, H, W) in [-1, 1], as a PNG."""
    from PIL import Image

    pixels = picture.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.numpy()).save(path)
