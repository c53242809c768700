"""Classes that compute noise levels."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Levels, Model
from nodegraph_comfyui.classes.node_class import NodeClass

_MOST: Final = 10_000
_AS_MANY: Final = ("karras", "exponential", "normal", "simple", "sgm_uniform")
"""The schedules that make as many steps as they are asked for."""
_NUMBER: Final = re.compile(r"[-+]?(?:\d*\.*\d+)")


def _basic(call: Call) -> Levels:
    strength = call.setting("denoise", "strength") if call.literal("denoise") != 1 else None
    levels = _scheduled(call, schedule=call["scheduler"], strength=strength)
    known = call.literal("scheduler") in _AS_MANY and call.literal("denoise") > 0
    return dataclasses.replace(levels, steps=call.literal("steps") if known else None)


def _turbo(call: Call) -> Levels:
    denoise = call.literal("denoise")
    return _scheduled(call, schedule="turbo", schedule_options={"denoise": denoise} if denoise != 1 else None)


def _beta(call: Call) -> Levels:
    return _scheduled(call, schedule="beta", schedule_options={name: call.literal(name) for name in ("alpha", "beta")})


def _scheduled(call: Call, **inputs: Any) -> Levels:
    return Levels(link=call.add("Schedule", "levels", unet=call.get("model", Model).unet, steps=call.setting("steps"), **inputs))


def _karras(call: Call) -> Levels:
    low, high, rho = _range_of(call)
    return _written(call, lambda r: (high ** (1 / rho) + r * (low ** (1 / rho) - high ** (1 / rho))) ** rho)


def _exponential(call: Call) -> Levels:
    low, high, _ = _range_of(call)
    return _written(call, lambda r: math.exp(math.log(high) + r * (math.log(low) - math.log(high))))


def _polyexponential(call: Call) -> Levels:
    low, high, rho = _range_of(call)
    return _written(call, lambda r: math.exp((1 - r) ** rho * (math.log(high) - math.log(low)) + math.log(low)))


def _laplace(call: Call) -> Levels:
    """Levels along a Laplace distribution of log sigma (Hang et al. 2024), as ComfyUI has them: the last one is not 0."""
    low, high, _ = _range_of(call)
    mu, beta = call.literal("mu"), call.literal("beta")

    def level(r: float) -> float:
        place = 0.5 - r
        spread = math.log(1 - 2 * abs(place) + 1e-5)  # finite at both ends
        return min(max(math.exp(mu - beta * (place > 0) * spread + beta * (place < 0) * spread), low), high)

    return _written(call, level, whole=False)


def _vp(call: Call) -> Levels:
    """Levels of a process that preserves variance (Song et al. 2021, Eq. 32)."""
    slope, least, last = (call.literal(name) for name in ("beta_d", "beta_min", "eps_s"))

    def level(r: float) -> float:
        time = 1 + r * (last - 1)
        return math.sqrt(math.expm1(slope * time**2 / 2 + least * time))

    return _written(call, level)


def _align_your_steps(call: Call) -> Levels:
    from nodegraph_diffusion.schedules.align_your_steps import TABLES

    logs = [math.log(level) for level in TABLES[call.choice("model_type", {"SD1": "sd1", "SDXL": "sdxl"})]]
    steps, denoise = len(_ramp(call)), call.literal("denoise")
    left = round(steps * denoise) if denoise < 1 else steps
    if left < 1:
        raise RefusedError(f"'denoise' is {denoise}, which leaves no step")

    def level(step: int) -> float:
        place = step / steps * (len(logs) - 1)
        below = min(int(place), len(logs) - 2)
        return math.exp(logs[below] + (place - below) * (logs[below + 1] - logs[below]))

    return _explicit(call, [*(level(step) for step in range(steps - left, steps)), 0.0])


def _manual(call: Call) -> Levels:
    return _explicit(call, [float(number) for number in _NUMBER.findall(call.literal("sigmas"))])


def _range_of(call: Call) -> tuple[float, float, float]:
    low, high = call.literal("sigma_min"), call.literal("sigma_max")
    rho = call.literal("rho") if "rho" in call.inputs else 1.0
    if not 0 < low <= high or not rho > 0:
        raise RefusedError(
            f"it makes noise levels from {high} to {low} with rho {rho}; expected falling levels above 0, and rho above 0"
        )
    return low, high, rho


def _ramp(call: Call) -> list[float]:
    steps = call.literal("steps")
    if not 1 <= steps <= _MOST:
        raise RefusedError(f"'steps' is {steps}; expected 1 to {_MOST:,}")
    return [k / (steps - 1) if steps > 1 else 0.0 for k in range(int(steps))]


def _written(call: Call, level: Callable[[float], float], *, whole: bool = True) -> Levels:
    """The levels at places from 0 to 1, and then 0 unless not `whole`."""
    try:
        levels = [float(level(r)) for r in _ramp(call)]
    except (OverflowError, ValueError, ZeroDivisionError):
        raise RefusedError("its numbers make no noise levels") from None
    return _explicit(call, [*levels, 0.0] if whole else levels)


def _explicit(call: Call, levels: list[float]) -> Levels:
    rounded = [float(f"{level:.7g}") for level in levels]
    falls = all(above > below for above, below in itertools.pairwise(rounded))
    if len(rounded) < 2 or not falls or rounded[-1] < 0 or not math.isfinite(rounded[0]):
        raise RefusedError("it makes noise levels that do not fall, or fewer than two; here each must be below the one before it")
    return Levels(link=call.add("Sigmas", "levels", levels=rounded), whole=rounded[-1] == 0, steps=len(rounded) - 1)


def _split(call: Call) -> tuple[Levels, Levels]:
    return _split_at(call, call["step"])


def _split_by_strength(call: Call) -> tuple[Levels, Levels]:
    steps, denoise = call.get("sigmas", Levels).steps, call.literal("denoise")
    if steps is None:
        raise RefusedError("it is not known how many steps its noise levels make. Use SplitSigmas in ComfyUI, which takes a step")
    if not 1 <= (last := round(steps * denoise)) <= steps:
        raise RefusedError(f"'denoise' is {denoise}, which is no step of {steps}")
    return _split_at(call, steps - last)


def _split_at(call: Call, step: Any) -> tuple[Levels, Levels]:
    levels = call.get("sigmas", Levels)
    split = call.add("SplitSigmas", "split", sigmas=levels.link, step=step)
    high, low = (Ref(split.step, port) for port in ("high", "low"))
    counts = (step, levels.steps - step) if isinstance(step, int) and levels.steps is not None else (None, None)
    return Levels(link=high, whole=False, steps=counts[0]), Levels(link=low, whole=levels.whole, steps=counts[1])


def _flip(call: Call) -> Levels:
    levels = call.get("sigmas", Levels)
    return Levels(link=call.add("FlipSigmas", "flipped", sigmas=levels.link), whole=False, steps=levels.steps)


_OWN_RANGE: Final = "the levels are written out: they do not depend on the model"

CLASSES: Final = (
    NodeClass(
        name="BasicScheduler",
        title="BasicScheduler",
        inputs="model:MODEL scheduler:COMBO=normal steps:INT=20 denoise:FLOAT=1.0",
        outputs=("SIGMAS",),
        convert=_basic,
        here=("Schedule",),
        renamed="model: `unet`; scheduler: `schedule`; `steps`; denoise: `strength`",
    ),
    NodeClass(
        name="SDTurboScheduler",
        title="SDTurboScheduler",
        inputs="model:MODEL steps:INT=1 denoise:FLOAT=1.0",
        outputs=("SIGMAS",),
        convert=_turbo,
        here=("Schedule",),
        renamed="`schedule: turbo`; denoise: `schedule_options`",
    ),
    NodeClass(
        name="BetaSamplingScheduler",
        title="BetaSamplingScheduler",
        inputs="model:MODEL steps:INT=20 alpha:FLOAT=0.6 beta:FLOAT=0.6",
        outputs=("SIGMAS",),
        convert=_beta,
        here=("Schedule",),
        renamed="`schedule: beta`; alpha, beta: `schedule_options`",
    ),
    NodeClass(
        name="KarrasScheduler",
        title="KarrasScheduler",
        inputs="steps:INT=20 sigma_max:FLOAT=14.614642 sigma_min:FLOAT=0.0291675 rho:FLOAT=7.0",
        outputs=("SIGMAS",),
        convert=_karras,
        here=("Schedule",),
        renamed="`schedule: karras`, `schedule_options: {rho: 7.0}`",
        differs=f"`Schedule` goes from the model's largest level to its smallest. Imported: {_OWN_RANGE}",
    ),
    NodeClass(
        name="ExponentialScheduler",
        title="ExponentialScheduler",
        inputs="steps:INT=20 sigma_max:FLOAT=14.614642 sigma_min:FLOAT=0.0291675",
        outputs=("SIGMAS",),
        convert=_exponential,
        here=("Schedule",),
        renamed="`schedule: exponential`",
        differs=_OWN_RANGE,
    ),
    NodeClass(
        name="PolyexponentialScheduler",
        title="PolyexponentialScheduler",
        inputs="steps:INT=20 sigma_max:FLOAT=14.614642 sigma_min:FLOAT=0.0291675 rho:FLOAT=1.0",
        outputs=("SIGMAS",),
        convert=_polyexponential,
        here=("Schedule",),
        renamed="`schedule: polyexponential`, `schedule_options: {rho: 1.0}`",
        differs=_OWN_RANGE,
    ),
    NodeClass(
        name="LaplaceScheduler",
        title="LaplaceScheduler",
        inputs="steps:INT=20 sigma_max:FLOAT=14.614642 sigma_min:FLOAT=0.0291675 mu:FLOAT=0.0 beta:FLOAT=0.5",
        outputs=("SIGMAS",),
        convert=_laplace,
        here=("Schedule",),
        renamed="`schedule: laplace`; mu, beta: `schedule_options`",
        differs=f"ComfyUI's levels do not end at 0. Imported: {_OWN_RANGE}",
    ),
    NodeClass(
        name="VPScheduler",
        title="VPScheduler",
        inputs="steps:INT=20 beta_d:FLOAT=19.9 beta_min:FLOAT=0.1 eps_s:FLOAT=0.001",
        outputs=("SIGMAS",),
        convert=_vp,
        here=("Schedule",),
        renamed="`schedule: vp`",
        differs=_OWN_RANGE,
    ),
    NodeClass(
        name="AlignYourStepsScheduler",
        title="AlignYourStepsScheduler",
        inputs="model_type:COMBO=SD1 steps:INT=10 denoise:FLOAT=1.0",
        outputs=("SIGMAS",),
        convert=_align_your_steps,
        here=("Schedule",),
        renamed="`schedule: align_your_steps`; model_type: `schedule_options: {model: sdxl}`",
        differs=_OWN_RANGE,
    ),
    NodeClass(
        name="ManualSigmas",
        title="ManualSigmas",
        inputs="sigmas:STRING=1,0.5",
        outputs=("SIGMAS",),
        convert=_manual,
        here=("Sigmas",),
        renamed="sigmas: `levels`",
        differs="each level must be below the one before it",
    ),
    NodeClass(
        name="SplitSigmasDenoise",
        title="SplitSigmasDenoise",
        inputs="sigmas:SIGMAS denoise:FLOAT=1.0",
        outputs=("SIGMAS", "SIGMAS"),
        convert=_split_by_strength,
        here=("SplitSigmas",),
        renamed="denoise: `step`, counted from the start",
        differs="imported if it is known how many steps there are",
    ),
    NodeClass(
        name="SplitSigmas",
        title="SplitSigmas",
        inputs="sigmas:SIGMAS step:INT=0",
        outputs=("SIGMAS", "SIGMAS"),
        convert=_split,
        here=("SplitSigmas",),
        renamed="`sigmas`, `step`",
    ),
    NodeClass(
        name="FlipSigmas",
        title="FlipSigmas",
        inputs="sigmas:SIGMAS",
        outputs=("SIGMAS",),
        convert=_flip,
        here=("FlipSigmas",),
        renamed="`sigmas`",
    ),
)
