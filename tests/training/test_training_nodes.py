"""The training nodes: small networks are trained for a few steps, killed, continued, evaluated and exported."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image as pillow
from safetensors.torch import load_file

from nodegraph import Engine, Run
from nodegraph.run.events import Event, NodeProgress, NodeStarted
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_nodes.nodes.adapters import apply_control_net, load_embedding, load_lora
from nodegraph_nodes.nodes.latent import vae_decode, vae_encode
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.trained.models import TrainedVAE
from nodegraph_nodes.types import Image
from nodegraph_training.data.folder import find_folder
from nodegraph_training.nodes.adapters import edges, train_control_net, train_lora, train_textual_inversion
from nodegraph_training.nodes.autoencoders import train_autoencoder, train_decoder
from nodegraph_training.nodes.classifiers import train_classifier
from nodegraph_training.nodes.data import image_folder, picture_world
from nodegraph_training.nodes.denoisers import train_denoiser
from nodegraph_training.nodes.evaluate import evaluate, export_model
from nodegraph_training.nodes.options import training_options
from nodegraph_training.nodes.text_encoders import train_text_encoder
from nodegraph_training.training.examples import Cropped, tokens_of_template
from nodegraph_training.training.networks import own_readers
from tests.support.recording_run import RecordingRun
from tests.support.small_training import SMALL, autoencoder_workflow

ROOT = Path(__file__).parents[2]


def same_weights(first: TrainedVAE, second: TrainedVAE) -> bool:
    return first.settings == second.settings and all(
        torch.equal(second.tensors[name], first.tensors[name]) for name in first.tensors
    )


@pytest.fixture
def run_in(tmp_path) -> Callable[..., tuple[TrainedVAE, list[NodeProgress]]]:
    def run(cache: str, steps: int, seed: int = 0) -> tuple[TrainedVAE, list[NodeProgress]]:
        events: list[Event] = []
        with Engine(cache_dir=tmp_path / cache, on_event=events.append) as engine:
            result = engine.run(autoencoder_workflow(steps, seed))
            assert not [name for name, node in result.nodes.items() if node.status == "failed"]
            return result["vae"], [event for event in events if isinstance(event, NodeProgress)]

    return run


@pytest.mark.slow
def test_training_longer_continues_and_is_the_same_as_in_one_go(run_in):
    run_in("cache", 2)
    longer, progress = run_in("cache", 4)
    assert [event.step for event in progress] == [3, 4]
    assert progress[-1].status.startswith("loss ")
    assert progress[-1].preview().pixels.shape[0] == 1
    assert run_in("cache", 4)[1] == []  # from the cache
    whole, progress = run_in("other", 4)
    assert [event.step for event in progress] == [1, 2, 3, 4]
    assert same_weights(longer, whole)
    assert not same_weights(longer, run_in("cache", 2, seed=1)[0])


@pytest.mark.slow
def test_fewer_steps_than_before_begin_anew(run_in):
    run_in("cache", 3)
    shorter, progress = run_in("cache", 2)
    assert [event.step for event in progress] == [1, 2]
    assert same_weights(shorter, run_in("other", 2)[0])


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "changed", "no state"])
def test_training_whose_unfinished_work_is_damaged_begins_anew(run_in, tmp_path, damage):
    run_in("cache", 2)
    (state,) = (tmp_path / "cache" / "work").rglob("state.safetensors")
    data = bytearray(state.read_bytes())
    data[-1] ^= 1  # a bit of a tensor
    state.write_bytes({"cut": bytes(data[:-10]), "changed": bytes(data), "no state": b"{}"}[damage])
    trained, progress = run_in("cache", 3)
    assert [event.step for event in progress] == [1, 2, 3]
    assert same_weights(trained, run_in("other", 3)[0])


KILLED = """
import os, signal, sys
from nodegraph import Engine
from nodegraph.plugin_api import events
from tests.support.small_training import autoencoder_workflow

def kill(event):
    if isinstance(event, events.NodeProgress) and event.step == 30:
        os.kill(os.getpid(), signal.SIGKILL)

