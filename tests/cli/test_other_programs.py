"""What users of other programs type: names of samplers, settings, model addresses, and graphs of ComfyUI."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20, "model": ["4", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}},
}


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


def test_graph_of_comfyui_that_is_given_to_run_is_recognised(cli):
    for name in ("graph.json", "graph.yaml"):
        ran = cli("run", cli.write(json.dumps(GRAPH), name))
        assert ran.exit_code == 2
        assert ran.stderr.startswith(f"[E101] {name} is a graph of ComfyUI in API format, ")
        assert "'nodegraph nodes KSampler'" in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_versions_with_known_holes_are_excluded():
    """Each of these bounds has a comment that says why."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    wanted = {"pillow": "12.3", "torch": "2.10", "transformers": "5.10"}
    assert {f"{name}>={version}" for name, version in wanted.items()} <= set(tomllib.loads(text)["project"]["dependencies"])
    for name, version in wanted.items():
        (line,) = (line for line in text.splitlines() if f'"{name}>={version}"' in line)
        assert "CVE-" in line or "known security holes" in line
    assert {f"{name}>={version}" for name, version in wanted.items()} <= set(requires("nodegraph") or ())
