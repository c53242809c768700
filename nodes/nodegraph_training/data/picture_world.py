"""Drawn pictures as a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nodegraph.plugin_api import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nodegraph_diffusion.recipes.pictureworld import LabelledBox, Scene

Combinations = Literal["training", "held-out", "all"]
Style = Literal["full", "mixed", "open"]
Classes = Literal["kind", "colour", "place", "time"]


@dataclass(frozen=True, kw_only=True)
class DrawnPictures:
    """Scenes of the picture world, drawn when they are needed; `things` is their number in each (None: it varies)."""

    count: int
    side: int
    seed: int
    combinations: Combinations
    things: int | None
    style: Style
    classes: Classes = "kind"

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """What a picture shows."""
        from nodegraph_diffusion.recipes.pictureworld import scene

        return scene(self.seed, index, combinations=self.combinations, count=self.things)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        return self.side, self.side

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """A picture, (side, side, 3)."""
        from nodegraph_diffusion.recipes.pictureworld import draw

        return draw(self.scene(index), self.side)

    def caption(self, index: int, number: int = 0) -> str:
        """A caption of the picture."""
        from nodegraph_diffusion.recipes.pictureworld import caption

        return caption(self.scene(index), number, self.style)

    def label(self, index: int) -> str | None:
        """The place or the time; or the kind or the colour of the thing, if there is one thing."""
        scene, classes = self.scene(index), self.classes
        if classes == "place" or classes == "time":
            return scene.place if classes == "place" else scene.time
        if len(scene.things) != 1:
            return None
        return scene.things[0].kind if classes == "kind" else scene.things[0].colour

    def boxes(self, index: int) -> list[LabelledBox]:
        """The things in a picture, with their boxes."""
        from nodegraph_diffusion.recipes.pictureworld import layout

        return layout(self.scene(index))

    def class_map(self, index: int) -> NDArray[np.uint8]:
        """The class of each pixel of a picture, (side, side)."""
        from nodegraph_diffusion.recipes.pictureworld import draw_with_map

        return draw_with_map(self.scene(index), self.side)[1]

    def words(self) -> list[str]:
        """Every word that captions may have, sorted."""
        from nodegraph_diffusion.recipes.pictureworld import words

        return sorted(words())
