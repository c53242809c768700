"""The training loop: its schedule, average, precision, files, and how it continues."""

from __future__ import annotations

import json
import math
import sys
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.training.loop.average import Average, average_decay
from nodegraph_diffusion.training.loop.examples import Order
from nodegraph_diffusion.training.loop.metrics import Metrics, Progress, TensorBoard, picture_grid
from nodegraph_diffusion.training.loop.muon import Muon, orthogonal
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.precision import computing_dtype, has_bfloat16
from nodegraph_diffusion.training.loop.recompute import recompute_activations
from nodegraph_diffusion.training.loop.seeds import derived_seed, generator_for
from nodegraph_diffusion.training.loop.state import read_state, write_state
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork
from nodegraph_diffusion.training.loop.trainer import METRICS, STATE, Trainer
from tests.support.training_tasks import UNET, VAE, trainer_of


class Line(Task[Tensor]):
    """Learns y = 2 x + 1 with a network that has a dropout, if there is one."""

    def __init__(self, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(1, 4), nn.Dropout(dropout), nn.Linear(4, 1))

    @property
    def networks(self) -> dict[str, TrainedNetwork]:
        return {"line": TrainedNetwork(module=self.network)}

    def losses(self, batch: Tensor, moment: Moment) -> Losses:
        return Losses(by_network={"line": (self.network(batch).float() - 2 * batch - 1).square().mean()})

    def samples(self) -> Tensor:
        assert not self.network.training
        return self.network(torch.zeros(3, 1)).detach().view(3, 1, 1, 1).expand(3, 3, 4, 4)

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.network.parameters()]


class Numbers:
    """Twelve numbers."""

    def __len__(self) -> int:
        return 12

    def batch(self, indices: list[int], generator: torch.Generator) -> Tensor:
        return torch.tensor(indices).float()[:, None] / 12


def train(task: Line, folder: Path | None = None, run: bool = True, **options: Any) -> Trainer[Tensor]:
    trainer = Trainer(task, Numbers(), TrainingOptions(**{"steps": 6, "batch": 4, "learning_rate": 1e-2, **options}), folder=folder)
    if run:
        trainer.run()
    return trainer


# --- options


