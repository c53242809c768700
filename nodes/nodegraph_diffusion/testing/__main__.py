"""`python -m nodegraph_diffusion.testing`: a table of every sampler's order; `--write` keeps it in `sampling/measured.py`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from nodegraph_diffusion import sampling
from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.testing.convergence import measured_orders

KEPT = Path(sampling.__file__).with_name("measured.py")


def table(orders: Mapping[str, float]) -> str:
    """Name, declared and measured order, evaluations per step, one sampler a line."""
    lines = [f"{'sampler':<28}{'declared':>9}{'measured':>9}{'evaluations':>12}"]
    for name, spec in sorted(SAMPLERS.items()):
        declared = "-" if spec.order is None else spec.order
        found = f"{orders[name]:.2f}" if name in orders else "-"
        calls = "varying" if spec.evaluations_per_step is None else spec.evaluations_per_step
        lines.append(f"{name:<28}{declared:>9}{found:>9}{calls:>12}")
    return "\n".join(lines)


def as_python(orders: Mapping[str, float]) -> str:
    """The module that holds the numbers, so that a listing has them without computing."""
    rows = "".join(f'    "{name}": {order},\n' for name, order in sorted(orders.items()))
    return (
        '"""The order of convergence of each sampler as measured. Made by `python -m nodegraph_diffusion.testing --write`."""\n\n'
        "from __future__ import annotations\n\n"
        f"MEASURED: dict[str, float] = {{\n{rows}}}\n"
    )


if __name__ == "__main__":
    measured = measured_orders()
    print(table(measured))
    if "--write" in sys.argv[1:]:
        KEPT.write_text(as_python(measured), encoding="utf-8")
        print(f"wrote {KEPT}")
