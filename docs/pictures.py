"""Makes the README's picture from the workflow that stands in it: `python docs/pictures.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from nodegraph import Engine, Workflow

ROOT = Path(__file__).resolve().parent.parent
ENLARGED, GAP = 4, 8


def side_by_side(pictures: list[Path]) -> Image.Image:
    """The pictures in a row, each pixel enlarged, so that a browser shows them as they are."""
    shown = [Image.open(path).convert("RGB") for path in pictures]
    shown = [p.resize((p.width * ENLARGED, p.height * ENLARGED), Image.Resampling.NEAREST) for p in shown]
    width = sum(p.width for p in shown) + GAP * (len(shown) - 1)
    row = Image.new("RGB", (width, max(p.height for p in shown)), "white")
    left = 0
    for picture in shown:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    return row


def main() -> None:
    workflows = ROOT / "workflows"
    with tempfile.TemporaryDirectory() as out:
        result = Engine(cache_dir=None).run(Workflow.load(workflows / "inpaint.yaml"), out=out)
        examples = workflows / "examples"
        row = side_by_side([examples / "scene.png", examples / "mask.png", *result.outputs["result"]])
    target = ROOT / "docs" / "images" / "inpaint.png"
    target.parent.mkdir(exist_ok=True)
    row.save(target, optimize=True)
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
