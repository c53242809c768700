"""The order of convergence of each sampler as measured. Made by `python -m nodegraph_diffusion.testing --write`."""

from __future__ import annotations

MEASURED: dict[str, float] = {
    "ddim": 0.99,
    "dpmpp_2m": 1.96,
    "euler": 0.99,
    "heun": 2.02,
}
