"""The values of this pack. Importing this module does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from nodegraph.plugin_api import dataclass
from nodegraph_nodes.types import Trained

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


ConditionKind = Literal["text", "none", "class", "layout", "map", "half", "quarter"]
"""What a denoiser is conditioned on."""


class Pictures(Protocol):
    """Pictures with captions, by index. They are read or drawn when they are needed."""

    @property
    def side(self) -> int:
        """Height and width of each picture, in pixels; if their aspect ratios differ, those of a square of about the same area."""

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a picture, in pixels."""

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """A picture, (height, width, 3)."""

    def caption(self, index: int, number: int = 0) -> str:
        """A caption of the picture; another number may give other words."""

    def label(self, index: int) -> str | None:
        """The name of the picture's class; None if it has none."""

    def words(self) -> list[str]:
        """Every word that captions may have, sorted."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Pictures with captions. The value describes them and holds no pixels; its files are part of the key of what uses it."""

    pictures: Pictures

    def __repr__(self) -> str:
        return f"<DataSet: {len(self.pictures)} pictures of {self.pictures.side}x{self.pictures.side}>"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How the training nodes train, besides what each has as inputs. None: as is usual for what is trained."""

    optimiser: Literal["adamw", "muon"] = "adamw"
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: int = 0
    clip: float | None = 1.0
    weight_decay: float | None = None
    average: float | None = None
    accumulation: int = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    recompute: bool = False
    compile: bool = False


class TrainedImageEncoder(Trained):
    """CLIP's image encoder, which shares a space of embeddings with a text encoder."""


class TrainedClassifier(Trained):
    """A classifier of noisy latents; `settings` has the names of its classes."""
