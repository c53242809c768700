"""Nodes that make and change lists of noise levels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

from nodegraph import Choice, Help, OptionsOf, Range, node
from nodegraph_nodes.types import Sigmas, UNetModel

Steps = Annotated[int, Range(1, 10_000), Help("number of steps")]
StartStep = Annotated[int, Range(0, 10_000), Help("the step to start with, counted from 0; earlier steps are skipped")]
EndStep = Annotated[int | None, Range(0, 10_000), Help("the step to stop before; the remaining noise is left for another sampler")]
Finish = Annotated[bool, Help("with end_step: remove all noise in the last step, instead of leaving some")]
Strength = Annotated[float, Range(0, 1), Help("how much to change the latent; 1 ignores what it shows, 0 keeps it")]
ScheduleOptions = Annotated[dict[str, Any] | None, OptionsOf("schedule"), Help("'nodegraph schedules NAME' lists them")]


def check_steps(**literals: Any) -> Iterable[str]:
    """Yields the problems of the steps at which a run starts and ends."""
    steps, start, end, strength = (literals.get(name) for name in ("steps", "start_step", "end_step", "strength"))
    if start and strength is not None and strength < 1:
        yield f"start_step {start} and strength {strength} both set where sampling starts; leave one out"
    last = min((step for step in (steps, end) if step is not None), default=None)
    if start is not None and last is not None and start > last:
        yield f"start_step {start} is after the last step, {last}; give a smaller one"


@node(
    "Schedule",
    check=check_steps,
    foreign_names=(
        "BasicScheduler",
        "AlignYourStepsScheduler",
        "BetaSamplingScheduler",
        "ExponentialScheduler",
        "KarrasScheduler",
        "LaplaceScheduler",
        "PolyexponentialScheduler",
        "SDTurboScheduler",
        "VPScheduler",
    ),
)
def schedule(
    unet: UNetModel,
    schedule: Annotated[Any, Choice("schedules")] = "karras",
    steps: Steps = 20,
    start_step: StartStep = 0,
    end_step: EndStep = None,
    finish: Finish = False,
    strength: Strength = 1.0,
    schedule_options: ScheduleOptions = None,
) -> Sigmas:
    """Compute the noise levels of a schedule for a model.

    Give them to `Sampler` as `sigmas`; on the way they can be split or reversed.
    """
    from nodegraph_diffusion.sampling import sigmas_for
    from nodegraph_diffusion.schedules import SCHEDULES

    levels = sigmas_for(
        SCHEDULES[schedule] if isinstance(schedule, str) else schedule,
        unet.part.noise_schedule,
        steps,
        strength=strength,
        start_step=start_step,
        end_step=end_step,
        finish=finish,
        options=schedule_options,
    )
    return Sigmas(levels)


def _check_levels(**literals: Any) -> Iterable[str]:
    from nodegraph_diffusion.schedules.levels import require_levels

    try:
        require_levels(literals.get("levels", [1.0, 0.0]))
    except ValueError as error:
        yield f"levels: {str(error).removeprefix('sigmas: ')}"  # the input is called levels here


@node("Sigmas", check=_check_levels, foreign_names=("ManualSigmas",))
def sigmas(levels: Annotated[list[float], Help("decreasing; 0 at the end means a clean latent")]) -> Sigmas:
    """Give the noise levels as a list.

    `levels: [14.6, 6.5, 2.5, 0.9, 0.3, 0.0]` means five steps.
    """
    from nodegraph_diffusion.schedules.levels import explicit_sigmas

    return Sigmas(explicit_sigmas(levels))


class Split(NamedTuple):
    """Two parts of a list of noise levels; the last level of the first part is the first of the second."""

    high: Sigmas
    low: Sigmas


@node("SplitSigmas", foreign_names=("SplitSigmasDenoise",))
def split_sigmas(sigmas: Sigmas, step: Annotated[int, Range(0, 10_000), Help("the number of steps in the first part")]) -> Split:
    """Split a list of noise levels in two.

    One sampler runs the first part, and another continues with the second.
    """
    from nodegraph_diffusion.schedules.levels import split_sigmas

    return Split(*map(Sigmas, split_sigmas(sigmas.values, step)))


@node("FlipSigmas")
def flip_sigmas(sigmas: Sigmas) -> Sigmas:
    """Reverse a list of noise levels.

    Along reversed levels, a sampler that draws no noise turns a picture into noise from which it can be sampled again.
    """
    from nodegraph_diffusion.schedules.levels import flip_sigmas

    return Sigmas(flip_sigmas(sigmas.values))
