"""Generates the pictures of the README and of the pages with the workflows that they show: `python docs/pictures.py [NAME ...]`.

Those of the workflows that train take minutes each.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

from nodegraph import Engine, Workflow, sweep

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"
ENLARGED, GAP = 4, 8


def side_by_side(pictures: list[Path]) -> Image.Image:
    """The pictures in a row, with enlarged pixels, so that a browser does not blur them."""
    shown = [Image.open(path).convert("RGB") for path in pictures]
    shown = [p.resize((p.width * ENLARGED, p.height * ENLARGED), Image.Resampling.NEAREST) for p in shown]
    width = sum(p.width for p in shown) + GAP * (len(shown) - 1)
    row = Image.new("RGB", (width, max(p.height for p in shown)), "white")
    left = 0
    for picture in shown:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    return row


def below_each_other(rows: list[Image.Image]) -> Image.Image:
    """Rows of pictures as one picture."""
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height + GAP for row in rows) - GAP), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height + GAP
    return whole


def inpainted(out: Path) -> Image.Image:
    """For the README: a scene, its mask, and the result of workflows/inpaint.yaml."""
    result = Engine(cache_dir=None).run(Workflow.load(WORKFLOWS / "inpaint.yaml"), out=out)
    examples = WORKFLOWS / "examples"
    return side_by_side([examples / "scene.png", examples / "mask.png", *result.outputs["result"]])


def masks(out: Path) -> Image.Image:
    """For docs/pictures.md: a scene with a transparent hole, the mask that LoadImage makes of it, and the repainted scene."""
    scene = Image.open(WORKFLOWS / "examples" / "scene.png").convert("RGBA")
    opacity = Image.new("L", scene.size, 255)
    box = tuple(round(part * side) for part, side in zip((0.05, 0.25, 0.45, 0.85), scene.size * 2, strict=True))
    ImageDraw.Draw(opacity).ellipse(box, fill=0)
    scene.putalpha(opacity)
    hole = out / "hole.png"
    scene.save(hole)
    workflow = Workflow.load(WORKFLOWS / "inpaint.yaml")
    workflow.replace("hole", "Mask", path=hole, channel="alpha", grow=4, blur=2)
    load = workflow.add("LoadImage", path=hole)
    workflow.output("mask", load.mask, save="mask")
    result = Engine(cache_dir=None).run(workflow, params={"image": hole}, out=out)
    squares = Image.new("RGB", scene.size, "white")
    draw = ImageDraw.Draw(squares)
    for y in range(0, scene.height, 8):
        for x in range(y % 16, scene.width, 16):
            draw.rectangle((x, y, x + 7, y + 7), fill="#c8c8c8")
    squares.paste(scene, (0, 0), scene)
    squares.save(out / "squares.png")
    return side_by_side([out / "squares.png", *result.outputs["mask"], *result.outputs["result"]])


def samplers(out: Path) -> Image.Image:
    """The sheet of workflows/compare_samplers.yaml."""
    result = Engine(cache_dir=None).run(Workflow.load(WORKFLOWS / "compare_samplers.yaml"), out=out)
    return Image.open(result.outputs["sheet"][0]).convert("RGB")


def hires(out: Path) -> Image.Image:
    """For docs/workflows.md: the two pictures of workflows/hires.yaml."""
    result = Engine(cache_dir=None).run(Workflow.load(WORKFLOWS / "hires.yaml"), out=out)
    return side_by_side([*result.outputs["small"], *result.outputs["picture"]])


def variations(out: Path) -> Image.Image:
    """For docs/workflows.md: the sheet of workflows/variations.yaml."""
    result = Engine(cache_dir=None).run(Workflow.load(WORKFLOWS / "variations.yaml"), out=out)
    return side_by_side(result.outputs["sheet"])


def xy(out: Path) -> Image.Image:
    """For docs/workflows.md: the sheet of the sweep in workflows/xy.yaml."""
    sheet: Image.Image = sweep(WORKFLOWS / "xy.yaml", engine=Engine(cache_dir=None), out=out).sheet().to_pil()
    return sheet


def trained(name: str, *rows: tuple[str, ...]) -> Callable[[Path], Image.Image]:
    """For docs/training.md: what workflows/train/NAME.yaml paints, in rows of these outputs."""

    def make(out: Path) -> Image.Image:
        with Engine(cache_dir=out / "cache") as engine:
            result = engine.run(Workflow.load(WORKFLOWS / "train" / f"{name}.yaml"), out=out)
        return below_each_other([side_by_side([path for output in row for path in result.outputs[output]]) for row in rows])

    return make


PICTURES: dict[str, Callable[[Path], Image.Image]] = {
    "inpaint": inpainted,
    "samplers": samplers,
    "mask": masks,
    "hires": hires,
    "variations": variations,
    "xy": xy,
    "lora": trained("lora", ("before",), ("picture",)),
    "classifier": trained("classifier", ("before",), ("picture",)),
    "controlnet": trained("controlnet", ("edges", "picture")),
    "textual_inversion": trained("textual_inversion", ("picture",)),
}


def main() -> None:
    for name in sys.argv[1:] or PICTURES:
        with tempfile.TemporaryDirectory() as out:
            picture = PICTURES[name](Path(out))
        target = ROOT / "docs" / "images" / f"{name}.png"
        target.parent.mkdir(exist_ok=True)
        picture.save(target, optimize=True)
        print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
