"""How the node types of sampling are written: noise, denoiser and sampler are one node in ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from nodegraph_comfyui.classes.samplers import CHOOSERS
from nodegraph_comfyui.exporting.graph import (
    Export,
    Hidden,
    InexpressibleError,
    Latent,
    Noised,
    Prompted,
    Slot,
    UNet,
    Write,
    Zeros,
    with_model,
)

_GUIDANCE: Final = {
    "rescale": ("RescaleCFG", {"amount": ("multiplier", 0.7)}),
    "perturbed_attention": ("PerturbedAttentionGuidance", {"scale": ("scale", 3.0)}),
    "self_attention": ("SelfAttentionGuidance", {"scale": ("scale", 0.5), "blur_sigma": ("blur_sigma", 2.0)}),
}

_TITLES: Final = {"ControlNetApplyAdvanced": "control", "InpaintModelConditioning": "picture"} | {
    "InstructPixToPixConditioning": "picture"
}


def _noise(node: Export) -> None:
    node.give(output=Noised(seed=node["seed"], draw=node["draw"]))


def _denoiser(node: Export) -> None:
    prompts = {name: node.slot(name) for name in ("positive", "negative")}
    node.give(output=Prompted(guider="CFGGuider", unet=node.unet(), prompts=prompts, numbers={"cfg": node["cfg"]}))


def _dual(node: Export) -> None:
    if node.inputs.get("unet_negative") is not None:
        raise InexpressibleError("'unet_negative' does not exist in ComfyUI")
    names = {"positive": "cond1", "middle": "cond2", "negative": "negative"}
    prompts = {there: node.slot(here) for here, there in names.items()}
    style = "nested" if node["nested"] else "regular"
    numbers = {"cfg_conds": node["cfg"], "cfg_cond2_negative": node["cfg_middle"], "style": style}
    node.give(output=Prompted(guider="DualCFGGuider", unet=node.unet(), prompts=prompts, numbers=numbers))


def _perp_neg(node: Export) -> None:
    names = {"positive": "positive", "negative": "negative", "empty": "empty_conditioning"}
    prompts = {there: node.slot(here) for here, there in names.items()}
    numbers = {"cfg": node["cfg"], "neg_scale": node["neg_scale"]}
    node.give(output=Prompted(guider="PerpNegGuider", unet=node.unet(), prompts=prompts, numbers=numbers))


def _guidance(node: Export) -> None:
    inner, name, options = node.linked("denoiser"), node["guidance"], node["options"] or {}
    if name not in _GUIDANCE or not isinstance(inner, Prompted):
        raise InexpressibleError(f"the guidance {name} does not exist in ComfyUI")
    kind, known = _GUIDANCE[name]
    if unknown := set(options) - set(known):
        raise InexpressibleError(f"the guidance {name} has no {' and '.join(sorted(unknown))} in ComfyUI")
    values = {there: options.get(here, default) for here, (there, default) in known.items()}
    model = [node.add(kind, model=inner.unet.model, **values), 0]
    unet = with_model(inner.unet, model)
    node.give(output=Prompted(guider=inner.guider, unet=unet, prompts=inner.prompts, numbers=inner.numbers))


def _sampler(node: Export) -> None:
    noise, made = node.linked("noise"), node.linked("denoiser")
    if not isinstance(noise, Noised) or not isinstance(made, Prompted):
        raise InexpressibleError("its noise or denoiser is not written")
    if node["step_noise"] != "comfyui" and node["like"] != "comfyui":
        node.note("ComfyUI draws noise in its own way, as 'like: comfyui' does")
    elif noise.draw == "per_picture" and node["like"] != "comfyui":
        node.note("ComfyUI draws the noise of a batch as 'draw: sequential' does")
    if node.seeds - {noise.seed}:
        raise InexpressibleError(f"'seed' of an ImageCondition above is not {noise.seed}, the seed of the sampling, as in ComfyUI")
    node.written.seeds[node.name] = frozenset()
    if made.unet.guides:
        made = _with_guides(node, made)
    model = made.unet.model
    if node["soft_mask"] == "differential":
        model = [node.add("DifferentialDiffusion", model=model, strength=1.0), 0]
    latent = _masked(node)
    if made.guider == "CFGGuider" and node.inputs.get("sigmas") is None:
        id = _ksampler(node, noise, latent=latent, model=model, **made.prompts, **made.numbers)
    else:
        id = _custom(node, noise, made, latent=latent, model=model)
    has_mask = node.inputs.get("mask") is not None
    node.give(output=Latent(slot=[id, 0], mask=node.linked("mask") if has_mask else None))


def _masked(node: Export) -> Slot:
    """The latent, with the mask of the sampler."""
    latent = node.linked("latent")
    if isinstance(latent, Zeros):
        slot = node.written.zeros.get(repr(latent.source))
        latent = None if slot is None else Latent(slot=slot)
    if not isinstance(latent, Latent):
        raise InexpressibleError(
            "'latent' has the size of another one; ComfyUI has that for ApplyPix2Pix with the same latent only"
        )
    if node.inputs.get("mask") is None:
        if latent.mask is not None:
            raise InexpressibleError("its latent brings a mask in ComfyUI, which it does not use here")
        return latent.slot
    mask = node.linked("mask")
    if mask == latent.mask:
        return latent.slot
    if isinstance(mask, Hidden):
        raise InexpressibleError("'mask' is that of another picture")
    return [node.add("SetLatentNoiseMask", f"{node.name} mask", samples=latent.slot, mask=mask), 0]


def _ksampler(node: Export, noise: Noised, *, latent: Slot, **inputs: Any) -> str:
    if node["options"] or node["schedule_options"]:
        raise InexpressibleError("'options' and 'schedule_options' do not exist for ComfyUI's KSampler: give 'sigmas'")
    common = {"steps": node["steps"], "sampler_name": node["sampler"], "scheduler": node["schedule"], "latent_image": latent}
    if not node["start_step"] and node["end_step"] is None and noise.draw != "none":
        return node.add("KSampler", seed=noise.seed, denoise=node["strength"], **common, **inputs)
    node.require(strength=1.0)
    switch = {True: "enable", False: "disable"}
    return node.add(
        "KSamplerAdvanced",
        add_noise=switch[noise.draw != "none"],
        noise_seed=noise.seed,
        start_at_step=node["start_step"],
        end_at_step=10000 if node["end_step"] is None else node["end_step"],
        return_with_leftover_noise=switch[node["end_step"] is not None and not node["finish"]],
        **common,
        **inputs,
    )


def _custom(node: Export, noise: Noised, made: Prompted, *, latent: Slot, model: Slot) -> str:
    if node.inputs.get("sigmas") is None:
        raise InexpressibleError(f"{made.guider} needs 'sigmas' in ComfyUI: add a Schedule")
    links = {
        "sampler": [_method(node), 0],
        "sigmas": node.slot("sigmas"),
        "latent_image": latent,
    }
    if made.guider == "CFGGuider":
        seed = {"add_noise": noise.draw != "none", "noise_seed": noise.seed}
        return node.add("SamplerCustom", model=model, **seed, **made.numbers, **made.prompts, **links)
    start = (
        node.add("DisableNoise") if noise.draw == "none" else node.add("RandomNoise", f"{node.name} noise", noise_seed=noise.seed)
    )
    guider = node.add(made.guider, f"{node.name} guider", model=model, **made.prompts, **made.numbers)
    return node.add("SamplerCustomAdvanced", noise=[start, 0], guider=[guider, 0], **links)


def _method(node: Export) -> str:
    """The node that chooses the sampler."""
    name, options = node["sampler"], node["options"]
    if not options:
        return node.add("KSamplerSelect", f"{node.name} method", sampler_name=name)
    chooser = next((found for found in CHOOSERS if found.sampler == name.removesuffix("_gpu")), None)
    inputs = None if chooser is None else chooser.inputs_of(options)
    if chooser is None or inputs is None:
        raise InexpressibleError(f"ComfyUI has no node for these 'options' of {name}")
    if "noise_device" in chooser.node.known:
        inputs["noise_device"] = "gpu" if name.endswith("_gpu") else "cpu"
    return node.add(chooser.name, f"{node.name} method", **inputs)


def _with_guides(node: Export, made: Prompted) -> Prompted:
    """The denoiser with prompts that bring what the UNet has here."""
    if made.guider != "CFGGuider":
        raise InexpressibleError(
            "ControlNets, boxes and pictures for the UNet are only written for one positive and one negative prompt"
        )
    positive, negative = made.prompts["positive"], made.prompts["negative"]
    for kind, inputs in made.unet.guides:
        if kind == "GLIGENTextBoxApply":  # ComfyUI, too, applies it to both
            positive = [node.add(kind, f"{node.name} box", conditioning_to=positive, **inputs), 0]
        else:
            id = node.add(kind, f"{node.name} {_TITLES[kind]}", positive=positive, negative=negative, **inputs)
            positive, negative = [id, 0], [id, 1]
            if kind == "InstructPixToPixConditioning":
                node.written.zeros[repr((inputs["vae"], inputs["pixels"]))] = [id, 2]
    unet = UNet(model=made.unet.model)
    return Prompted(guider=made.guider, unet=unet, prompts={"positive": positive, "negative": negative}, numbers=made.numbers)


def _schedule(node: Export) -> None:
    if node["start_step"] or node["end_step"] is not None or node["finish"]:
        raise InexpressibleError("'start_step', 'end_step' and 'finish' are SplitSigmas in ComfyUI")
    model, steps, options = node.unet().model, node["steps"], node["schedule_options"] or {}
    if node["schedule"] == "turbo":
        node.require(strength=1.0)
        id = node.add("SDTurboScheduler", model=model, steps=steps, denoise=options.get("denoise", 1.0))
    elif options:
        raise InexpressibleError("'schedule_options' do not exist for ComfyUI's BasicScheduler")
    else:
        id = node.add("BasicScheduler", model=model, scheduler=node["schedule"], steps=steps, denoise=node["strength"])
    node.give(output=[id, 0])


def _levels(node: Export) -> None:
    text = ", ".join(format(Decimal(repr(float(level))), "f") for level in node["levels"])
    node.note("it needs a ComfyUI that has the node ManualSigmas")
    node.give(output=[node.add("ManualSigmas", sigmas=text), 0])


def _split(node: Export) -> None:
    id = node.add("SplitSigmas", sigmas=node.slot("sigmas"), step=node["step"])
    node.give(high=[id, 0], low=[id, 1])


def _flip(node: Export) -> None:
    node.give(output=[node.add("FlipSigmas", sigmas=node.slot("sigmas")), 0])


SAMPLING: Final[Mapping[str, Write]] = {
    "Noise": _noise,
    "UNetDenoise": _denoiser,
    "DualGuidance": _dual,
    "PerpNeg": _perp_neg,
    "Guidance": _guidance,
    "Sampler": _sampler,
    "Schedule": _schedule,
    "Sigmas": _levels,
    "SplitSigmas": _split,
    "FlipSigmas": _flip,
}
