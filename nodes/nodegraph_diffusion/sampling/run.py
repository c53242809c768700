"""One sampling run: its noise levels, its start latent, and the call of the sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.options import check_options, check_ranges
from nodegraph_diffusion.sampling.noise import ROUNDING, StepNoise, draw_noise, step_noise_source
from nodegraph_diffusion.sampling.spec import SamplerSpec
from nodegraph_diffusion.schedules import ScheduleSpec

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.denoising import Denoiser
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.sampling.protocols import OnStep, Sampler
    from nodegraph_diffusion.schedules import Schedule

SoftMask = Literal["blend", "differential"]

FULL_STRENGTH = 0.9999  # a strength from here on counts as 1
MAX_STEPS = 1_000_000


def sigmas_for(
    schedule: Schedule,
    noise_schedule: NoiseSchedule,
    steps: int,
    strength: float = 1.0,
    start_step: int = 0,
    end_step: int | None = None,
    options: Mapping[str, object] | None = None,
    discard_penultimate: bool = False,
    finish: bool = False,
) -> Tensor:
    """The noise levels of a run, (n + 1,) float32 on the CPU, decreasing, for n steps of a model's `noise_schedule`.

    A `strength` s below 1 keeps part of the content of the start latent: the run is the last `steps` steps of a schedule of
    int(steps / s) steps; 0 means no steps. `start_step` and `end_step` cut out a part of a run of `steps` steps, to be completed by
    other runs; with `finish`, the last step of a run that ends early removes all noise. `options` are the schedule's. With
    `discard_penultimate`, the schedule has one step more, and its last level above 0 is left out (see `SamplerSpec`). Some
    schedules return more or fewer steps than requested, as in the programs that they come from; a run at full strength uses all of
    them. Raises ValueError for values that are out of range or contradict each other.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, found {steps}; 20 to 30 are usual")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength: expected a number between 0 and 1, found {strength}; 1 replaces all of the old content")
    if strength < FULL_STRENGTH and start_step:
        raise ValueError(
            f"start_step: expected 0 with a strength below 1, found start_step {start_step} and strength {strength}; "
            "both set the start: leave one out"
        )
    import torch

    end = steps if end_step is None else min(end_step, steps)
    if not 0 <= start_step <= end:
        raise ValueError(
            f"start_step: expected at least 0 and at most end_step, {end} of {steps} steps, found {start_step}; count steps from 0"
        )
    if strength == 0:
        start_step, total = steps, steps
    else:
        total = steps if strength >= FULL_STRENGTH else int(steps / strength)
    if total > MAX_STEPS:
        raise ValueError(
            f"strength: expected 0 or at least {steps / MAX_STEPS:g} for {steps} steps, found {strength}; "
            "0 keeps the latent as it is"
        )
    sigmas = _checked_sigmas(schedule, noise_schedule, total + discard_penultimate, options or {})
    if discard_penultimate:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    if strength < FULL_STRENGTH:
        sigmas = sigmas[-(steps + 1) :]
    if end_step is None or end_step >= steps:
        return sigmas[start_step:]
    part = sigmas[start_step : end + 1].clone()
    if finish and len(part) > 1:
        part[-1] = 0
    return part


def start_latent(latent: Tensor, noise: Tensor, sigma: float, sigma_max: float) -> Tensor:
    """`latent` with noise of level `sigma`, (B, C, h, w).

    From a model's largest level on, the noise has the whole variance that the model was trained with there, 1 + sigma^2, including
    the share of the latent that the run replaces. In float32, as ComfyUI computes it: if that level is in the thousands, its last
    bit changes the picture.
    """
    import torch

    if sigma > sigma_max or math.isclose(sigma, sigma_max, rel_tol=1e-5):
        sigma = float((1 + torch.tensor(sigma, dtype=torch.float32) ** 2).sqrt())
    return latent + noise * sigma


