"""Classes that compute noise levels."""

from __future__ import annotations

import math
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Levels, Model
from nodegraph_comfyui.classes.node_class import NodeClass

_MOST: Final = 10_000


def _basic(call: Call) -> Levels:
    strength = call.setting("denoise", "strength") if call.literal("denoise") != 1 else None
    return _scheduled(call, schedule=call["scheduler"], strength=strength)


def _turbo(call: Call) -> Levels:
    denoise = call.literal("denoise")
    return _scheduled(call, schedule="turbo", schedule_options={"denoise": denoise} if denoise != 1 else None)


def _beta(call: Call) -> Levels:
    return _scheduled(call, schedule="beta", schedule_options={name: call.literal(name) for name in ("alpha", "beta")})


def _scheduled(call: Call, **inputs: Any) -> Levels:
    return Levels(link=call.add("Schedule", "levels", unet=call.get("model", Model).unet, steps=call.setting("steps"), **inputs))


def _karras(call: Call) -> Levels:
    low, high, rho = _range_of(call)
    return _written(call, [(high ** (1 / rho) + r * (low ** (1 / rho) - high ** (1 / rho))) ** rho for r in _ramp(call)] + [0.0])


def _exponential(call: Call) -> Levels:
    low, high, _ = _range_of(call)
    return _written(call, [math.exp(math.log(high) + r * (math.log(low) - math.log(high))) for r in _ramp(call)] + [0.0])


def _polyexponential(call: Call) -> Levels:
    low, high, rho = _range_of(call)
    return _written(
        call, [math.exp((1 - r) ** rho * (math.log(high) - math.log(low)) + math.log(low)) for r in _ramp(call)] + [0.0]
    )


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
    return [k / (steps - 1) if steps > 1 else 0.0 for k in range(steps)]


def _written(call: Call, levels: list[float]) -> Levels:
    return Levels(link=call.add("Sigmas", "levels", levels=[float(f"{level:.7g}") for level in levels]))


def _split(call: Call) -> tuple[Levels, Levels]:
    levels = call.get("sigmas", Levels)
    split = call.add("SplitSigmas", "split", sigmas=levels.link, step=call["step"])
    return Levels(link=Ref(split.step, "high"), whole=False), Levels(link=Ref(split.step, "low"), whole=levels.whole)


def _flip(call: Call) -> Levels:
    return Levels(link=call.add("FlipSigmas", "flipped", sigmas=call.get("sigmas", Levels).link), whole=False)


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
