"""Nodes that denoise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import Choice, Help, OptionsOf, Range, Run, node
from nodegraph_nodes.concat import beside
from nodegraph_nodes.mask import covering
from nodegraph_nodes.previews import LatentPreview
from nodegraph_nodes.types import Conditioning, Denoiser, Latent, Mask, Noise, UNetModel

if TYPE_CHECKING:
    from nodegraph_diffusion.conditioning import Prompt
    from nodegraph_diffusion.config import UNetConfig


@node("UNetDenoise", numeric=True)
def unet_denoise(
    unet: UNetModel,
    positive: Conditioning,
    negative: Conditioning,
    cfg: Annotated[float, Range(0, 100), Help("guidance: 1 is none, 3 to 8 are usual")] = 5.0,
    run: Run = Run(),
) -> Denoiser:
    """A denoiser under two prompts: `negative + cfg * (positive - negative)` (Ho & Salimans 2022).

    Each may be several that are combined: what the network sees under them is averaged.
    """
    from nodegraph_diffusion.guidance import ClassifierFreeGuidance, UNetDenoiser

    checkpoint = unet.checkpoint
    for name, side in (("positive", positive), ("negative", negative)):
        for prompt in side.prompts:
            _require_fit(name, prompt, checkpoint.unet)
    network = unet.load(run)
    concat = beside(unet)
    controls = [control.load(run) for control in unet.controls]
    toward, away = (
        UNetDenoiser(network, checkpoint.schedule, side.prompts, concat=concat, controls=controls, cell=checkpoint.vae.factor)
        for side in (positive, negative)
    )
    return Denoiser(ClassifierFreeGuidance(toward, away, cfg), checkpoint.vae)


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


def _steps_fit(**given: Any) -> Iterable[str]:
    steps, start, end, strength = (given.get(name) for name in ("steps", "start_step", "end_step", "strength"))
    if start and strength is not None and strength < 1:
        yield f"start_step {start} and strength {strength} both say where to start; leave one out"
    last = min((step for step in (steps, end) if step is not None), default=None)
    if start is not None and last is not None and start > last:
        yield f"start_step {start} lies behind the last step, {last}"


@node("Sampler", numeric=True, check=_steps_fit)
def sampler(
    denoiser: Denoiser,
    latent: Latent,
    noise: Noise,
    mask: Annotated[Mask | None, Help("white is repainted, the rest kept at every step")] = None,
    sampler: Annotated[Any, Choice("samplers")] = "dpmpp_2m",
    schedule: Annotated[Any, Choice("schedules")] = "karras",
    steps: Annotated[int, Range(1, 10_000)] = 20,
    start_step: Annotated[int, Range(0, 10_000), Help("skip the steps before it")] = 0,
    end_step: Annotated[int | None, Range(0, 10_000), Help("stop there, leaving noise for another sampler")] = None,
    strength: Annotated[float, Range(0, 1), Help("1 forgets what the latent shows, 0 keeps it")] = 1.0,
    soft_mask: Annotated[
        Literal["blend", "differential"], Help("greys: mixed at every step, or kept for a part of the steps")
    ] = "blend",
    step_noise: Annotated[Literal["fresh", "comfyui"], Help("comfyui: draw as ComfyUI 0.3.64 does")] = "fresh",
    options: Annotated[dict[str, Any] | None, OptionsOf("sampler"), Help("'nodegraph samplers NAME' lists them")] = None,
    schedule_options: Annotated[dict[str, Any] | None, OptionsOf("schedule"), Help("'nodegraph schedules NAME' lists them")] = None,
    run: Run = Run(),
) -> Latent:
    """Denoise a latent: it is noised to the first noise level of the schedule, and walked down it by the sampler.

    `strength` s below 1 takes the last steps of a schedule of int(steps / s) steps. With a mask, what is black keeps
    the latent given, noised to each level, so that what is white is painted to fit.
    """
    import torch

    from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
    from nodegraph_diffusion.schedule import SCHEDULES

    function = denoiser.function
    walk = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
    spaced = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    discard = getattr(walk, "discard_penultimate", False)
    sigmas = sigmas_for(spaced, function.schedule, steps, strength, start_step, end_step, schedule_options, discard)
    total = len(sigmas) - 1
    samples = sample(
        function,
        latent.samples.to(run.device),
        noise.values.to(run.device),
        walk,
        sigmas,
        mask=None if mask is None else covering(mask, latent, run).to(run.device),
        soft_mask=soft_mask,
        step_noise=step_noise,
        seed=noise.seed,
        on_step=lambda i, x, denoised: run.step(i + 1, total, LatentPreview(denoised, denoiser.vae, latent.size)),
        options=options,
    )
    if not isinstance(samples, torch.Tensor) or samples.shape != latent.samples.shape:
        found = f"shape {list(samples.shape)}" if isinstance(samples, torch.Tensor) else type(samples).__name__
        raise ValueError(
            f"expected a latent of shape {list(latent.samples.shape)} from the sampler, found {found}. Mend the sampler"
        )
    return Latent(samples.float().cpu(), latent.size)
