"""Nodes that denoise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import Choice, Help, OptionsOf, Range, Run, node
from nodegraph_nodes.models.denoisers import load_denoisers, terms_of
from nodegraph_nodes.nodes.mask import mask_for_latent
from nodegraph_nodes.nodes.sigmas import EndStep, Finish, ScheduleOptions, StartStep, Steps, Strength, check_steps
from nodegraph_nodes.types import Conditioning, Denoiser, Latent, Mask, Noise, Sigmas, UNetModel

if TYPE_CHECKING:
    from torch import Tensor


@node("UNetDenoise", numeric=True, foreign_names=("KSampler", "KSamplerAdvanced", "SamplerCustom", "CFGGuider", "BasicGuider"))
def unet_denoise(
    unet: UNetModel,
    positive: Conditioning,
    negative: Conditioning,
    cfg: Annotated[float, Range(0, 100), Help("guidance scale; 1 turns guidance off, 3 to 8 are usual")] = 5.0,
    run: Run = Run(),
) -> Denoiser:
    """Make a denoiser from a UNet and two prompts: classifier-free guidance.

    `negative + cfg * (positive - negative)` (Ho & Salimans 2022), where each side is the prediction under its prompts; if there
    are several, their predictions are averaged. The positive prompts of an `AND` are added instead, as what each adds to the
    negative one, times its weight. A UNet that was distilled with guidance, such as LCM's, receives `cfg` as an
    input instead and computes only under the positive prompt.
    """
    from nodegraph_diffusion.guidance import ClassifierFreeGuidance, ComposedGuidance

    part = unet.part
    terms = terms_of(positive)
    names = {f"positive {number}": Conditioning(prompts) for number, (_, prompts) in enumerate(terms, start=1)}
    if len(terms) > 1 and part.config.guidance_dim is None:
        denoisers = load_denoisers(unet, run, guidance=0.0, negative=negative, **names)
        function = ComposedGuidance(
            [denoisers[name] for name in names], denoisers["negative"], weights=[weight for weight, _ in terms], cfg=cfg
        )
        return Denoiser(function, part.latent)
    if len(terms) > 1:
        raise ValueError("positive: expected one prompt, since this model is not guided by a negative one, found AND. Leave it out")
    denoisers = load_denoisers(unet, run, guidance=cfg - 1, positive=positive, negative=negative)  # the papers write 1 + w
    if part.config.guidance_dim is None:
        return Denoiser(ClassifierFreeGuidance(denoisers["positive"], denoisers["negative"], cfg), part.latent)
    run.notice("the model was distilled with guidance: it receives cfg as an input, and the negative prompt is not used")
    return Denoiser(denoisers["positive"], part.latent)


def _check_levels(**literals: Any) -> Iterable[str]:
    yield from check_steps(**literals)
    defaults = {"start_step": 0, "end_step": None, "finish": False, "strength": 1}
    changed = [name for name, default in defaults.items() if literals.get(name, default) != default]
    if "sigmas" not in literals and changed:
        yield f"sigmas already sets where sampling starts and ends; leave out {' and '.join(changed)}, or sigmas"


@node(
    "Sampler",
    version=2,
    numeric=True,
    check=_check_levels,
    foreign_names=(
        "KSampler",
        "KSamplerAdvanced",
        "SamplerCustom",
        "SamplerCustomAdvanced",
        "KSamplerSelect",
        "SamplerEulerAncestral",
        "SamplerEulerAncestralCFGPP",
        "SamplerDPMPP_2S_Ancestral",
        "SamplerDPMPP_2M_SDE",
        "SamplerDPMPP_3M_SDE",
        "SamplerDPMPP_SDE",
        "SamplerLMS",
        "SamplerDPMAdaptative",
        "SamplerER_SDE",
        "SamplerSASolver",
        "SamplerSEEDS2",
        "SetLatentNoiseMask",
        "VAEEncodeForInpaint",
        "DifferentialDiffusion",
    ),
)
def sampler(
    denoiser: Denoiser,
    latent: Latent,
    noise: Noise,
    mask: Annotated[Mask | None, Help("white is repainted, black is kept")] = None,
    sigmas: Annotated[
        Sigmas | None, Help("noise levels, instead of schedule, steps, strength, start_step, end_step and finish")
    ] = None,
    sampler: Annotated[Any, Choice("samplers")] = "dpmpp_2m",
    schedule: Annotated[Any, Choice("schedules")] = "karras",
    steps: Steps = 20,
    start_step: StartStep = 0,
    end_step: EndStep = None,
    finish: Finish = False,
    strength: Strength = 1.0,
    soft_mask: Annotated[
        Literal["blend", "differential"],
        Help("for grey parts of the mask: blend mixes at every step, differential keeps them for some of the steps"),
    ] = "blend",
    step_noise: Annotated[
        Literal["fresh", "comfyui"] | None,
        Help("the noise of samplers that draw some; comfyui: the same as ComfyUI 0.3.64; default: fresh, or what like says"),
    ] = None,
    like: Annotated[
        Literal["comfyui"] | None,
        Help("comfyui: all noise is drawn as in ComfyUI, as with draw: sequential of Noise and step_noise: comfyui"),
    ] = None,
    options: Annotated[dict[str, Any] | None, OptionsOf("sampler"), Help("'nodegraph samplers NAME' lists them")] = None,
    schedule_options: ScheduleOptions = None,
    run: Run = Run(),
) -> Latent:
    """Denoise a latent with a sampler, along the noise levels of a schedule.

    The latent is noised to the first level, then denoised step by step. With a `strength` s below 1, only the last `steps` steps
    of a schedule of int(steps / s) steps run. With a mask, the black part is kept: at every step it is the given latent, noised
    to the current level, so that the white part is painted to fit; an inpainting UNet (9 input channels) that `ApplyInpaint` gave
    no picture sees the latent and the mask. A part of a split run, whose noise has `draw: none`, draws
    other noise for its steps than the parts before it.
    """
    from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
    from nodegraph_diffusion.schedules import SCHEDULES
    from nodegraph_nodes.models.previews import LatentPreview

    method = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
    if sigmas is None:
        levels = sigmas_for(
            SCHEDULES[schedule] if isinstance(schedule, str) else schedule,
            denoiser.function.noise_schedule,
            steps,
            strength=strength,
            start_step=start_step,
            end_step=end_step,
            finish=finish,
            options=schedule_options,
            discard_penultimate=getattr(method, "discard_penultimate", False),
        )
    else:
        levels = sigmas.values
        _require_sampler_for(levels, method)
    last = len(levels) - 1
    latent.require_space(denoiser.latent, "UNet denoises")
    samples = sample(
        denoiser.function,
        latent.samples.to(run.device),
        _start_noise(noise, like).to(run.device),
        method,
        sigmas=levels,
        mask=None if mask is None else mask_for_latent(mask, latent, run).to(run.device),
        soft_mask=soft_mask,
        step_noise=step_noise or like or "fresh",
        seed=noise.seed,
        on_step=lambda i, x, denoised: run.step(i + 1, last, LatentPreview(denoised, denoiser.latent, latent.size)),
        options=options,
        first_step=start_step,
        steps=steps if start_step or end_step is not None else None,
    )
    _require_same_shape(samples, latent.samples)
    return Latent(samples.float().cpu(), latent.size, latent.space or denoiser.latent, latent.numbers)


def _start_noise(noise: Noise, like: str | None) -> Tensor:
    """The noise to start from, drawn again as in ComfyUI if it was drawn otherwise and should be `like` it."""
    if like != "comfyui" or noise.draw != "per_picture":
        return noise.values
    from nodegraph_diffusion.sampling import draw_noise

    return draw_noise(noise.values.shape, noise.seed, "sequential", numbers=noise.numbers)


def _require_sampler_for(levels: Tensor, method: Any) -> None:
    """Raise ValueError if the noise levels go up and the sampler draws noise."""
    if len(levels) > 1 and bool(levels[-1] > levels[0]) and getattr(method, "stochastic", False):
        raise ValueError(
            f"sigmas: expected a sampler that draws no noise for levels that go up from {float(levels[0]):g} to "
            f"{float(levels[-1]):g}, found {getattr(method, '__name__', method)}; use euler, or sigmas that are not reversed"
        )


def _require_same_shape(samples: Any, latent: Tensor) -> None:
    """Raise ValueError if a sampler returned anything but a latent of the shape of `latent`."""
    import torch

    if not isinstance(samples, torch.Tensor) or samples.shape != latent.shape:
        found = f"shape {list(samples.shape)}" if isinstance(samples, torch.Tensor) else type(samples).__name__
        raise ValueError(f"expected a latent of shape {list(latent.shape)} from the sampler, found {found}. Correct the sampler")
