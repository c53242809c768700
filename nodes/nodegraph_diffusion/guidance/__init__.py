"""Guidance: functions from a denoiser with two sides to another, and denoisers under more than two prompts."""

from __future__ import annotations

from nodegraph_diffusion.guidance.declared import Guidance, GuidanceSpec
from nodegraph_diffusion.guidance.dual import DualGuidance
from nodegraph_diffusion.guidance.dynamic import guidance_dynamic_threshold
from nodegraph_diffusion.guidance.gradient import GradientGuidance, Score
from nodegraph_diffusion.guidance.interval import guidance_interval, require_some
from nodegraph_diffusion.guidance.perp_neg import PerpNeg
from nodegraph_diffusion.guidance.perturbed import guidance_perturbed_attention
from nodegraph_diffusion.guidance.rescale import guidance_rescale
from nodegraph_diffusion.guidance.self_attention import guidance_self_attention

GUIDANCE: dict[str, GuidanceSpec] = {
    "dynamic_threshold": GuidanceSpec(
        guidance_dynamic_threshold,
        paper="Saharia et al. 2022, arXiv:2205.11487, sec. 2.3",
        ranges={"percentile": (0, 1), "mimic": (0, 100), "limit": (1e-3, 1e3)},
        aliases=("Dynamic Thresholding", "CFG Scale Fix"),
    ),
    "interval": GuidanceSpec(
        guidance_interval,
        paper="Kynkäänniemi et al. 2024, arXiv:2404.07724",
        ranges={"start": (0, 1), "end": (0, 1), "sigma_start": (0, 1e6), "sigma_end": (0, 1e6)},
        together=require_some,
        aliases=("skipped guidance",),
    ),
    "perturbed_attention": GuidanceSpec(
        guidance_perturbed_attention,
        evaluations=1,
        paper="Ahn et al. 2024, arXiv:2403.17377",
        ranges={"scale": (0, 100)},
        aliases=("PAG", "PerturbedAttentionGuidance"),
    ),
    "rescale": GuidanceSpec(
        guidance_rescale,
        paper="Lin et al. 2023, arXiv:2305.08891, sec. 3.4",
        ranges={"amount": (0, 1)},
        aliases=("RescaleCFG", "guidance_rescale"),
    ),
    "self_attention": GuidanceSpec(
        guidance_self_attention,
        evaluations=2,
        paper="Hong et al. 2023, arXiv:2210.00939",
        ranges={"scale": (-10, 10), "blur_sigma": (0.01, 100)},
        aliases=("SAG", "SelfAttentionGuidance"),
    ),
}

__all__ = [
    "GUIDANCE",
    "DualGuidance",
    "GradientGuidance",
    "Guidance",
    "GuidanceSpec",
    "PerpNeg",
    "Score",
]
