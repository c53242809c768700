"""Classes that guide a model."""

from __future__ import annotations

import dataclasses
from typing import Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.denoisers import denoiser, guided, name_prompts, perp_neg, prepared_unet
from nodegraph_comfyui.building.values import Cond, Guider, Model
from nodegraph_comfyui.classes.node_class import NodeClass, read_inputs


def _cfg(call: Call) -> Guider:
    model = call.get("model", Model)
    made = denoiser(call, model, call.get("positive", Cond), call.get("negative", Cond), cfg=call.setting("cfg"))
    return Guider(denoiser=made, differential=model.differential)


def _basic(call: Call) -> Guider:
    model, cond = call.get("model", Model), call.get("conditioning", Cond)
    return Guider(denoiser=denoiser(call, model, cond, cond, cfg=1.0), differential=model.differential)


def _dual(call: Call) -> Guider:
    model = call.get("model", Model)
    names = {"positive": "cond1", "middle": "cond2", "negative": "negative"}
    conds = {ours: call.get(name, Cond) for ours, name in names.items()}
    name_prompts(call, conds)
    unet = prepared_unet(call, model, *conds.values())
    scales = {"cfg": call["cfg_conds"], "cfg_middle": call["cfg_cond2_negative"]}
    nested = True if call.choice("style", {"regular": False, "nested": True}) else None
    links = {name: cond.link for name, cond in conds.items()}
    made = call.add("DualGuidance", "_denoiser", unet=unet, **links, **scales, nested=nested)
    return Guider(denoiser=guided(call, model, made), differential=model.differential)


def _perp_neg(call: Call) -> Guider:
    model = call.get("model", Model)
    names = {"positive": "positive", "negative": "negative", "empty": "empty_conditioning"}
    conds = {ours: call.get(name, Cond) for ours, name in names.items()}
    made = perp_neg(call, model, conds, cfg=call.setting("cfg"), neg_scale=call["neg_scale"])
    return Guider(denoiser=made, differential=model.differential)


def _perp_neg_of_model(call: Call) -> Model:
    model, scale = call.get("model", Model), call["neg_scale"]
    remaining = tuple(guidance for guidance in model.guidance if guidance[0] != "rescale")  # ComfyUI has room for one of them
    return dataclasses.replace(model, empty=(call.get("empty_conditioning", Cond), scale), guidance=remaining)


def _rescale(call: Call) -> Model:
    """The model with a rescaled result of classifier-free guidance, to which other guidance is added, also that of nodes before."""
    model = call.get("model", Model)
    others = tuple(guidance for guidance in model.guidance if guidance[0] != "rescale")
    amount = (("amount", call.literal("multiplier")),)
    return dataclasses.replace(model, guidance=(("rescale", amount), *others), empty=None)


def _around(name: str, title: str, inputs: str, guidance: str) -> NodeClass:
    """A class that goes around the denoiser of a model, and whose values are the options of `guidance`."""

    def convert(call: Call) -> Model:
        model = call.get("model", Model)
        options = tuple((name, call.literal(name)) for name, found in call.inputs.items() if found.is_value)
        return dataclasses.replace(model, guidance=(*model.guidance, (guidance, options)))

    known = read_inputs(inputs).values()
    usual = ", ".join(f"{found.name}: {found.default}" for found in known if found.is_value)
    return NodeClass(
        name=name,
        title=title,
        inputs=inputs,
        outputs=("MODEL",),
        convert=convert,
        here=("Guidance",),
        renamed=f"`guidance: {guidance}`, `options: {{{usual}}}`",
    )


def _differential(call: Call) -> Model:
    if call.has("strength") or call.node.inputs.get("strength", 1.0) != 1.0:
        raise RefusedError("'strength' is not 1, which does not exist here")
    return dataclasses.replace(call.get("model", Model), differential=True)


CLASSES: Final = (
    NodeClass(
        name="CFGGuider",
        title="CFGGuider",
        inputs="model:MODEL positive:CONDITIONING negative:CONDITIONING cfg:FLOAT=8.0",
        outputs=("GUIDER",),
        convert=_cfg,
        here=("UNetDenoise",),
        renamed="`positive`, `negative`, `cfg`",
    ),
    NodeClass(
        name="BasicGuider",
        title="BasicGuider",
        inputs="model:MODEL conditioning:CONDITIONING",
        outputs=("GUIDER",),
        convert=_basic,
        here=("UNetDenoise",),
        renamed="conditioning: `positive`",
        differs="without guidance: `cfg: 1`, which evaluates only one side",
    ),
    NodeClass(
        name="DualCFGGuider",
        title="DualCFGGuider",
        inputs=(
            "model:MODEL cond1:CONDITIONING cond2:CONDITIONING negative:CONDITIONING cfg_conds:FLOAT=8.0 "
            "cfg_cond2_negative:FLOAT=8.0 style:COMBO=regular"
        ),
        outputs=("GUIDER",),
        convert=_dual,
        here=("DualGuidance",),
        renamed="cond1, cond2: `positive`, `middle`; cfg_conds: `cfg`; cfg_cond2_negative: `cfg_middle`; style: `nested`",
    ),
    NodeClass(
        name="PerpNegGuider",
        title="PerpNegGuider",
        inputs=(
            "model:MODEL positive:CONDITIONING negative:CONDITIONING empty_conditioning:CONDITIONING cfg:FLOAT=8.0 "
            "neg_scale:FLOAT=1.0"
        ),
        outputs=("GUIDER",),
        convert=_perp_neg,
        here=("PerpNeg",),
        renamed="empty_conditioning: `empty`; `cfg`, `neg_scale`",
        differs="each picture of a batch is treated separately",
    ),
    NodeClass(
        name="PerpNeg",
        title="Perp-Neg (DEPRECATED by PerpNegGuider)",
        inputs="model:MODEL empty_conditioning:CONDITIONING neg_scale:FLOAT=1.0",
        outputs=("MODEL",),
        convert=_perp_neg_of_model,
        here=("PerpNeg",),
        renamed="empty_conditioning: `empty`; `neg_scale`",
        differs="takes the place of `UNetDenoise`",
    ),
    NodeClass(
        name="RescaleCFG",
        title="RescaleCFG",
        inputs="model:MODEL multiplier:FLOAT=0.7",
        outputs=("MODEL",),
        convert=_rescale,
        here=("Guidance",),
        renamed="`guidance: rescale`; multiplier: `options: {amount: 0.7}`",
        differs="goes around a denoiser, before other guidance",
    ),
    _around("PerturbedAttentionGuidance", "PerturbedAttentionGuidance", "model:MODEL scale:FLOAT=3.0", "perturbed_attention"),
    _around(
        "SelfAttentionGuidance",
        "Self-Attention Guidance",
        "model:MODEL scale:FLOAT=0.5 blur_sigma:FLOAT=2.0",
        "self_attention",
    ),
    NodeClass(
        name="DifferentialDiffusion",
        title="Differential Diffusion",
        inputs="model:MODEL strength:FLOAT=1.0",
        outputs=("MODEL",),
        convert=_differential,
        here=("Sampler",),
        renamed="`soft_mask: differential`",
    ),
)
