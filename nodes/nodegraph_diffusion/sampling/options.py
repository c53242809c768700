"""The options that most samplers with noise have: `eta`, the share of the posterior's noise, and `s_noise`, its scale."""

from __future__ import annotations

from typing import Final

from nodegraph_diffusion.options import Range

AT_LEAST_0: Final[Range] = (0.0, None)
NOISE_RANGES: Final = {"eta": AT_LEAST_0, "s_noise": AT_LEAST_0}


def require_at_least_0(sampler: str, **options: float) -> None:
    """Raise ValueError if an option is negative; `sampler` is the sampler's name, for the message."""
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(
                f"sampler {sampler}: expected {name} of at least 0, found {value}; 1 is the usual amount of noise, 0 is no noise"
            )
