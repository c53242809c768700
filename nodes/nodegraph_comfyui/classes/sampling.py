"""Classes that sample."""

from __future__ import annotations

from typing import Any, Final

from nodegraph_comfyui.building.call import Call
from nodegraph_comfyui.building.denoisers import denoiser
from nodegraph_comfyui.building.values import Cond, Guider, Latents, Levels, Method, Model, Refused, Start
from nodegraph_comfyui.classes.node_class import NodeClass

_ENABLED: Final = {"enable": True, "disable": False}


def _ksampler(call: Call) -> Latents:
    levels = {"schedule": call["scheduler"], "steps": call.setting("steps"), "strength": _strength(call)}
    return _sampled_with_prompts(call, seed=call.setting("seed"), sampler=call["sampler_name"], **levels)


def _strength(call: Call) -> Any:
    return call.setting("denoise", "strength") if call.literal("denoise") != 1 else None


def _advanced(call: Call) -> Latents:
    steps, start, end = (call.literal(name) for name in ("steps", "start_at_step", "end_at_step"))
    draw = "sequential" if call.choice("add_noise", _ENABLED) else "none"
    inputs: dict[str, Any] = {
        "schedule": call["scheduler"],
        "steps": call.setting("steps"),
        "start_step": None if start == 0 else call.setting("start_at_step", "start_step"),
        "end_step": None if end >= steps else call.setting("end_at_step", "end_step"),
        "finish": None if end >= steps or call.choice("return_with_leftover_noise", _ENABLED) else True,
    }
    if start >= min(steps, end):
        return call.get("latent_image", Latents)  # ComfyUI, too, returns it as it is
    return _sampled_with_prompts(call, seed=call.setting("noise_seed", "seed"), draw=draw, sampler=call["sampler_name"], **inputs)


def _custom(call: Call) -> tuple[Latents, Latents]:
    method, levels = call.get("sampler", Method), call.get("sigmas", Levels)
    draw = "sequential" if call.literal("add_noise") else "none"
    seed = call.setting("noise_seed", "seed")
    sampled = _sampled_with_prompts(call, seed=seed, draw=draw, **_custom_inputs(method, levels))
    return sampled, _denoised(sampled, levels)


def _denoised(sampled: Latents, levels: Levels) -> Any:
    """The second output: the last estimate, which is the result if the levels end at 0."""
    return sampled if levels.whole else Refused("the denoised output of noise levels that do not end at 0 does not exist here")


def _custom_inputs(method: Method, levels: Levels) -> dict[str, Any]:
    return {"sampler": method.name, "options": dict(method.options) or None, "sigmas": levels.link}


def _custom_advanced(call: Call) -> tuple[Latents, Latents]:
    start, guider = call.get("noise", Start), call.get("guider", Guider)
    levels = call.get("sigmas", Levels)
    inputs = _custom_inputs(call.get("sampler", Method), levels)
    sampled = _sampled(call, guider, seed=start.seed, draw=start.draw, **inputs)
    return sampled, _denoised(sampled, levels)


def _sampled_with_prompts(call: Call, **inputs: Any) -> Latents:
    model = call.get("model", Model)
    prompts = call.get("positive", Cond), call.get("negative", Cond)
    made = denoiser(call, model, *prompts, cfg=call.setting("cfg"))
    return _sampled(call, Guider(denoiser=made, differential=model.differential), **inputs)


def _sampled(call: Call, guider: Guider, *, seed: Any, draw: str = "sequential", **inputs: Any) -> Latents:
    latents = call.get("latent_image", Latents)
    noise = call.add("Noise", "_noise", like=latents.link, seed=seed, draw=draw)
    made = call.converted.steps.seeded(guider.denoiser, seed)
    sampled = call.add(
        "Sampler",
        "sampled",
        denoiser=made,
        latent=latents.link,
        noise=noise,
        mask=latents.mask,
        soft_mask="differential" if guider.differential and latents.mask is not None else None,
        step_noise="comfyui",
        **inputs,
    )
    return Latents(link=sampled, mask=latents.mask)


def _random_noise(call: Call) -> Start:
    return Start(seed=call.setting("noise_seed", "seed"))


def _no_noise(call: Call) -> Start:
    return Start(seed=0, draw="none")


_DENOISED: Final = "of its two outputs, `denoised_output` is the same as `output`: with noise left in the latent it is refused"
_SAMPLED: Final = ("Noise", "UNetDenoise", "Sampler")

CLASSES: Final = (
    NodeClass(
        name="KSampler",
        title="KSampler",
        inputs=(
            "model:MODEL seed:INT!=0 steps:INT=20 cfg:FLOAT=8.0 sampler_name:COMBO=euler scheduler:COMBO=normal "
            "positive:CONDITIONING negative:CONDITIONING latent_image:LATENT denoise:FLOAT=1.0"
        ),
        outputs=("LATENT",),
        convert=_ksampler,
        here=_SAMPLED,
        renamed="`seed`; `cfg`; sampler_name, scheduler, denoise: `sampler`, `schedule`, `strength`; latent_image: `latent`",
        differs="all names of samplers and schedulers are known. Defaults: cfg 5, dpmpp_2m, karras",
    ),
    NodeClass(
        name="KSamplerAdvanced",
        title="KSampler (Advanced)",
        inputs=(
            "model:MODEL add_noise:COMBO=enable noise_seed:INT!=0 steps:INT=20 cfg:FLOAT=8.0 sampler_name:COMBO=euler "
            "scheduler:COMBO=normal positive:CONDITIONING negative:CONDITIONING latent_image:LATENT start_at_step:INT=0 "
            "end_at_step:INT=10000 return_with_leftover_noise:COMBO=disable"
        ),
        outputs=("LATENT",),
        convert=_advanced,
        here=_SAMPLED,
        renamed="start_at_step, end_at_step: `start_step`, `end_step`; add_noise disable: `draw: none` of `Noise`",
        differs=(
            "noise remains at `end_step` unless `finish: true`; a part with `draw: none` draws other noise for its steps than the "
            "part before it"
        ),
    ),
    NodeClass(
        name="SamplerCustom",
        title="SamplerCustom",
        inputs=(
            "model:MODEL add_noise:BOOLEAN=true noise_seed:INT!=0 cfg:FLOAT=8.0 positive:CONDITIONING negative:CONDITIONING "
            "sampler:SAMPLER sigmas:SIGMAS latent_image:LATENT"
        ),
        outputs=("LATENT", "LATENT"),
        convert=_custom,
        here=_SAMPLED,
        renamed="`sigmas` of `Sampler`",
        differs=_DENOISED,
    ),
    NodeClass(
        name="SamplerCustomAdvanced",
        title="SamplerCustomAdvanced",
        inputs="noise:NOISE guider:GUIDER sampler:SAMPLER sigmas:SIGMAS latent_image:LATENT",
        outputs=("LATENT", "LATENT"),
        convert=_custom_advanced,
        here=("Sampler",),
        renamed="guider: `denoiser`; `noise`, `sigmas`",
        differs=_DENOISED,
    ),
    NodeClass(
        name="RandomNoise",
        title="RandomNoise",
        inputs="noise_seed:INT!=0",
        outputs=("NOISE",),
        convert=_random_noise,
        here=("Noise",),
        renamed="noise_seed: `seed`",
    ),
    NodeClass(
        name="DisableNoise",
        title="DisableNoise",
        inputs="",
        outputs=("NOISE",),
        convert=_no_noise,
        here=("Noise",),
        renamed="`draw: none`",
    ),
)
