"""Training inside a node: its unfinished state is in the node's work folder, and progress is reported to the run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from nodegraph.plugin_api import Cancelled, dataclass
from nodegraph_diffusion.training.loop.options import TrainingOptions as LibraryOptions
from nodegraph_diffusion.training.loop.state import DamagedStateError, read_record, read_state, write_state
from nodegraph_diffusion.training.loop.trainer import STATE, Trainer
from nodegraph_nodes.types import Image
from nodegraph_training.types import TrainingOptions

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.training.loop.examples import Examples
    from nodegraph_diffusion.training.loop.metrics import Progress
    from nodegraph_diffusion.training.loop.task import Task

SAVE_EVERY: Final = 25
"""Steps between saved states, while they take less than `SAVE_SECONDS`."""

SAVE_SECONDS: Final = 30.0

SAMPLES_EVERY: Final = 200
"""Steps between preview pictures."""


@dataclass(frozen=True, kw_only=True)
class HowToTrain:
    """What every training node has as inputs, and the `average` and `weight_decay` that are usual for what it trains.

    With a constant learning rate, more steps continue what fewer steps began.
    """

    steps: int
    batch: int
    learning_rate: float
    seed: int
    average: float = 0.999
    weight_decay: float = 0.01
    options: TrainingOptions | None = None

    @property
    def continues(self) -> bool:
        """Whether each step is the same for any number of steps."""
        return self.options is None or self.options.schedule == "constant"

    def library_options(self) -> LibraryOptions:
        """The options of the library."""
        chosen = {name: value for name, value in asdict(self.options or TrainingOptions()).items() if value is not None}
        clip = self.options.clip if self.options else 1.0  # None is a choice here: gradients of any norm
        return LibraryOptions(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            seed=self.seed,
            save_every=SAVE_EVERY,
            log_every=10,
            samples_every=SAMPLES_EVERY,
            **{"average": self.average, "weight_decay": self.weight_decay, **chosen, "clip": clip},
        )


def train(task: Task[Any], examples: Examples[Any], how: HowToTrain, *, run: Run, folder: Path) -> Trainer[Any]:
    """Train to the last step, from the state in `folder` if it has one. The state is saved when the run is cancelled."""
    with _same_environment():
        try:
            state = _state_folder(folder, how)
            trainer = Trainer(task, examples, how.library_options(), folder=state)
        except DamagedStateError:
            run.notice("its unfinished work was damaged, so it begins anew")
            state = folder / f"state-{how.steps}"
            for damaged in (folder / "state" / STATE, state / STATE):
                damaged.unlink(missing_ok=True)
            trainer = Trainer(task, examples, how.library_options(), folder=state)
        try:
            trainer.run(on_progress=_Reporter(run, trainer))
        except Cancelled:
            trainer.save()
            raise
    return trainer


def remembered(file: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in a file of the work folder, which `make` computes if there is no such file yet, or a damaged one."""
    with contextlib.suppress(DamagedStateError):
        if (found := read_state(file)) is not None:
            return found[0]
    tensors = make()
    write_state(file, tensors, {})
    return tensors


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Take out what torch's optimiser puts into the environment when it is first used."""
    before = set(os.environ)
    yield
    for name in set(os.environ) - before:
        os.environ.pop(name, None)


def _state_folder(folder: Path, how: HowToTrain) -> Path:
    """The folder of the state: the common one, unless that has gone further, or each step depends on the number of steps."""
    common, own = folder / "state", folder / f"state-{how.steps}"
    record = read_record(common / STATE)
    return own if not how.continues or (record is not None and record["step"] > how.steps) else common


class _Reporter:
    """Reports each step to a run, and saves the state of slow steps."""

    def __init__(self, run: Run, trainer: Trainer[Any]) -> None:
        self._run, self._trainer, self._saved = run, trainer, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.step % SAVE_EVERY == 0:
            self._saved = time.monotonic()
        elif time.monotonic() - self._saved > SAVE_SECONDS:
            self._trainer.save()
            self._saved = time.monotonic()
        self._run.step(progress.step, progress.steps, _preview(progress.preview), status=_status(progress))


def _status(progress: Progress) -> str:
    """The losses, such as "loss 0.123"; several by the names of their networks."""
    if progress.metrics is None:
        return ""
    losses = {name.removeprefix("loss/"): value for name, value in progress.metrics.figures.items() if name.startswith("loss/")}
    if len(losses) == 1:
        return f"loss {next(iter(losses.values())):.4g}"
    return ", ".join(f"loss of {name} {value:.4g}" for name, value in losses.items())


def _preview(grid: Tensor | None) -> Callable[[], Image] | None:
    """The last sample pictures, (3, H, W) in [-1, 1]."""
    if grid is None:
        return None
    return lambda: Image((grid.clamp(-1, 1) / 2 + 0.5).permute(1, 2, 0)[None].contiguous())


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, in float32."""
    return {
        name: tensor.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
