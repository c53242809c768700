"""The memory budget bounds how many networks a process holds, whatever nodes and results still refer to them."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
from safetensors.torch import save_file

from nodegraph import Engine, Workflow
from nodegraph.plugin_api import events
from nodegraph_diffusion import checkpoint
from nodegraph_diffusion.adapters.lora import patch
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.checkpoint.layouts.lora import flat
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from tests.support import small_model
from tests.support import synthetic_checkpoints as synthetic
from tests.support.adapted_models import save_models, workflow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_models(tmp_path_factory.mktemp("models"))


class Watched:
    """An engine with a budget, the networks that it loaded and that are in memory, and the most of them while nodes ran."""

    def __init__(self, budget: str, loaded: WeakSet[torch.nn.Module]) -> None:
        self._loaded, self._others, self.most = loaded, WeakSet(loaded), 0
        self.engine = Engine(None, device="cpu", dtype="float32", on_event=self.receive, model_memory=budget)

    def receive(self, event: events.Event) -> None:
        if isinstance(event, events.NodeProgress | events.NodeStarted):
            self.most = max(self.most, self.live())

    def live(self) -> int:
        return len(set(self._loaded) - set(self._others))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Watched]]:
    loaded: WeakSet[torch.nn.Module] = WeakSet()

    def noting(function: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
        def note(*arguments: Any) -> torch.nn.Module:
            network = function(*arguments)
            loaded.add(network)
            return network

        return note

    for module, name in ((checkpoint, "load_unet"), (checkpoint, "load_controlnet"), (patch, "patched")):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    made: list[Watched] = []

    def make(budget: str) -> Watched:
        made.append(Watched(budget, loaded))
        return made[-1]

    yield make
    for one in made:
        one.engine.close()


PROMPTS = ("a red house", "a blue house", "a boat", "a boat at night")


def test_four_prompts_leave_one_network(models, watched):
    tight = watched("1 kB")
    first = [tight.engine.run(workflow(models, "plain", prompt))["latent"].samples for prompt in PROMPTS]
    assert (tight.most, tight.live()) == (1, 1)
    again = tight.engine.run(workflow(models, "plain", PROMPTS[0]))
    assert again.ran == ()  # hits do not need the network
    loose = watched("1 GB")
    assert all(
        torch.equal(loose.engine.run(workflow(models, "plain", prompt))["latent"].samples, latent)
        for prompt, latent in zip(PROMPTS, first, strict=True)
    )


def base_and_refiner(models: Path, prompt: str) -> Workflow:
    w = Workflow("w")
    model = w.add("LoadModel", model=str(models / "model"))
    latent = w.add("EmptyLatent", vae=model.vae, width=32, height=32)
    drawn = w.add("Noise", like=latent, seed=1)
    encoded = w.add("TextEncode", text_encoder=model.text_encoder, text=prompt)
    for unet in (model.unet, w.add("LoadUNet", unet=str(models / "other")), model.unet):
        denoiser = w.add("UNetDenoise", unet=unet, positive=encoded, negative=encoded)
        latent = w.add("Sampler", denoiser=denoiser, latent=latent, noise=drawn, steps=2, strength=0.5)
    w.output("latent", latent)
    return w


@pytest.fixture(scope="module")
def two_models(models: Path) -> Path:
    small_model.save_small_model(models / "second", salt="second")
    (models / "second" / "unet").rename(models / "other")
    return models


def test_base_and_refiner_are_not_in_memory_together(two_models, watched):
    tight = watched("1 kB")
    ours = tight.engine.run(base_and_refiner(two_models, "a boat"))["latent"].samples
    assert (tight.most, tight.live()) == (1, 1)
    loose = watched("1 GB")
    assert torch.equal(loose.engine.run(base_and_refiner(two_models, "a boat"))["latent"].samples, ours)
    assert loose.live() == 2


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "limit"), [("LoadLora", 1), ("ApplyControlNet", 2), ("ApplyControlNet, a difference", 2)])
def test_adapted_networks_are_taken_back_too(models, watched, kind, limit):
    """What a node uses at once stays: a UNet and its ControlNet."""
    tight = watched("1 kB")
    ours = [tight.engine.run(workflow(models, kind, prompt))["latent"].samples for prompt in PROMPTS[:2]]
    assert tight.most == limit
    tight.engine.run(workflow(models, "plain", PROMPTS[0]))
    assert tight.live() == 1
    loose = watched("1 GB")
    for prompt, latent in zip(PROMPTS, ours, strict=False):
        assert torch.equal(loose.engine.run(workflow(models, kind, prompt))["latent"].samples, latent)


def test_denoiser_outside_a_run_loads_its_network_again(models, watched):
    tight = watched("1 kB")
    w = workflow(models, "plain", "a boat")
    x = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4)
    denoiser = tight.engine.run(w, targets=["denoiser"])["denoiser"]
    assert tight.live() == 0  # nothing has been computed with it
    before = denoiser.function(x, 2.0)
    tight.engine.run(workflow(models, "ApplyInpaint", "a boat"))
    assert torch.equal(denoiser.function(x, 2.0), before)
    assert tight.live() == 1


def test_network_that_was_changed_in_place_is_not_used_again(models, watched):
    loose = watched("1 GB")
    w = workflow(models, "plain", "a boat")
    before = loose.engine.run(w)["latent"].samples
    denoiser = loose.engine.run(w, targets=["denoiser"])["denoiser"]
    unet = denoiser.function.denoisers._groups[0][0].unet.get()
    with torch.no_grad():
        next(unet.parameters()).zero_()
    del unet
    assert torch.equal(loose.engine.run(w, force=["sampled"])["latent"].samples, before)


# --- the memory of a process

MIB = 2**20


# What is freed goes back to the system at once: without this, glibc keeps up to 100 MB of it, more or less each time
FREE_AT_ONCE = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
}


def peaks(budget: str, dtype: str, *models: Path | str) -> list[int]:
    """The peak memory of a process after each of `models`, in bytes."""
    command = [sys.executable, "-m", "tests.support.peak_memory", budget, dtype, *map(str, models)]
    environment = {**os.environ, **FREE_AT_ONCE}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


LARGE = dataclasses.replace(small_model.UNET, model_channels=256, norm_groups=32, num_heads=4)


def size_of(network: torch.nn.Module) -> int:
    """In float32."""
    return 4 * sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports the peak in another way")
def test_peak_memory_of_a_process_does_not_grow_with_the_number_of_models(models, tmp_path):
    unet, vae, text = UNet(LARGE), AutoencoderKL(small_model.VAE), describe(models / "model").model().text
    size = size_of(unet)
    assert size > 60 * MIB
    folders = [tmp_path / f"model-{index}" for index in range(4)]
    for folder in folders:
        encoder = checkpoint.load_text_encoder(text.parts[0], "cpu", torch.float32)
        small_model.save(folder, unet, vae, encoder, tokenizer=models / "model" / "tokenizer", dtype=torch.float16)
        for parameter in unet.parameters():
            parameter.data.add_(0.01)  # another model, with other digests
    first, *later = peaks("1 kB", "float32", *folders)
    assert max(later) - first < size / 2
    first, *later = peaks(f"{int(1.5 * size)} B", "float32", *folders)
    assert max(later) - first < size / 2  # the budget has room for one: it leaves before the next one is loaded
    first, *later = peaks("10 GB", "float32", *folders)
    assert max(later) - first > 2 * size  # the measure sees networks that stay


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports the peak in another way")
def test_peak_memory_with_a_lora_is_that_of_one_network(models, tmp_path):
    """Under a budget that has no room for two, the network is changed in place. Otherwise the one without the LoRA stays, too."""
    unet, vae, text = UNet(LARGE), AutoencoderKL(small_model.VAE), describe(models / "model").model().text
    encoder = checkpoint.load_text_encoder(text.parts[0], "cpu", torch.float32)
    small_model.save(tmp_path / "model", unet, vae, encoder, tokenizer=models / "model" / "tokenizer", dtype=torch.float16)
    changes = {}
    for name, parameter in unet.named_parameters():
        if parameter.dim() > 1:
            module, size = f"lora_unet_{flat(name.removesuffix('.weight'))}", parameter.shape
            changes[f"{module}.lora_up.weight"] = torch.full((size[0], 1, *[1] * (len(size) - 2)), 1e-6)
            changes[f"{module}.lora_down.weight"] = torch.ones(1, *size[1:])
    save_file(changes, tmp_path / "lora.safetensors")
    in_place, of_two = (
        peaks(budget, "float32", f"{tmp_path / 'model'},{tmp_path / 'lora.safetensors'}")[0] for budget in ("1 kB", "10 GB")
    )
    assert of_two - in_place > size_of(unet) / 2


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports the peak in another way")
def test_peak_memory_of_sdxl_is_its_budget(tmp_path):
    layout = synthetic.read_layout("sdxl-base-ldm")
    files = [synthetic.sparse(layout, tmp_path / f"model-{index}.safetensors") for index in range(2)]
    with files[1].open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\0\1")  # another model
    unet = 2 * sum(math.prod(shape) for key, shape in layout.items() if key.startswith("model.diffusion_model."))
    assert 5 * 10**9 < unet < 6 * 10**9  # there is room for one
    assert max(peaks("6 GB", "bfloat16", *files)) < 6 * 10**9 + 2**30  # a gibibyte for libraries and what is computed
