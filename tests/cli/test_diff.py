"""`nodegraph diff`: workflows, runs and pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

import nodegraph
from nodegraph import Engine, Workflow
from nodegraph_nodes.pictures.difference import difference, ssim


def test_workflows_differ_by_name(cli, greeting):
    same = cli("diff", greeting, greeting)
    assert (same.exit_code, same.stdout) == (0, "nothing differs\n")
    text = greeting.read_text()
    changed = text.replace("default: hey", "default: ho").replace("Repeat, ", "Repeat, times: 3, ").replace("result:", "answer:")
    other = cli.write(changed.replace("nodes:\n", "nodes:\n  more: {use: Number}\n"), "other.yaml")
    ran = cli("diff", greeting, other)
    assert ran.exit_code == 1
    assert ran.stdout.splitlines() == [
        "param 'word' was hey and is ho",
        "input 'twice.times' is new: 3",
        "node 'more' is new: Number",
        "output 'result' is gone; it was {from: $twice, save: null}",
        "output 'answer' is new: {from: $twice, save: null}",
    ]
    found = cli("diff", greeting, other, "--json")
    assert (found.exit_code, found.json["same"], found.json["measured"]) == (1, False, None)
    assert found.json["changes"][0] == {"part": "param", "name": "word", "before": "hey", "after": "ho"}


def test_runs_and_workflows_are_compared(cli, greeting):
    cli("run", greeting, "-q")
    assert cli("diff", "last", greeting).exit_code == 0
    cli("run", greeting, "--set", "word=ho", "-q")
    ran = cli("diff", greeting, "last")
    assert (ran.exit_code, ran.stdout) == (1, "param 'word' was hey and is ho\n")


def test_what_cannot_be_read_is_an_error(cli, greeting):
    (cli.folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (cli.folder / "x.txt").write_bytes(b"\xff\xfe")
    (cli.folder / "folder").mkdir()
    for other in ("gone", "gone.yaml", "x.txt", "folder", "20"):
        ran = cli("diff", greeting, other)
        assert ran.exit_code == 2, (other, ran.stdout)
        assert "Traceback" not in ran.stderr
        assert "bug in" not in ran.stderr
    ran = cli("diff", "x.png", "x.png")
    assert ran.exit_code == 2
    assert "cannot be compared: x.png is not a picture that can be read" in ran.stderr
    ran = cli("diff", greeting, greeting, "-o", "x.png", "--json")
    assert ran.exit_code == 2
    assert "are not two outputs" in ran.json["problems"][0]["message"]
    assert (cli.folder / "x.png").read_bytes() == b"\x89PNG\r\n\x1a\nno"


@pytest.fixture
def pictures(cli):
    """Two pictures that runs wrote; they differ in one param."""
    pillow.new("RGB", (20, 12), (100, 100, 100)).save(cli.folder / "grey.png")
    nodes = (
        "{photo: {use: LoadImage, path: grey.png}, small: {use: Resize, image: $photo.image, scale: $params.scale}, "
        "big: {use: Resize, image: $small, width: 20, height: 12}}"
    )
    outputs = '{big: {from: $big, save: "{scale}.png"}}'
    text = f"nodegraph: 1\nparams: {{scale: 1.0}}\nnodes: {nodes}\noutputs: {outputs}\n"
    workflow = cli.write(text, "scaled.yaml")
    names = []
    for scale in ("1.0", "0.5"):
        ran = cli("run", workflow, "--set", f"scale={scale}", "-q")
        assert ran.exit_code == 0, ran.stderr
        names.append(ran.stdout.strip())
    return names


def test_pictures_are_compared_in_words_and_in_numbers(cli, pictures):
    first, second = pictures
    ran = cli("diff", first, second)
    assert ran.exit_code == 1
    assert ran.stdout.splitlines() == ["param 'scale' was 1.0 and is 0.5", "content: maximum 0.0, psnr infinite, ssim 1.0"]
    ran = cli("diff", first, first, "--json")
    assert (ran.exit_code, ran.json["measured"]) == (0, {"same": True, "maximum": 0.0, "psnr": "infinite", "ssim": 1.0})
    (cli.folder / "grey.png").unlink()  # the files of the pictures are not needed
    assert cli("diff", first, first).exit_code == 0


def test_a_picture_shows_both_and_the_difference_amplified(cli):
    one, other = np.full((12, 20, 3), 100, np.uint8), np.full((12, 20, 3), 100, np.uint8)
    other[2:5, 3:9, 0] += 10
    for name, pixels in (("one", one), ("other", other)):
        pillow.fromarray(pixels).save(cli.folder / f"{name}.png")
    ran = cli("diff", "one.png", "other.png", "-o", "seen.png", "--json")
    assert (ran.exit_code, ran.json["changes"]) == (1, [])
    error = (3 * 6 * (10 / 255) ** 2) / (12 * 20 * 3)
    assert ran.json["measured"]["maximum"] == pytest.approx(10, abs=1e-3)
    assert ran.json["measured"]["psnr"] == pytest.approx(-10 * math.log10(error), abs=1e-3)
    with pillow.open(cli.folder / "seen.png") as seen:
        sheet = np.asarray(seen)
    assert sheet.shape == (12, 3 * 20 + 2 * 8, 3)
    assert (sheet[:, :20] == one).all()
    assert (sheet[:, 28:48] == other).all()
    assert (sheet[2:5, 59:65] == (255, 0, 0)).all()
    assert sheet[:, 56:].astype(int).sum() == 3 * 6 * 255
    pillow.new("RGB", (5, 5)).save(cli.folder / "five.png")
    ran = cli("diff", "one.png", "five.png")
    assert ran.exit_code == 2
    assert "expected two pictures of one size, found 20x12 and 5x5" in ran.stderr


def test_pictures_of_other_programs_are_compared_by_their_settings(cli):
    for seed in (5, 6):
        info = PngInfo()
        info.add_text("parameters", f"a castle\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: {seed}, Size: 2x2, Version: v1.10.1")
        pillow.new("RGB", (2, 2)).save(cli.folder / f"{seed}.png", pnginfo=info)
    ran = cli("diff", "5.png", "6.png")
    assert (ran.exit_code, ran.stdout.splitlines()[0]) == (1, "setting 'seed' was 5 and is 6")


def test_ssim_is_that_of_the_paper():
    """Against a direct computation, window by window, in NumPy."""
    random = np.random.default_rng(3)
    x, y = random.random((14, 13)), random.random((14, 13))
    steps = np.arange(11) - 5
    line = np.exp(-(steps**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    values = []
    for i in range(4):
        for j in range(3):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4) / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )
    one, other = (torch.from_numpy(values)[..., None].expand(-1, -1, 3) for values in (x, y))
    assert ssim(one, other) == pytest.approx(np.mean(values), abs=1e-9)


def test_in_python(cli, greeting):
    with Engine(cli.folder / "cache", plugin_dirs=[cli.env["NODEGRAPH_PLUGIN_DIR"]]) as engine:
        workflow = Workflow.load(greeting)
        assert not nodegraph.diff(workflow, greeting, engine=engine)
        found = nodegraph.diff(workflow, workflow.with_({"word": "ho"}), engine=engine)
        assert found
        assert [str(change) for change in found.changes] == ["param 'word' was hey and is ho"]


def test_a_very_small_picture_has_a_similarity(tmp_path):
    for name, value in (("a", 0), ("b", 255)):
        pillow.new("RGB", (1, 1), (value,) * 3).save(tmp_path / f"{name}.png")
    measured = difference(tmp_path / "a.png", tmp_path / "b.png", None)
    assert (measured["maximum"], measured["psnr"]) == (255, 0.0)
    assert json.dumps(measured)
