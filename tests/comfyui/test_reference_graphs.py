"""Imported graphs on full-size Stable Diffusion 1.5 give the latents that ComfyUI 0.3.64 computed.

The weights are made up, as in tests/diffusion/test_reference.py, which compares more latents, with the library alone. Here are the
noise that a sampler leaves for the next one, weights of prompts, and a mask; tests/comfyui/test_meaning.py has the other meanings
that the importer gives.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest
from safetensors.torch import load_file

from nodegraph import Engine
from nodegraph.settings import MODELS_VARIABLE
from tests.support.comfy_graphs import Api, changed, node, txt2img
from tests.support.reference_latents import DATA, NEGATIVE, PROMPT

pytestmark = [pytest.mark.slow, pytest.mark.large, pytest.mark.timeout(1800)]  # seconds each, unless the machine is busy

WEIGHTED = r"a (red fox:1.4) in [deep] ((snow)), \(detailed\)"

PICTURE = {"20": node("LoadImage", image="ref_photo.png"), "21": node("VAEEncode", pixels=["20", 0], vae=["4", 2])}
MASKED = PICTURE | {"22": node("SetLatentNoiseMask", samples=["21", 0], mask=["20", 1])}
PARTS = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "noise_seed": 7, "steps": 5, "cfg": 3.0} | {
    "sampler_name": "euler",
    "scheduler": "normal",
}
FIRST = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
SECOND = {"add_noise": "disable", "start_at_step": 2, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
IN_PARTS = {
    "3": node("KSamplerAdvanced", **PARTS, **FIRST, latent_image=["5", 0]),
    "13": node("KSamplerAdvanced", **PARTS, **SECOND, latent_image=["3", 0]),
}


@dataclass(frozen=True)
class Case:
    """The name of the reference, the values of the sampler, the nodes that are added, and the node whose latent it is."""

    name: str
    sampler: dict[str, Any] = field(default_factory=dict)
    nodes: Api = field(default_factory=dict)
    prompt: str = PROMPT
    end: str = "3"


CASES = [
    Case("euler/normal", nodes=IN_PARTS, end="13"),
    Case("prompt/weighted", {"steps": 2, "cfg": 5.0}, prompt=WEIGHTED),
    Case("inpaint/1.0", {"sampler_name": "dpmpp_2m", "scheduler": "karras", "steps": 6, "latent_image": ["22", 0]}, MASKED),
]


def graph_of(case: Case, model: str) -> Api:
    usual = {"seed": 7, "steps": 5, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    graph = changed(txt2img(**usual), "3", **case.sampler) | case.nodes
    for id, inputs in {"4": {"ckpt_name": model}, "6": {"text": case.prompt}, "7": {"text": NEGATIVE}}.items():
        graph = changed(graph, id, **inputs)
    del graph["8"]
    return graph | {"9": node("SaveLatent", samples=[case.end, 0])}


@pytest.fixture(scope="module")
def reference():
    return load_file(DATA / "comfyui-sd15.safetensors")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One that remembers the digest of the large file."""
    with Engine(cache_dir=tmp_path_factory.mktemp("cache"), device="cpu", dtype="float32") as engine:
        yield engine


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_latents_of_a_graph_equal_comfyui(engine, imported, sd15_file, reference, tmp_path, monkeypatch, case):
    monkeypatch.setenv(MODELS_VARIABLE, str(sd15_file.parent))
    (tmp_path / "input").mkdir()
    shutil.copy(DATA / "ref_photo.png", tmp_path / "input")
    found = imported(graph_of(case, sd15_file.name))
    assert found.notes == ()
    (saved,) = engine.run(found.workflow, out=tmp_path).outputs["latent"]
    ours, expected = load_file(saved)["latent_tensor"], reference[case.name]
    assert ours.shape == expected.shape
    difference = float((ours - expected).abs().max() / expected.std())
    print(f"largest difference: {difference:.1e} standard deviations")
    assert difference < 1e-4
