"""Contact sheets of sweeps: pictures stand at their labels, and long labels are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image as pillow
from torch import Tensor

from nodegraph.plugin_api import SheetLabels
from nodegraph_nodes.models.backend import TorchBackend
from nodegraph_nodes.types import Image, Latent, Mask

RED, GREEN, BLUE = (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)


def plain(colour: tuple[float, float, float], width: int = 128, height: int = 128, count: int = 1) -> Image:
    return Image(torch.tensor(colour).expand(count, height, width, 3))


def sheet(values: list[object], labels: SheetLabels) -> Tensor:
    """The pixels of a sheet (H, W, 3)."""
    made = TorchBackend().sheet(iter(values), labels)
    assert isinstance(made, Image)
    return made.pixels[0]


def centre(pixels: Tensor, colour: tuple[float, float, float]) -> tuple[int, int]:
    """The middle (x, y) of all pixels of a colour."""
    found = (pixels == torch.tensor(colour)).all(-1).nonzero().float()
    assert len(found)
    y, x = found.mean(0).round().int().tolist()
    return x, y


def test_pictures_stand_in_columns_and_rows() -> None:
    labels = SheetLabels(width=2, title="columns: x, rows: y", columns=["a", "b"], rows=["1", "2"])
    pixels = sheet([plain(RED), plain(GREEN), plain(BLUE), None], labels)
    (red_x, red_y), (green_x, green_y), (blue_x, blue_y) = (centre(pixels, colour) for colour in (RED, GREEN, BLUE))
    assert (red_y, green_x - red_x) == (green_y, 134)
    assert (red_x, blue_y - red_y) == (blue_x, 134)
    assert 0.8 < pixels[blue_y, green_x].mean() < 0.9  # a missing value is grey
    assert (pixels[: red_y - 64, red_x - 20 : red_x + 20] < 0.5).any()  # the label of the column
    assert (pixels[red_y - 10 : red_y + 10, : red_x - 64] < 0.5).any()  # and of the row


def test_sections_have_headings() -> None:
    labels = SheetLabels(width=1, columns=["a"], rows=["1", "1"], sections=["z: p", "z: q"])
    pixels = sheet([plain(RED), plain(BLUE)], labels)
    gap = centre(pixels, BLUE)[1] - centre(pixels, RED)[1]
    assert gap > 134
    between = pixels[centre(pixels, RED)[1] + 65 : centre(pixels, BLUE)[1] - 65]
    assert (between < 0.5).any()


@pytest.mark.slow
def test_small_pictures_are_enlarged_and_large_ones_reduced() -> None:
    assert sheet([plain(RED, 32, 32)], SheetLabels(width=1)).shape[:2] == (128 + 12, 128 + 12)
    assert sheet([plain(RED, 3000, 1500)], SheetLabels(width=1)).shape[:2] == (512 + 12, 1024 + 12)
    labels = SheetLabels(width=20, cells=[str(i) for i in range(400)])
    many = sheet([plain(RED, 512, 512)] * 400, labels)
    assert max(many.shape[:2]) < 5000


def test_long_labels_are_cut() -> None:
    long = "a very long prompt that no column has room for, with a house and a boat " * 3
    labels = SheetLabels(width=2, title=long, columns=[long, "b"], rows=[long])
    pixels = sheet([plain(RED), plain(GREEN)], labels)
    assert pixels.shape[1] < 128 * 2 + 200
    head = pixels[: centre(pixels, RED)[1] - 64]
    gap = (centre(pixels, RED)[0] + 64 + centre(pixels, GREEN)[0] - 64) // 2
    assert (head[-16:, gap - 1 : gap + 1] > 0.9).all()  # the label of the first column ends before the second one


def test_batches_masks_lists_and_files_are_shown(tmp_path: Path) -> None:
    plain(BLUE).to_pil().save(tmp_path / "blue.png")
    pillow.new("L", (128, 128), 0).save(tmp_path / "black.png")
    values: list[object] = [plain(RED, count=2), Mask(torch.ones(1, 128, 128)), [plain(GREEN)], [tmp_path / "blue.png"]]
    pixels = sheet(values, SheetLabels(width=4, cells=list("abcd")))
    xs = [centre(pixels, colour)[0] for colour in (RED, GREEN, BLUE)]
    assert xs == sorted(xs)
    for value in ("text", 3, Latent(torch.zeros(1, 4, 8, 8), size=(64, 64)), [Path(__file__)]):
        with pytest.raises(ValueError, match="cannot be shown on a sheet"):
            sheet([value], SheetLabels(width=1))


def test_narrow_and_long_sheets_can_be_read() -> None:
    """The names of sections are not cut because the pictures are small, and many rows do not make them too small to see."""
    rows, sections = ["a"] * 120, [f"strength: {i / 120}" for i in range(120)]
    pixels = sheet([plain(RED)] * 120, SheetLabels(width=1, title="columns: seed", columns=["1"], rows=rows, sections=sections))
    assert pixels.shape[1] > 130  # the pictures alone are 72 wide
    assert pixels.shape[0] < 32_767
    assert int((pixels == torch.tensor(RED)).all(-1).any(1).sum()) >= 120 * 64
