"""The step of a run that is computed now, for prompts that count in some steps only.

A sampler calls a denoiser several times in a step, with noise levels of its own choice, through any number of wrappers. None of
these know the step, so `sample` keeps it here, for its thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar


class Steps:
    """Counts the steps of a run: `index` from 0, of `total`.

    `levels` are the noise levels of the run if the sampler chooses its own steps; then a noise level says which step it is.
    """

    def __init__(self, index: int, total: int, levels: Sequence[float] | None = None) -> None:
        self.first, self.index, self.total, self.levels = index, index, total, levels

    def done(self, step: int) -> None:
        """Step `step` of this run, from 0, is done."""
        self.index = self.first + step + 1

    def at(self, sigma: float) -> int:
        """The index of the step that evaluates the network at `sigma`."""
        if self.levels is None:
            return self.index
        return self.first + max(0, sum(level >= sigma for level in self.levels) - 1)


_current: ContextVar[Steps | None] = ContextVar("current_steps", default=None)


def current_step(sigma: float) -> tuple[int, int]:
    """The index of the current step and the number of steps; outside a run, the first of one step."""
    steps = _current.get()
    return (0, 1) if steps is None else (steps.at(sigma), steps.total)


@contextlib.contextmanager
def counted(steps: Steps) -> Iterator[Steps]:
    """Make `steps` the current ones during the block."""
    token = _current.set(steps)
    try:
        yield steps
    finally:
        _current.reset(token)
