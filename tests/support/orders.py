"""The orders of convergence that the samplers must have without noise: one table."""

from __future__ import annotations

from typing import Any, NamedTuple

from nodegraph_diffusion.sampling import SAMPLERS


class Order(NamedTuple):
    """A sampler with options converges with `order`, from noise level `sigma_max` to 0.1.

    The first steps of a multistep sampler have a lower order. From a high level their error is too small to be seen.
    """

    name: str
    options: dict[str, Any]
    sigma_max: float
    order: int


ORDERS = (
    *(Order(name, {}, 1.0, spec.order) for name, spec in SAMPLERS.items() if spec.order is not None),
    # the stochastic samplers with options that draw no noise
    Order("dpmpp_2s_ancestral", {"eta": 0.0}, 10.0, 2),
    Order("dpmpp_sde", {"eta": 0.0}, 10.0, 2),
    Order("dpmpp_sde", {"eta": 0.0, "r": 0.7}, 10.0, 2),
    Order("dpmpp_2m_sde", {"eta": 0.0}, 10.0, 2),
    Order("dpmpp_2m_sde", {"eta": 0.0, "solver_type": "heun"}, 10.0, 2),
    Order("dpmpp_2m_sde_heun", {"eta": 0.0}, 10.0, 2),
    Order("dpmpp_3m_sde", {"eta": 0.0}, 10.0, 2),
    Order("seeds_2", {"eta": 0.0}, 80.0, 2),
    Order("seeds_2", {"eta": 0.0, "r": 0.8}, 80.0, 2),
    Order("seeds_3", {"eta": 0.0}, 80.0, 3),
    Order("er_sde", {"solver_type": "ode", "max_stage": 1}, 80.0, 1),
    Order("er_sde", {"solver_type": "ode", "max_stage": 2, "integration_points": 5_000}, 80.0, 2),
    Order("er_sde", {"solver_type": "ode", "max_stage": 3, "integration_points": 5_000}, 80.0, 2),
    Order("sa_solver", {"eta": 0.0, "predictor_order": 1, "corrector_order": 0}, 80.0, 1),
    Order("sa_solver", {"eta": 0.0, "predictor_order": 2, "corrector_order": 0}, 80.0, 2),
    Order("sa_solver", {"eta": 0.0, "predictor_order": 3, "corrector_order": 0}, 80.0, 3),
    Order("sa_solver", {"eta": 0.0, "predictor_order": 1, "corrector_order": 2}, 80.0, 2),
    Order("sa_solver", {"eta": 0.0}, 80.0, 4),
    Order("sa_solver_pece", {"eta": 0.0}, 80.0, 4),
    Order("sa_solver", {"eta": 0.0, "predictor_order": 2, "corrector_order": 2, "simple_order_2": True}, 80.0, 2),
)
