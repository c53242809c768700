"""Guidance: functions from a guided denoiser to another, and denoisers that combine several prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodegraph_diffusion.guidance.adjusted import AdjustedGuidance
from nodegraph_diffusion.guidance.dynamic_threshold import guidance_dynamic_threshold
from nodegraph_diffusion.guidance.interval import guidance_interval, require_non_empty_interval
from nodegraph_diffusion.guidance.perturbed_attention import guidance_perturbed_attention
from nodegraph_diffusion.guidance.rescale import guidance_rescale
from nodegraph_diffusion.guidance.self_attention import guidance_self_attention
from nodegraph_diffusion.guidance.spec import Guidance, GuidanceSpec

if TYPE_CHECKING:
    from nodegraph_diffusion.guidance.classifier_free import ClassifierFreeGuidance
    from nodegraph_diffusion.guidance.composed import ComposedGuidance
    from nodegraph_diffusion.guidance.dual import DualGuidance
    from nodegraph_diffusion.guidance.gradient import GradientGuidance, Score
    from nodegraph_diffusion.guidance.perp_neg import PerpNeg

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
        together=require_non_empty_interval,
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
    "AdjustedGuidance",
    "ClassifierFreeGuidance",
    "ComposedGuidance",
    "DualGuidance",
    "GradientGuidance",
    "Guidance",
    "GuidanceSpec",
    "PerpNeg",
    "Score",
]

_LAZY = frozenset(("ClassifierFreeGuidance", "ComposedGuidance", "DualGuidance", "GradientGuidance", "PerpNeg", "Score"))


def __getattr__(name: str) -> Any:
    """The denoisers that nodes make are imported on first use: listing guidance does not need them.

    The modules are written out: with a computed name, a plugin that imports this package would depend on all that is loaded.
    """
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nodegraph_diffusion.guidance import classifier_free, composed, dual, gradient, perp_neg

    modules = (classifier_free, composed, dual, gradient, perp_neg)
    return next(getattr(module, name) for module in modules if hasattr(module, name))
