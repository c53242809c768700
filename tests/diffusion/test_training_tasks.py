"""Every task learns a handful of small pictures, and a killed run continues as if it had not been killed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nodegraph_diffusion.guidance.clip_score import CLIPScore
from nodegraph_diffusion.recipes.embedded.text import reading_accuracy
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_diffusion.training.loop.state import read_state
from nodegraph_diffusion.training.loop.trainer import METRICS, STATE, Trainer
from nodegraph_diffusion.training.losses.frechet import frechet_distance
from nodegraph_diffusion.training.noising.objective import Objective
from tests.support.training_tasks import (
    COUNT,
    TASKS,
    TUNING,
    Fixed,
    captions,
    denoiser,
    latents,
    loss_of,
    pictures,
    texts,
    trainer_of,
    trainer_to_kill,
)

ROOT = Path(__file__).parents[2]


def figures(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics without what a clock shows."""
    lines = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    return [{key: line[key] for key in ("step", "learning_rate", "figures", "gradients")} for line in lines]


def saved(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    state = read_state(folder / STATE)
    assert state is not None
    return state


@pytest.mark.slow
def test_a_killed_run_continues_bit_for_bit(tmp_path: Path) -> None:
    """Every task is killed in one process. Together they take more than five seconds."""
    torch.set_num_threads(1)  # slow tests have more, which wait for each other in networks as small as these
    command = [sys.executable, "-m", "tests.support.training_tasks", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "in the middle of a step"
    process.kill()  # SIGKILL
    process.communicate()
    for name in TASKS:
        killed, whole = tmp_path / "killed" / name, tmp_path / "whole" / name
        assert saved(killed)[1]["step"] == 2, name
        assert figures(killed)[-1]["step"] == 3, name  # a line of a step that the state does not have
        assert trainer_to_kill(name, killed).run()
        assert trainer_to_kill(name, whole).run()
        (found, record), (expected, whole_record) = saved(killed), saved(whole)
        assert found.keys() == expected.keys(), name
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == [], name
        assert record["step"] == whole_record["step"] == 6
        assert figures(killed) == figures(whole), name


def metrics_of(trainer: Trainer[Any]) -> dict[str, float]:
    metrics = trainer.progress().metrics
    assert metrics is not None
    return dict(metrics.figures)


@pytest.mark.slow
def test_autoencoders_learn_pictures() -> None:
    for name in ("autoencoder", "vq_autoencoder"):
        trainer = trainer_of(name, steps=30, batch=COUNT, learning_rate=5e-3, log_every=10)
        trainer.advance()
        before = metrics_of(trainer)["psnr"]
        assert trainer.run()
        assert metrics_of(trainer)["psnr"] > before + 4, name


@pytest.mark.slow
def test_denoiser_and_text_encoder_learn_captions_together() -> None:
    task, examples = TASKS["text_denoiser"]()
    encoder = task.condition.encoder  # type: ignore[attr-defined]
    before, first = loss_of(task, examples), {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert Trainer(task, Fixed(examples), TrainingOptions(steps=60, batch=18, learning_rate=1e-2, average=None)).run()
    assert loss_of(task, examples) < before / 4
    assert loss_of(task, replace(examples, condition=texts().roll(1, 0))) > before / 2  # of other captions
    assert [name for name, tensor in encoder.state_dict().items() if torch.equal(tensor, first[name])] == ["text_projection.weight"]


def test_clip_learns_which_caption_belongs_to_which_picture() -> None:
    trainer = trainer_of("clip", steps=40, batch=COUNT, learning_rate=2e-3, log_every=10)
    assert trainer.run()
    assert metrics_of(trainer)["accuracy"] == 1.0
    assert trainer.task.zero_shot(pictures(), texts(), torch.arange(COUNT)) == 1.0  # type: ignore[attr-defined]


def test_trained_clip_guides_a_picture_to_its_caption_and_measures_distances() -> None:
    """Its score rises along the gradient; the same pictures are nearer in its space than others."""
    task, examples = TASKS["clip"]()
    trainer = Trainer(task, Fixed(examples), TrainingOptions(steps=20, batch=COUNT, learning_rate=2e-3, average=None))
    assert trainer.run()
    text = task.text.encode(texts()[2:3])[1]  # type: ignore[attr-defined]
    score = CLIPScore(task.image, text.detach(), lambda latent: latent, scale=10.0)  # type: ignore[attr-defined]
    pixels = 0.1 * torch.randn(4, 3, 12, 12, generator=generator_for(0))  # of another size than the encoder's
    first = score(pixels, 0.0)
    assert first.shape == (4,)
    moved = pixels.clone().requires_grad_()
    for _ in range(10):
        (gradient,) = torch.autograd.grad(score(moved, 0.0).sum(), moved)
        moved = (moved + 0.3 * gradient / gradient.std()).detach().requires_grad_()
    assert bool((score(moved, 0.0) > first + 1).all())
    similarity = torch.cosine_similarity(task.image(pictures()), text, dim=-1)  # type: ignore[attr-defined]
    torch.testing.assert_close(score(pictures(), 0.0), 10 * similarity)
    with torch.no_grad():
        same, noisy, others = (
            task.image(each)  # type: ignore[attr-defined]
            for each in (pictures(), pictures() + 0.01, -pictures())
        )
    assert frechet_distance(same, noisy) < 0.1 * frechet_distance(same, others)


@pytest.mark.slow
def test_denoiser_learns_and_samples_what_its_class_asks_for() -> None:
    """Takes more than five seconds."""
    torch.set_num_threads(1)
    task, examples = denoiser(Objective(target="x0", steps=20, beta_end=0.5))
    trainer = Trainer(task, Fixed(examples), TrainingOptions(steps=100, batch=18, learning_rate=1e-2, average=0.95))
    assert trainer.run()
    with trainer.averaged():
        samples = task.samples()
    assert samples is not None
    distances = torch.cdist(samples.flatten(1), latents().flatten(1))
    assert distances.argmin(1).tolist() == list(range(COUNT))


@pytest.mark.slow
@pytest.mark.parametrize("name", TUNING)
def test_tuning_learns_pictures(name) -> None:
    """Takes more than five seconds for all. What is not trained stays as it is."""
    torch.set_num_threads(1)
    task, examples = TASKS[name]()
    trainer = Trainer(task, Fixed(examples), TrainingOptions(steps=40, batch=18, learning_rate=1e-2, average=None))
    before = loss_of(task, examples)
    trained = trainer.networks["denoiser"].parameters
    frozen = {key: value.clone() for key, value in trainer.networks["denoiser"].module.named_parameters() if key not in trained}
    assert trainer.run()
    assert loss_of(task, examples) < 0.55 * before
    assert (name == "fine_tuning") == (not frozen)
    now = dict(trainer.networks["denoiser"].module.named_parameters())
    assert [key for key, value in frozen.items() if not torch.equal(now[key], value)] == []


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["lora", "fine_tuning"])
def test_tuning_in_low_precision_takes_nearly_the_same_step(name, precision) -> None:
    """With weights that stay float32; float16 scales the loss. The step of recomputed activations is that of stored ones."""
    figures, weights = [], []
    for options in ({}, {"precision": precision, "recompute": True}):
        trainer = trainer_of(name, steps=1, **options)
        before = {key: value.detach().clone() for key, value in trainer.networks["denoiser"].parameters.items()}
        trainer.advance()
        figures.append(metrics_of(trainer)["loss/denoiser"])
        now = {key: value.detach() for key, value in trainer.networks["denoiser"].parameters.items()}
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in now.values())
        weights.append(torch.cat([(now[key] - before[key]).flatten() for key in now]))
    assert figures[1] == pytest.approx(figures[0], rel=0.02)
    assert float(torch.cosine_similarity(*weights, dim=0)) > 0.9


@pytest.mark.slow
def test_text_encoder_learns_what_captions_demand() -> None:
    trainer = trainer_of("text_encoder", steps=40, batch=6, average=None)
    trainer.run()
    assert reading_accuracy(trainer.task.reader, captions()) == 1.0  # type: ignore[attr-defined]


@pytest.mark.slow
def test_decoder_learns_pictures_from_the_latents_of_a_frozen_encoder() -> None:
    trainer = trainer_of("decoder", steps=60, batch=6, learning_rate=1e-2, average=None)
    trainer.run()
    assert metrics_of(trainer)["psnr"] > 16  # 6 at first


def test_denoiser_learns() -> None:
    trainer = trainer_of("denoiser", steps=15, batch=12, learning_rate=1e-2, log_every=5)
    trainer.advance()
    before = metrics_of(trainer)["loss/denoiser"]
    assert trainer.run()
    assert metrics_of(trainer)["loss/denoiser"] < 0.75 * before


def test_classifier_learns_classes_under_noise() -> None:
    trainer = trainer_of("classifier", steps=60, batch=18, learning_rate=1e-2)
    assert trainer.run()
    accuracy = trainer.task.accuracy(latents(), torch.arange(COUNT), 8, generator_for(0))  # type: ignore[attr-defined]
    assert accuracy == 1.0
