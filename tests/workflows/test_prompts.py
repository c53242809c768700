"""Workflows that combine prompts, give them areas and time ranges, and store and read them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from nodegraph.cli import main

WORKFLOW = """\
nodegraph: 1
params:
  left: a red house
  model: builtin:tiny
nodes:
  model: {use: LoadModel, model: $params.model}
  whole: {use: TextEncode, text_encoder: $model.text_encoder, text: "a (blue:1.2) boat BREAK at [night]", syntax: a1111}
  left: {use: TextEncode, text_encoder: $model.text_encoder, text: $params.left, clip_skip: 2}
  area: {use: SetArea, conditioning: $left, width: 0.5, height: 1, unit: fraction}
  late: {use: SetRange, conditioning: $area, start: 0.3}
  white: {use: Mask, path: workflows/examples/mask.png}
  masked: {use: SetMask, conditioning: $whole, mask: $white, strength: 0.5, mask_bounds: true}
  mean: {use: AverageConditioning, conditioning_to: $whole, conditioning_from: $left, conditioning_to_strength: 0.6}
  longer: {use: ConcatConditioning, conditioning_to: $mean, conditioning_from: $left}
  some: {use: CombineConditioning, conditioning_1: $late, conditioning_2: $masked}
  all: {use: CombineConditioning, conditioning_1: $longer, conditioning_2: $some}
  sized: {use: SizeCondition, conditioning: $all, width: 640, height: 480}
  nothing: {use: ZeroOut, conditioning: $whole}
  latent: {use: EmptyLatent, vae: $model.vae}
  noise: {use: Noise, like: $latent, seed: 3}
  denoiser: {use: UNetDenoise, unet: $model.unet, positive: $sized, negative: $nothing}
  sampled: {use: Sampler, denoiser: $denoiser, latent: $latent, noise: $noise, steps: 3}
  picture: {use: VAEDecode, vae: $model.vae, latent: $sampled}
outputs:
  picture: {from: $picture, save: "mixed.png"}
"""


@pytest.fixture
def run(workspace):
    """The status of each node in a run with some settings."""
    (workspace.folder / "mixed.yaml").write_text(WORKFLOW, encoding="utf-8")

    def statuses(*settings, options=()):
        sets = [word for setting in (f"model={workspace.model}", *settings) for word in ("--set", setting)]
        result = CliRunner().invoke(main, ["run", "mixed.yaml", *sets, "--cache-dir", "cache", "--json", *options])
        assert result.exit_code == 0, result.stderr
        return {name: node["status"] for name, node in json.loads(result.stdout)["nodes"].items()}

    return statuses


def test_prompt_settings_are_stored_and_change_the_picture(run, workspace):
    assert set(run().values()) == {"ran"}
    first = (workspace.folder / "out/mixed.png").read_bytes()
    assert "ran" not in run("late.start=0.3").values()
    moved = {name for name, status in run("area.x=0.5").items() if status == "ran"}
    assert moved - {"model"} == {"area", "late", "some", "all", "sized", "denoiser", "sampled", "picture"}
    assert (workspace.folder / "out/mixed-2.png").read_bytes() != first
    longer = {name for name, status in run("sampled.steps=4").items() if status == "ran"}
    assert longer - {"model"} == {"denoiser", "sampled", "picture"}  # the prompts come from the cache
