"""Nodes that make lists of noise levels, for a sampler to walk along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from nodegraph import Choice, Help, OptionsOf, Range, node
from nodegraph_nodes.types import Sigmas, UNetModel

if TYPE_CHECKING:
    from collections.abc import Iterable

Steps = Annotated[int, Range(1, 10_000)]
StartStep = Annotated[int, Range(0, 10_000), Help("skip the steps before it")]
EndStep = Annotated[int | None, Range(0, 10_000), Help("stop there, leaving noise for another sampler")]
Strength = Annotated[float, Range(0, 1), Help("1 forgets what the latent shows, 0 keeps it")]
ScheduleOptions = Annotated[dict[str, Any] | None, OptionsOf("schedule"), Help("'nodegraph schedules NAME' lists them")]


def steps_fit(**given: Any) -> Iterable[str]:
    """What is wrong with where a run starts and ends."""
    steps, start, end, strength = (given.get(name) for name in ("steps", "start_step", "end_step", "strength"))
    if start and strength is not None and strength < 1:
        yield f"start_step {start} and strength {strength} both say where to start; leave one out"
    last = min((step for step in (steps, end) if step is not None), default=None)
    if start is not None and last is not None and start > last:
        yield f"start_step {start} lies behind the last step, {last}"


@node(
    "Schedule",
    check=steps_fit,
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
    strength: Strength = 1.0,
    schedule_options: ScheduleOptions = None,
) -> Sigmas:
    """The noise levels that a schedule gives for a model.

    They are what `Sampler` walks along, to be looked at, split or turned round.
    """
    from nodegraph_diffusion.sampling import sigmas_for
    from nodegraph_diffusion.schedules import SCHEDULES

    spaced = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    return Sigmas(sigmas_for(spaced, unet.part.schedule, steps, strength, start_step, end_step, schedule_options))


def _levels_fit(**given: Any) -> Iterable[str]:
    from nodegraph_diffusion.schedules.levels import require_levels

    try:
        require_levels(given.get("levels", [1.0, 0.0]))
    except ValueError as error:
        yield f"levels: {str(error).removeprefix('sigmas: ')}"  # as the input is called


@node("Sigmas", check=_levels_fit)
def sigmas(levels: Annotated[list[float], Help("decreasing; 0 at the end is the clean latent")]) -> Sigmas:
    """Noise levels written out.

    `levels: [14.6, 6.5, 2.5, 0.9, 0.3, 0.0]` is five steps.
    """
    from nodegraph_diffusion.schedules.levels import explicit_sigmas

    return Sigmas(explicit_sigmas(levels))


class Split(NamedTuple):
    """Two parts of a list of noise levels, which meet at one level."""

    high: Sigmas
    low: Sigmas


@node("SplitSigmas", foreign_names=("SplitSigmasDenoise",))
def split_sigmas(sigmas: Sigmas, step: Annotated[int, Range(0, 10_000), Help("the steps of the first part")]) -> Split:
    """Cut a list of noise levels in two.

    One sampler walks the first part, another goes on with the rest.
    """
    from nodegraph_diffusion.schedules.levels import split_sigmas

    return Split(*map(Sigmas, split_sigmas(sigmas.values, step)))


@node("FlipSigmas")
def flip_sigmas(sigmas: Sigmas) -> Sigmas:
    """Turn a list of noise levels round.

    A sampler that draws no noise walks it from a picture to the noise that it comes from.
    """
    from nodegraph_diffusion.schedules.levels import flip_sigmas

    return Sigmas(flip_sigmas(sigmas.values))
