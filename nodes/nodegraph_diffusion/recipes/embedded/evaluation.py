"""How good the model is: pictures for captions that were fixed beforehand, read by judges that do not know the captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.embedded.data import SIDE, pictures
from nodegraph_diffusion.recipes.embedded.painting import Model, paint, repaint
from nodegraph_diffusion.recipes.pictureworld import COLOURS, KINDS, Reading, Scene, caption, faults, parse, scene
from nodegraph_diffusion.recipes.pictureworld.captions import Fault, Style
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.scene import UNIT

Judge = Callable[[NDArray[np.uint8]], list[Reading]]
SEED = 1 << 22
"""The seed of the scenes whose captions are painted: no other part of the project draws these."""
SHOWN = 6
"""How many pictures of each kind the model card shows: the first ones, not selected."""
HOLE_MARGIN = 40
"""How far a hole reaches beyond the box of the thing that it replaces, in units of a scene."""


@dataclass(frozen=True)
class Score:
    """By one judge: how many of `total` pictures are right in everything, and what is wrong with the others."""

    right: int
    total: int
    wrong: Counter[str]


def full_captions(things: int, count: int) -> list[str]:
    """Captions that name every attribute of scenes with `things` things and held-out combinations."""
    return [caption(scene(SEED, index, combinations="held-out", count=things), 0, "full") for index in range(count)]


def open_captions(count: int) -> list[str]:
    """Captions that leave most things open, of scenes with one to three things."""
    return [caption(scene(SEED, index, count=1 + index % 3), 0, "open") for index in range(count)]


def counting_captions(count: int) -> list[str]:
    """Captions that count equal things, such as "two trees"."""
    styles: tuple[Style, ...] = ("open", "mixed")
    found: list[str] = []
    index = 0
    while len(found) < count:
        text = caption(scene(SEED + 1, index, count=2 + index % 2), 0, styles[index // 2 % 2])
        if any(group.count > 1 for group in parse(text).groups):
            found.append(text)
        index += 1
    return found


def verdicts_of(judge: Judge, painted: NDArray[np.uint8], captions: Sequence[str]) -> list[list[Fault]]:
    """In what the judge's reading of each picture differs from what its caption demands."""
    return [faults(parse(text), reading) for text, reading in zip(captions, judge(painted), strict=True)]


def score_of(verdicts: Sequence[Sequence[Fault]]) -> Score:
    """The score that these verdicts give."""
    wrong = Counter[str](name for verdict in verdicts for name in verdict)
    return Score(sum(not verdict for verdict in verdicts), len(verdicts), wrong)


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A scene's picture in which one thing is replaced: by `kind` and `colour`, inside the rectangle of pixels."""

    scene: Scene
    kind: str
    colour: str
    rows: slice
    columns: slice

    @property
    def caption(self) -> str:
        """A prompt that names only the new thing."""
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self.colour} {self.kind}"


def holes(count: int) -> list[Hole]:
    """Scenes with two or three things, of which one is to be replaced."""
    found = []
    for index in range(count):
        each = scene(SEED + 2, index, count=2 + index % 2)
        stream = Stream("hole", SEED, index)
        box = stream.choice(each.things).box
        top, left = (max(0, edge - HOLE_MARGIN) * SIDE // UNIT for edge in (box.top, box.left))
        bottom, right = (min(UNIT, edge + HOLE_MARGIN) * SIDE // UNIT for edge in (box.bottom, box.right))
        kind, colour = stream.choice(KINDS), stream.choice(COLOURS)
        found.append(Hole(scene=each, kind=kind, colour=colour, rows=slice(top, bottom), columns=slice(left, right)))
    return found


def score_holes(judge: Judge, painted: NDArray[np.uint8], asked: Sequence[Hole]) -> Score:
    """How often place and time stay as they were. Counted besides, as "thing": the new thing is not in the hole."""
    unchanged, wrong = 0, Counter[str]()
    for hole, reading in zip(asked, judge(painted), strict=True):
        lost = [name for name in ("place", "time") if getattr(reading, name) != getattr(hole.scene, name)]
        unchanged += not lost
        wrong.update(lost)
        wrong["thing"] += not any(
            (seen.kind, seen.colour) == (hole.kind, hole.colour)
            and hole.rows.start <= seen.y * SIDE // UNIT < hole.rows.stop
            and hole.columns.start <= seen.x * SIDE // UNIT < hole.columns.stop
            for seen in reading.things
        )
    return Score(unchanged, len(asked), +wrong)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What captions of one kind gave: a score by each judge, in how many pictures the judges disagree, and the first pictures."""

    scores: Mapping[str, Score]
    disagreements: int | None
    first: NDArray[np.uint8]


def evaluate(model: Model, judges: Mapping[str, Judge], count: int) -> dict[str, Result]:
    """Results by kind: `count` captions of one, two and three things and of open ones; a third as many of the others."""
    captions = {f"{things} held-out": full_captions(things, count) for things in (1, 2, 3)}
    captions |= {"open": open_captions(count), "counts": counting_captions(-(-count // 3))}
    results = {}
    for name, texts in captions.items():
        painted = paint(model, texts)
        verdicts = {judge: verdicts_of(read, painted, texts) for judge, read in judges.items()}
        results[name] = Result(
            scores={judge: score_of(found) for judge, found in verdicts.items()},
            disagreements=sum(len({bool(verdict) for verdict in each}) > 1 for each in zip(*verdicts.values(), strict=True)),
            first=painted[:SHOWN],
        )
    asked = holes(-(-count // 3))
    masks = np.zeros((len(asked), SIDE, SIDE), np.bool_)
    for mask, hole in zip(masks, asked, strict=True):
        mask[hole.rows, hole.columns] = True
    painted = repaint(model, [hole.caption for hole in asked], pictures([hole.scene for hole in asked]), masks)
    scores = {name: score_holes(judge, painted, asked) for name, judge in judges.items()}
    results["holes"] = Result(scores=scores, disagreements=None, first=painted[:SHOWN])
    return results
