"""The order of convergence of each sampler as measured. Made by `python -m nodegraph_diffusion.testing --write`."""

from __future__ import annotations

MEASURED: dict[str, float] = {
    "ddim": 0.99,
    "deis": 2.87,
    "dpm_2": 2.01,
    "dpm_fast": 1.96,
    "dpm_solver_3": 3.05,
    "dpmpp_2m": 1.96,
    "dpmpp_2m_cfg_pp": 1.96,
    "euler": 0.99,
    "euler_cfg_pp": 0.99,
    "gradient_estimation": 0.93,
    "gradient_estimation_cfg_pp": 0.93,
    "heun": 2.02,
    "heunpp2": 0.99,
    "ipndm": 2.0,
    "ipndm_v": 2.68,
    "lms": 3.5,
    "plms": 2.01,
    "res_multistep": 2.0,
    "res_multistep_cfg_pp": 2.0,
    "uni_pc": 2.02,
    "uni_pc_bh2": 2.03,
}
