"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor

from nodegraph_diffusion.training.loop.examples import Examples, order_of
from nodegraph_diffusion.training.loop.metrics import (
    Metrics,
    MetricsFile,
    Observer,
    Progress,
    ShowsSamples,
    picture_grid,
    write_picture,
)
from nodegraph_diffusion.training.loop.network import NetworkInTraining
from nodegraph_diffusion.training.loop.options import TrainingOptions, require_same
from nodegraph_diffusion.training.loop.precision import autocast, computing_dtype, loss_scaler
from nodegraph_diffusion.training.loop.recompute import recompute_activations
from nodegraph_diffusion.training.loop.seeds import derived_seed, generator_for
from nodegraph_diffusion.training.loop.state import read_state, write_state
from nodegraph_diffusion.training.loop.task import Batch, Moment, Task

STATE = "state.safetensors"
METRICS = "metrics.jsonl"
SAMPLES = "samples"


class Trainer(Generic[Batch]):
    """Trains the networks of a task on examples.

    `folder` holds the state (`state.safetensors`), the figures (`metrics.jsonl`) and the sample pictures (`samples/STEP.png`); if
    it has a state, the run continues from it, with the same result as a run that was never stopped. Without a folder, nothing is
    written. `observers` receive each line of metrics, and sample pictures if they can show them; a `TensorBoard` is one. Raises
    ValueError if the saved state belongs to a run with other options or networks.
    """

    def __init__(
        self,
        task: Task[Batch],
        examples: Examples[Batch],
        options: TrainingOptions,
        *,
        folder: Path | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.task, self.options = task, options
        self.networks = {name: NetworkInTraining(name, trained, options) for name, trained in task.networks.items()}
        self.step = 0
        self._examples, self._folder = examples, folder
        self._order = order_of(examples, options.batch, options.seed)
        self._device = next(iter(self.networks.values())).device
        self._dtype = computing_dtype(options.precision, self._device)
        self._scaler = loss_scaler(self._dtype, self._device)
        self._seconds = self._seconds_at_metrics = 0.0
        self._figures: dict[str, list[Tensor]] = {}  # since the last line of metrics
        self._metrics: Metrics | None = None
        self._preview: Tensor | None = None
        self._prepare_networks()
        self._continue()
        self._reported = self.step
        self._observers = [*observers]
        if folder is not None:
            self._observers.append(MetricsFile(folder / METRICS, self.step))

    def run(self, *, on_progress: Callable[[Progress], None] | None = None, stop: Callable[[], bool] | None = None) -> bool:
        """Train to the last step; returns whether it was reached.

        `on_progress` is called after each step. `stop` is asked before each: if it returns True, the state is saved and the run
        ends; it can continue later.
        """
        while self.step < self.options.steps:
            if stop is not None and stop():
                self.save()
                return False
            self.advance()
            if on_progress is not None:
                on_progress(self.progress())
        return True

    def advance(self) -> None:
        """Take one step, with what is due after it: a line of metrics, samples, saving the state."""
        started = time.monotonic()
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # for networks with a dropout, which draws from the global generator
            torch.manual_seed(derived_seed(self.options.seed, "global", self.step))
            for part in range(self.options.accumulation):
                self._accumulate(part)
            for network in self.networks.values():
                network.step(self.step, self._scaler)
        self._scaler.update()
        self.step += 1
        self._seconds += time.monotonic() - started
        last = self.step == self.options.steps
        if last or self.step == 1 or self.step % self.options.log_every == 0:
            self._report()
        if self.options.samples_every is not None and (last or self.step % self.options.samples_every == 0):
            self._show_samples()
        if last or self.step % self.options.save_every == 0:
            self.save()

    def progress(self) -> Progress:
        """Where the run is. The time left is that of the remaining steps at the mean speed so far."""
        remaining = self.options.steps - self.step
        seconds_left = self._seconds / self.step * remaining if self.step and self._seconds else None
        return Progress(
            step=self.step, steps=self.options.steps, seconds_left=seconds_left, metrics=self._metrics, preview=self._preview
        )

    def save(self) -> None:
        """Write the state to the folder, if there is one, so that another trainer can continue. Reports all steps before."""
        if self._folder is None:
            return
        self._report()
        tensors = {f"task/{name}": tensor for name, tensor in self.task.state_dict().items()}
        for name, network in self.networks.items():
            tensors |= {f"networks/{name}/{key}": tensor for key, tensor in network.state_dict().items()}
        record = {
            "step": self.step,
            "seconds": self._seconds,
            "options": self.options.fixed(),
            "scaler": self._scaler.state_dict(),
        }
        write_state(self._folder / STATE, tensors, record)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the networks have their average weights and are in evaluation mode."""
        with ExitStack() as stack:
            for network in self.networks.values():
                if network.average is not None:
                    stack.enter_context(network.average.in_use())
                network.module.eval()
                stack.callback(network.module.train)
            yield

    def _prepare_networks(self) -> None:
        for name, network in self.networks.items():
            network.module.train()
            if self.options.recompute:
                recompute_activations(network.module)
            if self.options.compile:
                for called in self.task.networks[name].called or (network.module,):
                    called.compile()  # in place: names of weights stay

    def _continue(self) -> None:
        saved = None if self._folder is None else read_state(self._folder / STATE)
        if saved is None:
            return
        tensors, record = saved
        require_same(self.options, record["options"])
        for name, network in self.networks.items():
            network.load_state_dict(_below(f"networks/{name}/", tensors))
        self.task.load_state_dict(_below("task/", tensors))
        if record["scaler"]:
            self._scaler.load_state_dict(record["scaler"])
        self.step, self._seconds = record["step"], record["seconds"]
        self._seconds_at_metrics = self._seconds

    def _accumulate(self, part: int) -> None:
        """Add the gradients of one batch."""
        seed, number = self.options.seed, self.step * self.options.accumulation + part
        batch = self._examples.batch(self._order.indices(number), generator_for(seed, "examples", number))
        with autocast(self._dtype, self._device):
            losses = self.task.losses(batch, Moment(step=self.step, generator=generator_for(seed, "noise", number)))
        for name, loss in losses.by_network.items():
            scaled = self._scaler.scale(loss / self.options.accumulation)
            scaled.backward(inputs=list(self.networks[name].parameters.values()))  # type: ignore[no-untyped-call]
        for name, figure in {**{f"loss/{name}": loss for name, loss in losses.by_network.items()}, **losses.figures}.items():
            self._figures.setdefault(name, []).append(figure.detach().float())

    def _report(self) -> None:
        """Write a line of metrics, if there are steps without one. Raises ValueError if a loss is not a finite number."""
        if self.step == self._reported:
            return
        figures = {name: float(torch.stack(values).mean()) for name, values in self._figures.items()}
        for name, value in figures.items():
            if name.startswith("loss/") and not math.isfinite(value):
                raise ValueError(
                    f"training: {name} is {value} at step {self.step}, expected a finite number; "
                    f"continue from the saved state with a learning_rate below {self.options.learning_rate:g}, or in float32"
                )
        self._metrics = Metrics(
            step=self.step,
            seconds=self._seconds,
            steps_per_second=(self.step - self._reported) / max(self._seconds - self._seconds_at_metrics, 1e-9),
            learning_rate=self.options.rate(self.step - 1),
            figures=figures,
            gradients={name: float(network.gradient_norm) for name, network in self.networks.items()},
        )
        self._figures, self._reported, self._seconds_at_metrics = {}, self.step, self._seconds
        for observer in self._observers:
            observer(self._metrics)

    @torch.no_grad()
    def _show_samples(self) -> None:
        with self.averaged():
            pictures = self.task.samples()
        if pictures is None:
            return
        self._preview = picture_grid(pictures.detach().float().cpu())
        for observer in self._observers:
            if isinstance(observer, ShowsSamples):
                observer.show_samples(self._preview, self.step)
        if self._folder is not None:
            write_picture(self._preview, self._folder / SAMPLES / f"{self.step:08d}.png")


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
