"""Every sampler converges with the order that it declares."""

from __future__ import annotations

import math

import pytest

from tests.support.orders import ORDERS, Order
from tests.support.stochastic_samplers import error

STEPS = 96  # a multiple of 3: dpm_fast groups its steps by three


@pytest.mark.parametrize("row", ORDERS, ids=lambda row: f"{row.name}-{row.options}")
def test_order_of_convergence(row: Order) -> None:
    coarse, fine = (error(row.name, steps, row.sigma_max, **row.options) for steps in (STEPS, 2 * STEPS))
    assert math.log2(coarse / fine) == pytest.approx(row.order, abs=0.2)
