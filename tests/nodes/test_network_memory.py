"""The memory budget bounds how many networks a process holds, whatever nodes and results still refer to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch

from nodegraph import Engine, Workflow
from nodegraph.plugin_api import events
from nodegraph_diffusion import checkpoint
from nodegraph_diffusion.adapters.lora import patch
from tests.nodes.test_touched_files import models, workflow
from tests.support import small_model

__all__ = ["models"]  # a fixture


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