Engine(cache_dir=sys.argv[1], on_event=kill).run(autoencoder_workflow(32))
"""


@pytest.mark.slow
def test_killed_training_continues_with_identical_weights(run_in, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "cache")], cwd=ROOT, timeout=300, check=False)
    assert killed.returncode == -9
    continued, progress = run_in("cache", 32)
    assert [event.step for event in progress] == [*range(26, 33)]  # from the state after 25 steps
    assert same_weights(continued, run_in("other", 32)[0])


@pytest.mark.slow
def test_autoencoder_learns(vae):
    run = RecordingRun()
    data = picture_world(side=16, count=2)
    trained = train_autoencoder(data, steps=40, channels=8, levels=[1, 2], batch=2, learning_rate=5e-3, run=run)
    pixels = torch.from_numpy(data.pictures.pixels(0))[None].float() / 255

    def error(model: TrainedVAE) -> float:
        return float((vae_decode(model, vae_encode(model, Image(pixels))).pixels - pixels).abs().mean())

    assert error(trained) < error(vae)
    assert run.steps[-1] == (40, 40)


@pytest.mark.slow
def test_trained_model_is_used_like_an_opened_one(unet, vae, text_encoder, tmp_path, monkeypatch):
    """A LoRA, a word and a ControlNet of it are trained and used; it is evaluated and exported."""
    data = picture_world(**SMALL)
    lora = train_lora(unet, vae, text_encoder, data, steps=1, batch=2, rank=2)
    assert len(load_lora(unet, text_encoder, lora).unet.patches) == 1
    word = train_textual_inversion(unet, vae, text_encoder, data, steps=1, batch=2, start="cat", vectors=2)
    assert word.tensors["emb_params"].shape == (2, 16)
    assert [*load_embedding(text_encoder, word, "new").embeddings] == ["new"]
    control = train_control_net(unet, vae, text_encoder, data, steps=1, batch=2)
    picture = Image(torch.from_numpy(data.pictures.pixels(0))[None].float() / 255)
    guided = apply_control_net(unet, control, edges(picture))
    assert len(guided.controls) == 1
    figures, painted, _ = evaluate(guided, data, vae, text_encoder, count=2, steps=2)
    assert painted.pixels.shape == (2, 16, 16, 3)
    assert figures["captions"] == 2
    monkeypatch.chdir(tmp_path)
    assert export_model(unet, vae, text_encoder, "model", dtype="float32") == "model"
    found = describe(tmp_path / "model").model()
    assert found.unet.noise_schedule.prediction == "v"
    assert found.vae.config.scaling_factor == pytest.approx(vae.settings["config"]["scaling_factor"])
    with pytest.raises(ValueError, match="expected a name below the current folder"):
        export_model(unet, vae, text_encoder, "../model")


@pytest.mark.slow
def test_a_model_is_trained_further(unet, vae, text_encoder):
    tuned = train_denoiser(picture_world(**SMALL), vae, text_encoder, steps=1, unet=unet, batch=2)
    assert tuned.settings == unet.settings
    assert not torch.equal(tuned.tensors["out.2.weight"], unet.tensors["out.2.weight"])


def test_classifier_knows_its_classes(vae):
    trained = train_classifier(picture_world(things=1, **SMALL), vae, steps=1, channels=16, levels=[1], batch=2)
    assert len(trained.settings["classes"]) == len({*trained.settings["classes"]}) >= 2
    with pytest.raises(ValueError, match="expected pictures of at least two classes, found 4 pictures without a class"):
        train_classifier(picture_world(things=2, **SMALL), vae, steps=1)


def test_cancelled_training_saves_its_state(tmp_path):
    from nodegraph import Cancelled

    class Stopped(Run):
        def step(self, i, n, preview=None, *, status=""):
            if i == 2:
                raise Cancelled("stop")

        def work_folder(self):
            return contextlib.nullcontext(tmp_path)

    with pytest.raises(Cancelled):
        train_autoencoder(picture_world(**SMALL), steps=4, channels=8, levels=[1, 2], batch=2, run=Stopped())
    assert (tmp_path / "state" / "state.safetensors").exists()
    assert len((tmp_path / "state" / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_another_sampler_retrains_nothing(tmp_path, monkeypatch):
    """The workflow that makes a model from nothing, at small sizes: with another sampler, only the evaluation runs again."""
    monkeypatch.chdir(tmp_path)
    small = {
        "pictures": 4,
        "side": 32,
        "autoencoder_steps": 1,
        "text_steps": 1,
        "denoiser_steps": 1,
        "settling_steps": 1,
        "decoder_steps": 1,
        "crop": 16,
        "channels": 16,
        "warm_up": 0,
        "batch": 2,
        "evaluated": 1,
        "sampling_steps": 1,
    }
    ran = []
    for sampler in ("dpmpp_2m", "euler"):
        events: list[Event] = []
        with Engine(cache_dir=tmp_path / "cache", on_event=events.append) as engine:
            engine.run(ROOT / "workflows/train/tiny.yaml", params={**small, "sampler": sampler})
        ran.append({event.node for event in events if isinstance(event, NodeStarted)})
    assert {"autoencoder", "text_encoder", "denoiser", "settled", "vae", "measured", "model"} <= ran[0]
    assert ran[1] == {"held_out", "measured", "model"}  # a data set is only described, and a model is written each time
    assert describe(tmp_path / "trained-model").model().text.parts[0].tokenizer is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "textual_inversion", "controlnet", "classifier"])
def test_workflows_that_train_and_paint(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Engine(cache_dir=tmp_path / "cache") as engine:
        params = {"steps": 1, **({"pictures": 8} if name in ("controlnet", "classifier") else {})}
        result = engine.run(ROOT / f"workflows/train/{name}.yaml", params=params, out=tmp_path / "out")
        assert result["picture"].pixels.shape[0] == 4
        saved = next(path for output in result.outputs.values() for path in output if path.suffix == ".safetensors")
    assert load_file(saved)
    pictures = [path for output in result.outputs.values() for path in output if path.suffix == ".png"]
    for path in pictures:
        with pillow.open(path) as picture:
            assert picture.size == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "word", "control", "denoiser", "classifier", "decoder"])
def test_weights_follow_from_the_inputs_alone(name, unet, vae, text_encoder):
    """Not from the global generator of random numbers, of which nothing is drawn: results that used it are not kept."""
    data = picture_world(classes="place", **SMALL)
    train = {
        "lora": lambda: train_lora(unet, vae, text_encoder, data, steps=1, batch=2, rank=2),
        "word": lambda: train_textual_inversion(unet, vae, text_encoder, data, steps=1, batch=2, start="cat"),
        "control": lambda: train_control_net(unet, vae, text_encoder, data, steps=1, batch=2),
        "denoiser": lambda: train_denoiser(data, vae, text_encoder, steps=1, batch=2, channels=16, levels=[1], depth=[1]),
        "classifier": lambda: train_classifier(data, vae, steps=1, channels=16, levels=[1], batch=2),
        "decoder": lambda: train_decoder(vae, data, steps=1, batch=2),
    }[name]
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        weights.append(train().tensors)
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_decoder_is_trained_and_the_encoder_stays(vae):
    data = picture_world(**SMALL)
    trained = train_decoder(vae, data, steps=1, batch=2)
    changed = {name.split(".")[0] for name, tensor in trained.tensors.items() if not torch.equal(tensor, vae.tensors[name])}
    assert changed == {"decoder", "post_quant_conv"}
    assert trained.settings == vae.settings


def test_text_encoder_reads_the_captions_of_drawn_pictures_only(tmp_path):
    trained = train_text_encoder(picture_world(**SMALL), steps=1, batch=2)
    prompts = [text_encode(trained, text).prompts[0].embedding for text in ("a red cat", "two trees")]
    assert prompts[0].shape[-1] == 128
    assert not torch.equal(*prompts)
    pillow.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="data: expected the pictures of PictureWorld, whose captions can be read"):
        train_text_encoder(image_folder(find_folder(".", tmp_path).value, side=8, caption="a"), steps=1)


def test_crops_and_augmented_pictures():
    pixels = torch.arange(3 * 6 * 6).reshape(1, 3, 6, 6).float()
    crops = [Cropped(4, augment=False)([0], pixels, generator_for(seed))[0] for seed in range(20)]
    assert {tuple(crop.shape) for crop in crops} == {(3, 4, 4)}
    corners = [divmod(int(crop[0, 0, 0]), 6) for crop in crops]
    assert len({*corners}) > 4
    for crop, (top, left) in zip(crops, corners, strict=True):
        assert torch.equal(crop, pixels[0, :, top : top + 4, left : left + 4])
    variants = [Cropped(None, augment=True)([0], pixels, generator_for(seed))[0] for seed in range(20)]
    assert any(torch.equal(each, pixels[0].flip(-1)) for each in variants)
    with pytest.raises(ValueError, match="crop: expected a multiple of 2, which this autoencoder encodes, of at most 16"):
        train_autoencoder(picture_world(**SMALL), steps=1, channels=8, levels=[1, 2], crop=32)


@pytest.mark.slow
def test_cosine_schedule_depends_on_the_number_of_steps(vae, text_encoder, tmp_path):
    """More steps are not continued from fewer: the learning rate of each step would be another one."""

    def trained(steps: int, folder: Path) -> dict[str, torch.Tensor]:
        class Kept(Run):
            def work_folder(self):
                return contextlib.nullcontext(folder)

        folder.mkdir(exist_ok=True)
        sizes = {"channels": 16, "levels": [1], "depth": [1]}
        return train_denoiser(
            picture_world(**SMALL),
            vae,
            text_encoder,
            steps=steps,
            batch=2,
            options=training_options(schedule="cosine"),
            run=Kept(),
            **sizes,
        ).tensors

    first = trained(1, tmp_path / "kept")
    after, whole = trained(2, tmp_path / "kept"), trained(2, tmp_path / "whole")
    assert all(torch.equal(after[name], whole[name]) for name in whole)
    assert not torch.equal(first["out.2.weight"], whole["out.2.weight"])


def test_template_of_a_new_word_has_the_caption_of_each_picture(text_encoder):
    (reader,) = own_readers(text_encoder, RecordingRun())
    tokenizer = reader.tokenizer
    tokens = tokens_of_template(tokenizer, "a {word} with {caption}", [1000, 1001], ["a cat", "two trees"])
    for row, caption in zip(tokens.tolist(), ("a cat", "two trees"), strict=True):
        middle = [*tokenizer.encode("a"), 1000, 1001, *tokenizer.encode(f"with {caption}")]
        assert row[: len(middle) + 2] == [tokenizer.bos, *middle, tokenizer.eos]
        assert len(row) == tokenizer.max_length
    with pytest.raises(ValueError, match=r"template: expected at most 30 tokens .* shorten it or the caption 'cat cat"):
        tokens_of_template(tokenizer, "{word} {caption}", [1000], ["cat " * 40])
