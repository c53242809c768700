"""What users of other programs type: names of samplers, settings, model addresses, and graphs of ComfyUI."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from PIL import Image

from tests.support.comfy_graphs import changed, node, picture, txt2img


@pytest.mark.parametrize(
    "setting",
    [
        "sampled.sampler=Euler A",
        "sampled.sampler=DPM++ 2M",
        "sampled.sampler=dpm++-2m",
        "sampled.schedule=Karras",
        "sampled.sampler=EulerAncestralDiscreteScheduler",
    ],
)
def test_names_of_other_programs_are_accepted(cli, setting):
    ran = cli("check", "txt2img", "--set", setting)
    assert (ran.exit_code, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("sampled.sampler=DPM++ 2M Karras", "Did you mean the sampler 'dpmpp_2m' and the schedule 'karras'?"),
        ("sampled.sampler=ddpm_2m", "Did you mean 'dpmpp_2m'?"),
        ("cfg=10", "Did you mean 'denoiser.cfg'?"),
        ("seed=-1", "found -1. Write 'random' for a number that is drawn."),
        ("model=org/name", "hf://org/name"),
        ("sampled.options.eta=1", "dpmpp_2m has no option 'eta' ('options' of node 'sampled'). It has no options."),
    ],
)
def test_settings_of_other_programs_get_a_suggestion(cli, setting, hint):
    ran = cli("check", "txt2img", "--set", setting)
    assert ran.exit_code == 2
    assert hint in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_one_option_of_a_sampler_is_set(cli):
    args = ("--set", "sampled.sampler=ddim", "--set", "sampled.options.eta=1")
    assert cli("check", "txt2img", *args).exit_code == 0
    assert cli("show", "txt2img", *args, "--json").json["nodes"]["sampled"]["inputs"]["options"] == {"eta": 1}


def test_graph_of_comfyui_is_read_by_every_command(cli):
    for name in ("graph.json", "graph.yaml"):
        path = cli.write(json.dumps(txt2img()), name)
        assert cli("check", path).exit_code == 0
        assert cli("show", path, "--json").json["nodes"]["sampled"]["inputs"]["steps"] == "$params.steps"
        assert "sampled" in cli("explain", path).stdout
    assert cli("check", "-", stdin=json.dumps(txt2img())).exit_code == 0


def test_graph_of_comfyui_runs_also_from_a_picture(cli):
    (cli.folder / "x.png").write_bytes(picture(prompt=json.dumps(txt2img())))
    small = ("--set", "width=16", "--set", "height=16", "--set", "steps=1")
    for source in (cli.write(json.dumps(txt2img()), "graph.json"), cli.folder / "x.png"):
        ran = cli("run", source, *small, "--out", cli.folder / source.stem, "--json")
        assert ran.json["status"] == "done"
        with Image.open(ran.json["outputs"]["image"][0]) as painted:
            assert painted.size == (16, 16)
    assert "sampled" in cli("explain", cli.folder / "x.png").stdout


def test_missing_model_is_a_note_at_import_and_an_error_at_run(cli, monkeypatch):
    source = cli.write(json.dumps(changed(txt2img(), "4", ckpt_name="sd\\dreamshaper.safetensors")), "graph.json")
    model = cli.folder / "ComfyUI/models/checkpoints/sd/dreamshaper_8.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"")
    (cli.folder / "ComfyUI/folder_paths.py").write_bytes(b"")
    monkeypatch.setenv("NODEGRAPH_MODELS", str(cli.folder / "ComfyUI"))
    ran = cli("import", source)
    assert ran.exit_code == 0
    assert "model: sd/dreamshaper.safetensors" in ran.stdout
    assert "note: node 4 (CheckpointLoaderSimple): " in ran.stderr
    for command in ("run", "check"):
        failed = cli(command, source)
        assert failed.exit_code == 2
        assert "Did you mean one of: checkpoints/sd/dreamshaper_8?" in failed.stderr
    model.rename(model.with_name("dreamshaper.safetensors"))
    assert cli("import", source).stderr == ""
    (cli.folder / "ComfyUI/extra_model_paths.yaml").write_text(f"mine:\n  base_path: {cli.folder}\n  checkpoints: others\n")
    model.with_name("dreamshaper.safetensors").rename(cli.folder / "moved.safetensors")
    assert "note: node 4" in cli("import", source).stderr
    (cli.folder / "others/sd").mkdir(parents=True)
    (cli.folder / "moved.safetensors").rename(cli.folder / "others/sd/dreamshaper.safetensors")
    assert cli("import", source).stderr == ""


def test_picture_of_comfyui_is_read(cli):
    (cli.folder / "x.png").write_bytes(picture(prompt=json.dumps(txt2img())))
    assert cli("check", cli.folder / "x.png").exit_code == 0
    assert "made by ComfyUI" in cli("show", cli.folder / "x.png").stdout
    assert cli("show", cli.folder / "x.png", "--json", "--resolved").json["params"]["steps"]["value"] == 2


def test_graph_is_imported_as_a_file(cli):
    source, target = cli.write(json.dumps(txt2img()), "graph.json"), cli.folder / "w.yaml"
    ran = cli("import", source, "-o", target)
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, f"{target}\n", "")
    text = target.read_text(encoding="utf-8")
    assert text.startswith("nodegraph: 1\n# Imported from graph.json.\n")
    assert cli("show", target, "--json").json["params"] == cli("show", source, "--json").json["params"]
    assert cli("import", source).stdout == text
    again = cli("import", source, "-o", target)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert cli("import", source, "-o", target, "--overwrite", "--json").json == {"file": str(target), "notes": [], "left_out": []}


def test_part_of_a_graph_is_imported(cli):
    source = cli.write(json.dumps(txt2img() | {"50": node("Odd", image=["8", 0])}), "graph.json")
    refused = cli("import", source)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "there is no counterpart of Odd: node 50 (Odd)" in refused.stderr
    part = cli("import", source, "--partial")
    assert part.exit_code == 1
    assert "left out: node 50 (Odd)" in part.stderr
    assert "# - node 50 (Odd)" in part.stdout
    assert "  image: {from: $image" in part.stdout


@pytest.mark.parametrize("text", ["nodegraph: 1\nnodes: {}\n", "hello", "[]"])
def test_other_files_are_not_imported(cli, text):
    ran = cli("import", cli.write(text, "x.yaml"))
    assert ran.exit_code == 2
    assert "x.yaml is no graph of another program" in ran.stderr
    assert cli("import", "missing.json").exit_code == 2


def test_importers_and_exporters_are_listed(cli):
    assert cli("importers").stdout.startswith("comfyui  Graphs of ComfyUI")
    assert cli("exporters").exit_code == 0


def test_versions_with_known_holes_are_excluded():
    """Each of these bounds has a comment that says why."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    wanted = {"pillow": "12.3", "torch": "2.10", "transformers": "5.10"}
    assert {f"{name}>={version}" for name, version in wanted.items()} <= set(tomllib.loads(text)["project"]["dependencies"])
    for name, version in wanted.items():
        (line,) = (line for line in text.splitlines() if f'"{name}>={version}"' in line)
        assert "CVE-" in line or "known security holes" in line
    assert {f"{name}>={version}" for name, version in wanted.items()} <= set(requires("nodegraph") or ())
