"""Nodes that denoise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import Choice, Help, OptionsOf, Range, Run, node
from nodegraph_nodes.models.previews import LatentPreview
from nodegraph_nodes.nodes.concat import beside
from nodegraph_nodes.nodes.mask import covering
from nodegraph_nodes.nodes.sigmas import EndStep, ScheduleOptions, StartStep, Steps, Strength, steps_fit
from nodegraph_nodes.types import Conditioning, Denoiser, Latent, Mask, Noise, Sigmas, UNetModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
    from nodegraph_diffusion.networks.config import UNetConfig


@node("UNetDenoise", numeric=True, elsewhere=("KSampler", "KSamplerAdvanced", "SamplerCustom", "CFGGuider", "BasicGuider"))
def unet_denoise(
    unet: UNetModel,
    positive: Conditioning,
    negative: Conditioning,
    cfg: Annotated[float, Range(0, 100), Help("guidance: 1 is none, 3 to 8 are usual")] = 5.0,
    run: Run = Run(),
) -> Denoiser:
    """A denoiser under two prompts: classifier-free guidance.

    `negative + cfg * (positive - negative)` (Ho & Salimans 2022). Each may be several that are combined: what the network sees
    under them is averaged. A network that was distilled with guidance, as LCM's is, is told of `cfg` and computes under the
    positive prompt alone.
    """
    from nodegraph_diffusion.guidance import ClassifierFreeGuidance

    part = unet.part
    toward, away = under_prompts(unet, run, cfg - 1, positive=positive, negative=negative)  # w: both write guidance as 1 + w
    if part.config.guidance_dim is None:
        return Denoiser(ClassifierFreeGuidance(toward, away, cfg), part.latent)
    run.notice("the model was distilled with guidance: it is told of cfg, and the negative prompt does not count")
    return Denoiser(toward, part.latent)


def under_prompts(unet: UNetModel, run: Run, guidance: float = 0.0, /, **sides: Conditioning) -> list[UNetDenoiser]:
    """The UNet under the prompts of each side; one that was distilled with guidance is told of `guidance`, the paper's w.

    Raises ValueError for prompts of another model, named by their side.
    """
    from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser

    part = unet.part
    for name, side in sides.items():
        for prompt in side.prompts:
            _require_fit(name, prompt, part.config)
    network, concat = unet.load(run), beside(unet)
    controls = [control.load(run) for control in unet.controls]
    return [
        UNetDenoiser(
            network,
            part.schedule,
            side.prompts,
            concat=concat,
            controls=controls,
            cell=part.latent.factor,
            guidance=guidance,
        )
        for side in sides.values()
    ]


def _require_fit(name: str, prompt: Prompt, config: UNetConfig) -> None:
    """Raises ValueError where the prompt was encoded for another model."""
    width = prompt.embedding.shape[-1]
    if width != config.context_dim:
        raise ValueError(
            f"{name}: expected a prompt of width {config.context_dim}, which this UNet attends to, found {width}; "
            f"encode it with the text encoder of the same model"
        )
    if config.added_dim is not None and prompt.pooled is None:
        raise ValueError(
            f"{name}: expected a prompt with a pooled encoding, which this UNet is told of, found none; encode it with the text "
            f"encoders of the same model"
        )


def _levels_fit(**given: Any) -> Iterable[str]:
    yield from steps_fit(**given)
    said = [
        name for name, default in (("start_step", 0), ("end_step", None), ("strength", 1)) if given.get(name, default) != default
    ]
    if "sigmas" not in given and said:
        yield f"sigmas says where to start and to end, and {' and '.join(said)} says it, too; leave one out"


@node(
    "Sampler",
    numeric=True,
    check=_levels_fit,
    elsewhere=(
        "KSampler",
        "KSamplerAdvanced",
        "SamplerCustom",
        "SamplerCustomAdvanced",
        "KSamplerSelect",
        "SetLatentNoiseMask",
        "VAEEncodeForInpaint",
        "DifferentialDiffusion",
    ),
)
def sampler(
    denoiser: Denoiser,
    latent: Latent,
    noise: Noise,
    mask: Annotated[Mask | None, Help("white is repainted, the rest kept at every step")] = None,
    sigmas: Annotated[Sigmas | None, Help("noise levels, in place of schedule, steps, start_step, end_step and strength")] = None,
    sampler: Annotated[Any, Choice("samplers")] = "dpmpp_2m",
    schedule: Annotated[Any, Choice("schedules")] = "karras",
    steps: Steps = 20,
    start_step: StartStep = 0,
    end_step: EndStep = None,
    strength: Strength = 1.0,
    soft_mask: Annotated[
        Literal["blend", "differential"], Help("greys: mixed at every step, or kept for a part of the steps")
    ] = "blend",
    step_noise: Annotated[Literal["fresh", "comfyui"], Help("comfyui: draw as ComfyUI 0.3.64 does")] = "fresh",
    options: Annotated[dict[str, Any] | None, OptionsOf("sampler"), Help("'nodegraph samplers NAME' lists them")] = None,
    schedule_options: ScheduleOptions = None,
    run: Run = Run(),
) -> Latent:
    """Denoise a latent, along the noise levels of a schedule.

    It is noised to the first level of the schedule, and walked down it by the sampler. `strength` s below 1 takes the last steps
    of a schedule of int(steps / s) steps. With a mask, what is black keeps the latent given, noised to each level, so that what
    is white is painted to fit.
    """
    import torch

    from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
    from nodegraph_diffusion.schedules import SCHEDULES

    function = denoiser.function
    walk = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
    if sigmas is None:
        spaced = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
        discard = getattr(walk, "discard_penultimate", False)
        levels = sigmas_for(spaced, function.noise_schedule, steps, strength, start_step, end_step, schedule_options, discard)
    else:
        levels = sigmas.values
        _require_walkable(levels, walk)
    total = len(levels) - 1
    samples = sample(
        function,
        latent.samples.to(run.device),
        noise.values.to(run.device),
        walk,
        levels,
        mask=None if mask is None else covering(mask, latent, run).to(run.device),
        soft_mask=soft_mask,
        step_noise=step_noise,
        seed=noise.seed,
        on_step=lambda i, x, denoised: run.step(i + 1, total, LatentPreview(denoised, denoiser.latent, latent.size)),
        options=options,
    )
    if not isinstance(samples, torch.Tensor) or samples.shape != latent.samples.shape:
        found = f"shape {list(samples.shape)}" if isinstance(samples, torch.Tensor) else type(samples).__name__
        raise ValueError(
            f"expected a latent of shape {list(latent.samples.shape)} from the sampler, found {found}. Mend the sampler"
        )
    return Latent(samples.float().cpu(), latent.size)


def _require_walkable(levels: Tensor, walk: Any) -> None:
    """Raises ValueError for noise levels that go up where the sampler puts noise in of its own."""
    if len(levels) > 1 and bool(levels[-1] > levels[0]) and getattr(walk, "stochastic", False):
        raise ValueError(
            f"sigmas: expected a sampler that draws no noise for levels that go up from {float(levels[0]):g} to "
            f"{float(levels[-1]):g}, found {getattr(walk, '__name__', walk)}; take euler, or sigmas that are not turned round"
        )