@pytest.mark.parametrize("warm_up", [0, 3])
def test_learning_rate_is_that_of_transformers_a_step_later(warm_up) -> None:
    """A step later: the first step there has the rate 0 and changes nothing, and so has one after the last step here."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.5)
    schedule = get_cosine_schedule_with_warmup(optimiser, warm_up, 11)
    options = TrainingOptions(steps=10, learning_rate=0.5, warm_up=warm_up)
    for step in range(10):
        optimiser.step()
        schedule.step()
        assert options.rate(step) == pytest.approx(schedule.get_last_lr()[0])
    assert options.rate(9) > 0


def test_learning_rate_stays_after_the_warm_up_or_falls_to_its_floor() -> None:
    constant = TrainingOptions(steps=10, learning_rate=0.5, warm_up=4, schedule="constant")
    assert [constant.rate(step) for step in (0, 1, 3, 4, 9)] == [0.125, 0.25, 0.5, 0.5, 0.5]
    assert constant.rate(9, highest=3.0) == 3.0
    assert TrainingOptions(steps=10**6, learning_rate=0.5, floor=0.1).rate(10**6 - 1) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps of at least 1, found 0"),
        ({"steps": 2, "accumulation": 0}, "accumulation of at least 1, found 0"),
        ({"steps": 2, "learning_rate": 0.0}, "learning_rate above 0, found 0.0"),
        ({"steps": 2, "warm_up": 2}, "warm_up of 0 to 1 steps, found 2"),
        ({"steps": 2, "optimiser": "sgd"}, "optimiser adamw or muon, found 'sgd'"),
        ({"steps": 2, "average": 1.0}, "from 0 to below 1, found 1.0"),
    ],
)
def test_wrong_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)


# --- what is random


def test_each_epoch_has_every_example_once_in_another_order() -> None:
    order = Order(7, 3, seed=1)
    seen = [index for number in range(14) for index in order.indices(number)]
    epochs = [seen[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert Order(7, 3, seed=1).indices(9) == order.indices(9) != Order(7, 3, seed=2).indices(9)
    with pytest.raises(ValueError, match="at least one example, found none"):
        Order(0, 3, seed=1)


def test_seeds_follow_from_their_purpose() -> None:
    assert derived_seed(1, "noise", 23) == 0x0 + derived_seed(1, "noise", 23) < 2**63
    assert len({derived_seed(seed, purpose, step) for seed in (1, 2) for purpose in ("a", "b") for step in range(20)}) == 80
    first, second = (torch.randn(3, generator=generator_for(5, "noise", 1)) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_training_leaves_the_global_generator_alone_and_does_not_depend_on_it() -> None:
    results = []
    for seed in (3, 4):
        task = Line(dropout=0.5)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        train(task)
        assert torch.equal(torch.get_rng_state(), before)
        results.append(task.weights())
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# --- steps


def test_average_is_that_of_diffusers() -> None:
    """decay * average + (1 - decay) * weight with a decay of min(most, n / (n + 9)): the warm-up."""
    parameter = nn.Parameter(torch.zeros(3))
    ours, theirs = Average({"x": parameter}, 0.4), EMAModel([parameter], decay=0.4)
    for number in range(1, 15):
        parameter.data.normal_(generator=torch.Generator().manual_seed(number))
        ours.update(number)
        theirs.step([parameter])
        torch.testing.assert_close(ours.tensors["x"], theirs.shadow_params[0])
    assert [average_decay(number, 0.4) for number in (1, 2, 3, 6, 100)] == [0.0, 2 / 11, 3 / 12, 0.4, 0.4]


def test_average_is_in_use_for_samples_only() -> None:
    task = Line()
    trainer = train(task)
    weights, average = task.weights(), trainer.networks["line"].average
    assert average is not None
    with trainer.averaged():
        assert all(torch.equal(a, b) for a, b in zip(task.weights(), [*trainer_average(trainer, weights)], strict=True))
        assert not task.network.training
    assert task.network.training
    assert all(torch.equal(a, b) for a, b in zip(task.weights(), weights, strict=True))


def trainer_average(trainer: Trainer[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """The average weights by the formula, from a second run that is stopped after each step."""
    task = Line()
    again = train(task, run=False)
    average = task.weights()
    for number in range(1, 7):
        again.advance()
        decay = average_decay(number, 0.999)
        average = [decay * a + (1 - decay) * b for a, b in zip(average, task.weights(), strict=True)]
    in_use = [parameter.detach() for parameter in trainer.networks["line"].parameters.values()]
    for expected, found in zip(average, in_use, strict=True):
        torch.testing.assert_close(found, expected)
    return in_use


def test_accumulated_batches_have_the_gradient_of_one_large_batch() -> None:
    large, small = Line(), Line()
    train(large, batch=8)
    train(small, batch=4, accumulation=2)
    for a, b in zip(large.weights(), small.weights(), strict=True):
        torch.testing.assert_close(a, b)


def test_step_is_that_of_clipped_adamw() -> None:
    """Loshchilov & Hutter 2019, algorithm 2."""
    task, theirs = Line(), Line()
    trainer = train(task, clip=0.01, weight_decay=0.1, schedule="constant")
    adamw = torch.optim.AdamW(theirs.network.parameters(), lr=1e-2, weight_decay=0.1)
    order = Order(12, 4, seed=0)
    for number in range(6):
        loss = theirs.losses(Numbers().batch(order.indices(number), generator_for(0)), Moment(step=0, generator=generator_for(0)))
        loss.by_network["line"].backward()
        norm = nn.utils.clip_grad_norm_(theirs.network.parameters(), 0.01)
        adamw.step()
        adamw.zero_grad()
    for a, b in zip(task.weights(), theirs.weights(), strict=True):
        torch.testing.assert_close(a, b)
    metrics = trainer.progress().metrics
    assert metrics is not None
    assert metrics.gradients["line"] == pytest.approx(float(norm))


def test_a_network_without_trained_parameters_is_refused() -> None:
    task = Line()
    task.network.requires_grad_(False)
    with pytest.raises(ValueError, match="parameters to train in 'line', found none"):
        train(task)


def untrained_loss() -> float:
    moment = Moment(step=0, generator=generator_for(0))
    return float(Line().losses(Numbers().batch(list(range(12)), moment.generator), moment).by_network["line"].detach())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_learns_and_continues(precision, tmp_path) -> None:
    whole, stopped = Line(), Line()
    first = train(whole, precision=precision, steps=15, learning_rate=0.1, log_every=5)
    metrics = first.progress().metrics
    assert metrics is not None
    assert metrics.figures["loss/line"] < 1.0 < untrained_loss()
    assert next(iter(whole.network.parameters())).dtype == torch.float32
    trainer = train(stopped, tmp_path, run=False, precision=precision, steps=15, learning_rate=0.1)
    assert not trainer.run(stop=lambda: trainer.step == 6)
    again = Line()
    train(again, tmp_path, precision=precision, steps=15, learning_rate=0.1)
    assert all(torch.equal(a, b) for a, b in zip(whole.weights(), again.weights(), strict=True))


def test_overflow_in_float16_skips_a_step_and_lowers_the_scale(tmp_path) -> None:
    task = Line()
    trainer = train(task, tmp_path, run=False, precision="float16")
    trainer._scaler.load_state_dict({**trainer._scaler.state_dict(), "scale": 2.0**40})
    before = task.weights()
    trainer.advance()
    assert all(torch.equal(a, b) for a, b in zip(task.weights(), before, strict=True))
    trainer.save()
    saved = read_state(tmp_path / STATE)
    assert saved is not None
    assert saved[1]["scaler"]["scale"] == 2.0**39


def test_precision_is_chosen_by_the_device(monkeypatch) -> None:
    cpu = torch.device("cpu")
    for found, expected in (({"avx512_bf16": True}, torch.bfloat16), ({"bf16": True}, torch.bfloat16), ({}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert has_bfloat16(cpu) == (expected == torch.bfloat16)
        assert computing_dtype("auto", cpu) == expected
    assert computing_dtype("bfloat16", cpu) == torch.bfloat16
    with pytest.raises(ValueError, match="float16 or auto, found 'half'"):
        computing_dtype("half", cpu)  # type: ignore[arg-type]


# --- memory and speed


def saved_bytes(compute: Any) -> int:
    """The bytes that autograd saves for the backward pass of a loss."""
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute().backward()
    return total


def test_recomputed_activations_give_the_same_gradients_in_less_memory() -> None:
    torch.manual_seed(0)
    unet, vae = UNet(UNET), AutoencoderKL(VAE)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, context, steps = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 8), torch.tensor([1.0, 5.0])
    losses = {
        unet: lambda network: network(x, steps, context).square().mean(),
        vae: lambda network: network.decode(network.encode(x)[0]).square().mean(),
    }
    for network, loss in losses.items():
        recomputed = deepcopy(network)
        assert recompute_activations(recomputed) > 4
        recomputed = deepcopy(recomputed)
        assert recomputed.state_dict().keys() == network.state_dict().keys()
        plain = saved_bytes(lambda network=network, loss=loss: loss(network))
        assert saved_bytes(lambda recomputed=recomputed, loss=loss: loss(recomputed)) < plain / 2
        for a, b in zip(network.parameters(), recomputed.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
        with torch.no_grad():
            assert torch.equal(loss(network), loss(recomputed))


def test_compiled_networks_keep_their_names(monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    task = Line()
    trainer = train(task, compile=True, recompute=True)
    assert compiled == [task.network]
    assert list(trainer.networks["line"].parameters) == [name for name, _ in task.network.named_parameters()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch about itself
def test_compiled_training_learns_the_same() -> None:
    plain, compiled = Line(), Line()
    train(plain)
    train(compiled, compile=True)
    for a, b in zip(plain.weights(), compiled.weights(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


# --- progress, metrics, samples


def test_run_reports_its_progress() -> None:
    seen: list[Progress] = []
    trainer = train(Line(), run=False, log_every=2, samples_every=3)
    assert trainer.run(on_progress=seen.append)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert [progress.metrics.step for progress in seen if progress.metrics] == [1, 2, 2, 4, 4, 6]
    assert seen[0].seconds_left is not None
    assert seen[0].seconds_left > 0
    assert seen[-1].seconds_left == 0
    assert [progress.preview is None for progress in seen] == [True, True, False, False, False, False]


def test_metrics_are_means_since_the_line_before(tmp_path) -> None:
    task, losses = Line(), []
    original = task.losses

    def recorded(batch: Tensor, moment: Moment) -> Losses:
        losses.append(float(original(batch, moment).by_network["line"].detach()))
        return original(batch, moment)

    task.losses = recorded  # type: ignore[method-assign]
    train(task, tmp_path, log_every=3)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 3, 6]
    expected = [losses[0], sum(losses[1:3]) / 2, sum(losses[3:]) / 3]
    assert [line["figures"]["loss/line"] for line in lines] == pytest.approx(expected)
    assert all(line["steps_per_second"] > 0 and line["seconds"] > 0 for line in lines)


def test_samples_are_pictures_in_the_folder(tmp_path) -> None:
    train(Line(), tmp_path, samples_every=4)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["00000004.png", "00000006.png"]
    with Image.open(tmp_path / "samples" / "00000006.png") as picture:
        assert picture.size == (10, 10)


def test_grid_has_a_picture_in_each_cell() -> None:
    pictures = torch.stack([torch.full((3, 2, 3), float(index) / 10) for index in range(5)])
    grid = picture_grid(pictures)
    assert grid.shape == (3, 6, 13)
    assert [round(float(grid[0, y, x]), 1) for y in (0, 4) for x in (0, 5, 10)] == [0.0, 0.1, 0.2, 0.3, 0.4, 1.0]


def test_tensorboard_receives_the_metrics(monkeypatch, tmp_path) -> None:
    events = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            events.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            events.append((name, value, step))

        def flush(self) -> None:
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    board = TensorBoard(tmp_path, step=3)
    board(Metrics(step=4, seconds=1.0, steps_per_second=2.0, learning_rate=0.1, figures={"loss/a": 0.5}, gradients={"a": 0.25}))
    expected = [("loss/a", 0.5, 4), ("gradient/a", 0.25, 4), ("learning_rate", 0.1, 4), ("steps_per_second", 2.0, 4)]
    assert events == [(str(tmp_path), 4), *expected]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard about its own libraries
def test_events_are_read_by_the_real_tensorboard(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = train(Line(), run=False, log_every=2, samples_every=3)
    trainer._observers.append(TensorBoard(tmp_path))
    trainer.run()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"loss/line", "gradient/line", "learning_rate", "steps_per_second"} <= {*events.Tags()["scalars"]}
    assert [event.step for event in events.Scalars("loss/line")] == [1, 2, 4, 6]
    metrics = trainer.progress().metrics
    assert metrics is not None
    assert events.Scalars("loss/line")[-1].value == pytest.approx(metrics.figures["loss/line"])
    assert [event.step for event in events.Images("samples")] == [3, 6]
    with Image.open(BytesIO(events.Images("samples")[-1].encoded_image_string)) as picture:
        shown = np.asarray(picture).astype(np.int16)
    grid = trainer.progress().preview
    assert grid is not None
    assert np.abs(shown - grid.clamp(-1, 1).add(1).mul(127.5).permute(1, 2, 0).numpy()).max() <= 1


def test_missing_tensorboard_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'nodegraph\[tensorboard\]'"):
        TensorBoard(tmp_path)


# --- continuing


def test_stopped_run_continues_as_if_it_had_not_been_stopped(tmp_path) -> None:
    whole, stopped, again = Line(dropout=0.5), Line(dropout=0.5), Line(dropout=0.5)
    train(whole)
    trainer = train(stopped, tmp_path, run=False)
    assert not trainer.run(stop=lambda: trainer.step == 4)
    assert train(again, tmp_path).step == 6
    assert all(torch.equal(a, b) for a, b in zip(whole.weights(), again.weights(), strict=True))
    lines = [json.loads(line)["step"] for line in (tmp_path / METRICS).read_text().splitlines()]
    assert lines == [1, 4, 6]


def test_longer_run_continues_from_a_finished_one(tmp_path) -> None:
    whole, longer = Line(), Line()
    train(whole, schedule="constant", steps=9)
    train(Line(), tmp_path, schedule="constant", steps=5)
    trainer = train(longer, tmp_path, run=False, schedule="constant", steps=9)
    assert trainer.step == 5
    trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(whole.weights(), longer.weights(), strict=True))


def test_a_run_with_other_options_does_not_continue(tmp_path) -> None:
    train(Line(), tmp_path)
    with pytest.raises(ValueError, match="was trained with batch 4, expected batch 5; use batch 4 to continue it"):
        train(Line(), tmp_path, batch=5)
    other = Line()
    other.network[0] = nn.Linear(1, 5)
    other.network[2] = nn.Linear(5, 1)
    with pytest.raises(ValueError, match=r"has a tensor of shape \(4, 1\) for weights/0.weight, expected shape \(5, 1\)"):
        train(other, tmp_path)


def test_a_write_that_fails_leaves_the_state_before(tmp_path, monkeypatch) -> None:
    path = tmp_path / STATE
    write_state(path, {"x": torch.ones(2)}, {"step": 1})
    monkeypatch.setattr("nodegraph_diffusion.training.loop.state.os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_state(path, {"x": torch.zeros(2)}, {"step": 2})
    state = read_state(path)
    assert state is not None
    assert (state[0]["x"].tolist(), state[1]) == ([1.0, 1.0], {"step": 1})


def test_another_file_is_not_taken_for_a_state(tmp_path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / STATE)
    with pytest.raises(ValueError, match="expected the saved state of a training run, found another file"):
        train(Line(), tmp_path)


def test_cut_off_line_of_metrics_is_removed(tmp_path) -> None:
    train(Line(), tmp_path, steps=4, schedule="constant", log_every=1)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 5, "sec')
    train(Line(), tmp_path, steps=5, schedule="constant", log_every=1)
    assert [json.loads(line)["step"] for line in (tmp_path / METRICS).read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_a_loss_that_is_not_a_number_ends_the_run_and_is_not_saved(tmp_path) -> None:
    task = Line()
    train(task, tmp_path, steps=2, schedule="constant")
    task.losses = lambda batch, moment: Losses(by_network={"line": task.network(batch).mean() * torch.nan})  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="loss/line is nan at step 3, expected a finite number"):
        train(task, tmp_path, steps=3, schedule="constant")
    state = read_state(tmp_path / STATE)
    assert state is not None
    assert state[1]["step"] == 2


def test_muon_moves_weights_along_orthogonal_matrices() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 3)
    before, gradient = layer.weight.detach().clone(), torch.randn_like(layer.weight)
    layer.weight.grad = gradient
    Muon([layer.weight], 0.01, weight_decay=0.1).step()
    update = (before * (1 - 0.01 * 0.1) - layer.weight.detach()).reshape(4, 54) / (0.01 * 0.2 * math.sqrt(54))
    u, _, v = torch.linalg.svd(gradient.reshape(4, 54), full_matrices=False)
    in_its_axes = u.T @ update @ v.T  # diagonal, for the same singular vectors
    assert torch.allclose(in_its_axes, torch.diag(in_its_axes.diag()), atol=0.02)
    assert 0.6 < float(in_its_axes.diag().min()) <= float(in_its_axes.diag().max()) < 1.3
    tall = orthogonal(gradient.reshape(1, 54, 4))[0]
    assert torch.allclose(orthogonal(gradient.reshape(1, 54, 4).mT)[0].T, tall, atol=1e-5)


def test_muon_trains_matrices_and_adamw_the_rest() -> None:
    network = trainer_of("clip", steps=1, optimiser="muon").networks["clip"]
    muon, adamw = network.optimisers
    names = {parameter: name for name, parameter in network.parameters.items()}
    matrices, others = ({names[each] for each in optimiser.param_groups[0]["params"]} for optimiser in (muon, adamw))
    assert "text.encoder.layers.0.mlp.fc1.weight" in matrices
    assert {"text.embeddings.token_embedding.weight", "temperature.logit_scale"} < others
    assert matrices.isdisjoint(others)
    assert matrices | others == network.parameters.keys()
