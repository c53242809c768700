"""TrainingOptions: what it says reaches the loop of every training node."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nodegraph import Engine, Workflow
from nodegraph_diffusion.training.loop.options import TrainingOptions as LibraryOptions
from nodegraph_training.nodes.adapters import train_control_net, train_lora, train_textual_inversion
from nodegraph_training.nodes.autoencoders import train_autoencoder, train_decoder
from nodegraph_training.nodes.classifiers import train_classifier
from nodegraph_training.nodes.data import picture_world
from nodegraph_training.nodes.denoisers import train_denoiser
from nodegraph_training.nodes.options import training_options
from nodegraph_training.nodes.text_encoders import train_clip, train_text_encoder
from nodegraph_training.training import loop
from nodegraph_training.types import TrainingOptions
from tests.support.small_training import SMALL

SIZES = {"channels": 16, "levels": [1]}
CALLS = {
    "autoencoder": lambda data, models, more: train_autoencoder(data, channels=8, levels=[1, 2], **more),
    "decoder": lambda data, models, more: train_decoder(models["vae"], data, **more),
    "clip": lambda data, models, more: train_clip(data, width=16, layers=1, patch=8, **more),
    "text encoder": lambda data, models, more: train_text_encoder(data, **more),
    "denoiser": lambda data, models, more: train_denoiser(data, models["vae"], models["text_encoder"], depth=[1], **SIZES, **more),
    "classifier": lambda data, models, more: train_classifier(data, models["vae"], **SIZES, **more),
    "lora": lambda data, models, more: train_lora(**models, data=data, rank=2, **more),
    "word": lambda data, models, more: train_textual_inversion(**models, data=data, start="cat", **more),
    "control net": lambda data, models, more: train_control_net(**models, data=data, **more),
}
OPTIONS = {
    "optimiser": "muon",
    "warm_up": 1,
    "clip": None,
    "weight_decay": 0.3,
    "average": 0.5,
    "accumulation": 2,
    "precision": "bfloat16",
    "recompute": True,
}


@pytest.fixture
def models(unet, vae, text_encoder):
    return {"unet": unet, "vae": vae, "text_encoder": text_encoder}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_options_reach_the_loop(name, models, monkeypatch):
    used: list[LibraryOptions] = []
    trainer = loop.Trainer

    def recorded(task, examples, options, **more):
        used.append(options)
        return trainer(task, examples, options, **more)

    monkeypatch.setattr(loop, "Trainer", recorded)
    data = picture_world(classes="place", **SMALL)
    trained = CALLS[name](data, models, {"steps": 2, "batch": 2, "options": training_options(**OPTIONS)})
    assert {option: getattr(used[0], option) for option in OPTIONS} == OPTIONS
    for value in trained if isinstance(trained, tuple) else (trained,):
        assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in value.tensors.values())


def test_options_that_are_not_given_are_those_of_the_node():
    how = loop.HowToTrain(steps=4, batch=2, learning_rate=0.1, seed=3, average=0.7, weight_decay=0.0)
    for chosen in (None, TrainingOptions(), training_options()):
        options = replace(how, options=chosen).library_options()
        assert (options.average, options.weight_decay, options.clip, options.schedule) == (0.7, 0.0, 1.0, "constant")
        assert (options.precision, options.accumulation, options.seed) == ("float32", 1, 3)


def test_warm_up_that_is_longer_than_the_training_is_refused(models):
    with pytest.raises(ValueError, match="expected a warm_up of 0 to 1 steps, found 200"):
        CALLS["autoencoder"](picture_world(**SMALL), models, {"steps": 2, "options": training_options(warm_up=200)})


def test_options_are_part_of_the_key(tmp_path):
    def key(**options) -> str:
        workflow = Workflow()
        data = workflow.add("PictureWorld", **SMALL)
        chosen = workflow.add("TrainingOptions", **options)
        workflow.output("vae", workflow.add("TrainAutoencoder", name="vae", data=data, steps=1, options=chosen))
        with Engine(cache_dir=tmp_path / "cache") as engine:
            return engine.plan(workflow).keys["vae"]

    assert key(clip=None, accumulation=3) == key(accumulation=3, clip=None)
    assert len({key(), key(clip=None), key(clip=2.0), key(accumulation=3)}) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the tracing itself
def test_compiled_networks_learn_the_same(models, monkeypatch):
    """Through the tracing of torch.compile, without its code generator, which takes minutes."""
    compiled: list[torch.nn.Module] = []
    compile_module = torch.nn.Module.compile

    def traced(module):
        compiled.append(module)
        compile_module(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    data = picture_world(classes="place", **SMALL)
    plain, traced_too = (
        CALLS["autoencoder"](data, models, {"steps": 2, "batch": 2, "options": training_options(compile=chosen)})
        for chosen in (False, True)
    )
    assert [type(module).__name__ for module in compiled] == ["Encoder", "Decoder"]
    assert plain.tensors.keys() == traced_too.tensors.keys()
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(traced_too.tensors[name], tensor, rtol=1e-3, atol=1e-4)
