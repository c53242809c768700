"""The schedules of Align Your Steps (Sabour et al. 2024): noise levels that were optimised for a model, as published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.schedules.levels import append_zero, require_steps

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.noise_schedule import NoiseSchedule

# Ten steps each. The first two tables hold the trained levels of the published training steps, 999 850 736 645 545 455 343 233 124
# 24 and 999 845 730 587 443 310 193 116 53 13; the published levels are close to them. The last level of a table is for
# interpolation only, and becomes 0.
TABLES: dict[str, tuple[float, ...]] = {
    "sd1": (
        *(14.6146412293, 6.4745760956, 3.8636745985, 2.6946151520, 1.8841921177),
        *(1.3943805092, 0.9642583904, 0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582),
    ),
    "sdxl": (
        *(14.6146412293, 6.3184485287, 3.7681790315, 2.1811480769, 1.3405244945),
        *(0.8620721141, 0.5550693289, 0.3798540708, 0.2332364134, 0.1114188177, 0.0291671582),
    ),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


def schedule_align_your_steps(noise_schedule: NoiseSchedule, steps: int, *, model: Literal["sd1", "sdxl", "svd"] = "sd1") -> Tensor:
    """Levels optimised for ten steps of a model, then 0 (Sabour et al. 2024).

    For other numbers of steps, log sigma is interpolated. `model`: Stable Diffusion 1, Stable Diffusion XL, or Stable Video
    Diffusion. The levels are those of that model, whatever `noise_schedule` is; a denoiser treats a level outside its trained range
    as the nearest one inside.
    """
    import numpy as np
    import torch

    require_steps(steps)
    if model not in TABLES:
        raise ValueError(f"schedule align_your_steps: expected model {', '.join(TABLES)}, found {model!r}; sd1 is also for SD 2")
    table = TABLES[model]
    positions = np.linspace(0, len(table) - 1, steps + 1)[:-1]
    return append_zero(torch.from_numpy(np.exp(np.interp(positions, np.arange(len(table)), np.log(table)))))
