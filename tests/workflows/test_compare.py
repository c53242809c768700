"""workflows/compare_samplers.yaml makes a labelled sheet and recomputes only what changed."""

from __future__ import annotations

import json

from click.testing import CliRunner
from PIL import Image

from nodegraph.cli import main
from tests.support.workspace import Ran

COLUMNS = ("euler", "heun", "dpmpp_2m", "ancestral", "dpm_solver_3", "converged")
WIDTH, GAP, BAND = 24, 4, 22


def compared(workspace, *settings):
    words = ["run", "workflows/compare_samplers.yaml", "--cache-dir", "cache", "--json"]
    sets = [f"model={workspace.model}", f"width={WIDTH}", "steps=2", "converged.steps=3", *settings]
    result = CliRunner().invoke(main, [*words, *(word for each in sets for word in ("--set", each))], prog_name="nodegraph")
    return Ran(result.exit_code, result.stdout, result.stderr)


def test_sheet_has_a_column_for_each_sampler(workspace):
    ran = compared(workspace)
    with Image.open(ran.path(workspace.folder)) as sheet:
        assert sheet.size == (len(COLUMNS) * (WIDTH + GAP) - GAP, 3 * (WIDTH + GAP) - GAP + 2 * BAND)
        white = {
            sheet.getpixel((column * (WIDTH + GAP) - GAP // 2, y)) for column in (1, 2, 3) for y in range(BAND, sheet.height - BAND)
        }
        assert white == {(255, 255, 255)}
        headings = [sheet.crop((k * (WIDTH + GAP), 0, k * (WIDTH + GAP) + WIDTH, BAND)) for k in range(len(COLUMNS))]
    assert all(heading.convert("L").getextrema()[0] < 128 for heading in headings)


def test_new_sampler_recomputes_only_its_column(workspace):
    compared(workspace)
    again = compared(workspace, "heun.sampler=dpm_2", "heun_labelled.text=dpm_2")
    assert again.named("ran") - {"model", "denoiser"} == {
        "heun",
        "heun_pictures",
        "heun_shown",
        "heun_column",
        "heun_labelled",
        "grid",
        "sheet",
    }
    assert compared(workspace, "heun.sampler=dpm_2", "heun_labelled.text=dpm_2").named("ran") == set()


def test_samplers_start_from_the_same_noise(workspace):
    nodes = json.loads(compared(workspace, "euler.steps=3", "euler.sampler=dpmpp_2m").stdout)["nodes"]
    assert nodes["euler"]["key"] == nodes["converged"]["key"]


def test_sampler_with_equal_steps_recomputes_nothing(workspace):
    compared(workspace)
    again = compared(workspace, "heun.sampler=ddim", "heun_labelled.text=ddim")
    assert again.named("ran") - {"model", "denoiser"} == {"heun", "heun_labelled", "grid", "sheet"}