def sample(
    denoiser: Denoiser,
    latent: Tensor,
    noise: Tensor,
    sampler: Sampler,
    sigmas: Tensor,
    *,
    mask: Tensor | None = None,
    soft_mask: SoftMask = "blend",
    step_noise: StepNoise = "fresh",
    seed: int = 0,
    on_step: OnStep | None = None,
    options: Mapping[str, object] | None = None,
    first_step: int = 0,
    steps: int | None = None,
) -> Tensor:
    """Add `noise` to `latent` and denoise it along `sigmas` (see `sigmas_for`): (B, C, h, w) float32 -> the same.

    `latent` and `noise` are on the device of the run. `latent` is scaled as the network sees it; `noise` is unit noise (see
    `draw_noise`), or zeros to continue with a latent that an earlier part of the run left noisy. With a `mask`, (B or 1, H, W) of
    any size in [0, 1], only its white part changes; `soft_mask` sets the meaning of greys (see `MaskedDenoiser`). An inpainting
    network that was given no picture sees the mask, rounded, and `latent`. `seed` is the
    seed of the noise of stochastic samplers, and `step_noise` says how it is drawn (see `step_noise_source`). A `fresh` Brownian
    path covers all noise levels of the model, so that the parts of a run follow the same path; a `comfyui` path covers those of
    this run, so that a later part follows another path, as in ComfyUI. With `noise` of zeros, independent `fresh` noise differs
    from that of the earlier part, too. `options` are the sampler's. For prompts that change during a run, `first_step` is the
    number of this run's first step, and `steps` the number of all steps, if this is a part of a longer run. Raises ValueError for
    shapes that do not fit and for options that the sampler does not have.
    """
    import torch

    from nodegraph_diffusion.denoising.beside import repainting
    from nodegraph_diffusion.denoising.current_step import Steps, counted
    from nodegraph_diffusion.denoising.mask import MaskedDenoiser, latent_mask
    from nodegraph_diffusion.denoising.unguided import as_guided

    if latent.ndim != 4 or noise.shape != latent.shape:
        raise ValueError(
            f"sample: expected latent and noise of one shape (B, C, h, w), found {tuple(latent.shape)} and "
            f"{tuple(noise.shape)}; draw the noise for this latent"
        )
    options = dict(options or {})
    spec = sampler if isinstance(sampler, SamplerSpec) else SamplerSpec(sampler)
    check_options("sampler", spec, options)
    check_ranges("sampler", spec, spec.ranges, options)
    if len(sigmas) < 2:
        return latent
    levels = _path_levels(sigmas, denoiser.noise_schedule, step_noise) if spec.noise == "brownian" else None
    own_levels = sigmas[:-1].tolist() if spec.evaluations_per_step is None else None
    current = Steps(first_step, first_step + len(sigmas) - 1 if steps is None else steps, own_levels)

    def done(i: int, x: Tensor, denoised: Tensor) -> None:
        current.done(i)
        if on_step is not None:
            on_step(i, x, denoised)

    part = "" if bool(noise.any()) else f" from {float(sigmas[0]):.6g}"
    seen = None if mask is None else torch.cat([latent_mask(mask, latent)[:, :1].round(), latent], dim=1)
    with torch.no_grad(), counted(current), repainting(seen):
        x = start_latent(latent, noise, float(sigmas[0]), denoiser.noise_schedule.sigma_max)
        if mask is not None:
            known = noise
            if spec.other_mask_noise and step_noise == "comfyui":
                known = draw_noise(noise.shape, (seed + 1) % 2**64, "sequential").to(noise)
            differential = sigmas if soft_mask == "differential" else None
            denoiser = MaskedDenoiser(denoiser, latent, known, mask, differential=differential)
        return sampler(
            as_guided(denoiser),
            x,
            sigmas,
            noise=step_noise_source(step_noise, x, seed, levels, part=part),
            on_step=done,
            **options,
        )


def _path_levels(sigmas: Tensor, noise_schedule: NoiseSchedule, step_noise: StepNoise) -> tuple[float, float]:
    """The smallest and the largest noise level of a run's Brownian path.

    They are the model's, so that the parts of a run, and runs with other numbers of steps, follow one path; for `comfyui` they are
    those of this run, as in ComfyUI.
    """
    low, high = float(sigmas[sigmas > 0].min()), float(sigmas.max())
    if step_noise == "comfyui":
        return low, high
    least, largest = noise_schedule.sigma_min, noise_schedule.sigma_max
    return low if low < least * (1 - ROUNDING) else least, high if high > largest * (1 + ROUNDING) else largest


def _checked_sigmas(schedule: Schedule, noise_schedule: NoiseSchedule, steps: int, options: Mapping[str, object]) -> Tensor:
    """The levels of `schedule`, after checks for mistakes in a plugin's function."""
    import torch

    schedule = schedule if isinstance(schedule, ScheduleSpec) else ScheduleSpec(schedule)
    check_options("schedule", schedule, options)
    check_ranges("schedule", schedule, schedule.ranges, options)
    sigmas = schedule(noise_schedule, steps, **options)
    name = getattr(schedule, "__name__", schedule)
    if not isinstance(sigmas, torch.Tensor):
        raise ValueError(
            f"schedule {name}: expected a tensor of {steps + 1} noise levels, found {type(sigmas).__name__}; return a tensor"
        )
    if sigmas.ndim != 1 or len(sigmas) < 2 or sigmas[-1] != 0 or not bool((sigmas.diff() < 0).all()):
        raise ValueError(
            f"schedule {name}: expected {steps + 1} noise levels for {steps} steps, strictly decreasing to 0, "
            f"found {sigmas.tolist()}; correct the schedule"
        )
    return sigmas.float().cpu()
