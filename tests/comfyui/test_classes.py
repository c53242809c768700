"""What single classes become, by arithmetic that is written down here again."""

from __future__ import annotations

import ast
import inspect
import itertools
import math

import pytest
import torch

from nodegraph.errors import WorkflowError
from nodegraph_comfyui.classes.table import TABLE
from tests.support.comfy_graphs import changed, node, txt2img


def custom(levels, method=None, **more):
    """A graph that samples with SamplerCustom; `levels` makes its noise levels."""
    fields = {"noise_seed": 8, "cfg": 3.0, "add_noise": True, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}
    graph = txt2img() | {"3": node("SamplerCustom", **fields, sampler=["40", 0], sigmas=["41", 0], latent_image=["5", 0])}
    return graph | {"40": method or node("KSamplerSelect", sampler_name="euler"), "41": levels, **more}


def levels_of(imported, kind, **values):
    return imported(custom(node(kind, **values))).workflow.nodes["levels"].inputs["levels"]


# --- noise levels


def test_laplace(imported):
    found = levels_of(imported, "LaplaceScheduler", steps=7, sigma_max=14.0, sigma_min=0.03, mu=0.1, beta=0.4)
    x = torch.linspace(0, 1, 7, dtype=torch.float64)
    logs = 0.1 - 0.4 * torch.sign(0.5 - x) * torch.log(1 - 2 * (0.5 - x).abs() + 1e-5)
    assert found == pytest.approx(logs.exp().clamp(0.03, 14).tolist(), rel=1e-6)


def test_levels_that_do_not_fall_are_refused(imported):
    with pytest.raises(WorkflowError, match="do not fall"):
        levels_of(imported, "LaplaceScheduler", steps=3, sigma_max=14.0, sigma_min=13.0, mu=0.0, beta=0.01)


def test_variance_preserving(imported):
    found = levels_of(imported, "VPScheduler", steps=5, beta_d=19.9, beta_min=0.1, eps_s=0.001)
    times = torch.linspace(1, 0.001, 5, dtype=torch.float64)
    assert found == pytest.approx([*((19.9 * times**2 / 2 + 0.1 * times).exp() - 1).sqrt().tolist(), 0], rel=1e-6)


@pytest.mark.parametrize("kind", ["VPScheduler", "KarrasScheduler", "PolyexponentialScheduler"])
def test_numbers_that_are_too_large_are_refused(imported, kind):
    values = {"beta_d": 5000.0} if kind == "VPScheduler" else {"rho": 1e-300, "sigma_max": 5000.0}
    with pytest.raises(WorkflowError, match=r"no noise levels|do not fall"):
        levels_of(imported, kind, **values)


def test_align_your_steps(imported):
    published = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0)
    assert levels_of(imported, "AlignYourStepsScheduler") == pytest.approx(published, abs=3e-3)
    part = levels_of(imported, "AlignYourStepsScheduler", model_type="SD1", steps=20, denoise=0.25)  # five of twenty steps
    tenth = (0.6523686016, 0.3977456272, 0.1515232662, 0.0291671582)
    between = [math.sqrt(above * below) for above, below in itertools.pairwise(tenth)]
    assert part == pytest.approx([between[0], tenth[1], between[1], tenth[2], between[2], 0], rel=1e-6)
    with pytest.raises(WorkflowError, match="'model_type' is 'SVD'"):
        levels_of(imported, "AlignYourStepsScheduler", model_type="SVD")


def test_split_by_strength_counts_from_the_end(imported):
    scheduler = node("BasicScheduler", model=["4", 0], scheduler="normal", steps=9, denoise=1.0)
    graph = custom(node("SplitSigmasDenoise", sigmas=["42", 0], denoise=0.5), **{"42": scheduler})
    assert imported(graph).workflow.nodes["split"].inputs["step"] == 9 - round(9 * 0.5)
    with pytest.raises(WorkflowError, match="not known how many steps"):
        imported(changed(graph, "42", scheduler="beta"))


# --- samplers


def test_options_of_a_sampler_are_those_that_are_not_usual(imported):
    method = node("SamplerSASolver", model=["4", 0], eta=1.0, sde_start_percent=0.3, use_pece=True)
    sampled = imported(custom(node("KarrasScheduler"), method)).workflow.nodes["sampled"].inputs
    assert (sampled["sampler"], sampled["options"]) == ("sa_solver", {"sde_start": 0.3, "use_pece": True})
    plain = imported(custom(node("KarrasScheduler"), node("SamplerDPMPP_SDE"))).workflow.nodes["sampled"].inputs
    assert (plain["sampler"], "options" in plain) == ("dpmpp_sde_gpu", False)


def test_solver_that_does_not_exist_here_is_refused(imported):
    with pytest.raises(WorkflowError, match="'solver_type' is 'phi_2'"):
        imported(custom(node("KarrasScheduler"), node("SamplerSEEDS2", solver_type="phi_2")))


def test_names_of_samplers_and_options_exist(engine):
    from nodegraph_comfyui.classes.samplers import CHOOSERS
    from nodegraph_diffusion.sampling import SAMPLERS

    for chooser in CHOOSERS:
        spec = SAMPLERS[chooser.sampler]
        named = [name for name, found in TABLE[chooser.name].known.items() if found.is_value and name != "noise_device"]
        for name in (name for name in named if chooser.values.get(name) != {"phi_1": ""}):
            assert chooser.renamed.get(name, name) in inspect.signature(spec.function).parameters


# --- guidance


def test_perp_neg_of_a_model(imported):
    nodes = (
        imported(
            changed(txt2img(), "3", model=["30", 0])
            | {"30": node("PerpNeg", model=["4", 0], empty_conditioning=["7", 0], neg_scale=0.7)}
        )
    ).workflow.nodes
    found = nodes["denoiser"]
    assert (found.type, found.inputs["neg_scale"], found.inputs["empty"].node) == ("PerpNeg", 0.7, "negative")


def test_rescaling_is_innermost_wherever_its_node_is(imported):
    graph = changed(txt2img(), "3", model=["31", 0])
    first, second = node("PerturbedAttentionGuidance", model=["4", 0]), node("RescaleCFG", model=["30", 0])
    nodes = imported(graph | {"30": first, "31": second}).workflow.nodes
    outer = nodes[nodes["sampled"].inputs["denoiser"].node].inputs
    inner = nodes[outer["denoiser"].node].inputs
    assert (outer["guidance"], inner["guidance"]) == ("perturbed_attention", "rescale")


# --- prompts


def test_strength_of_an_area_changes_only_that(imported):
    graph = changed(txt2img(), "3", positive=["33", 0]) | {
        "31": node("ConditioningSetArea", conditioning=["6", 0], width=32, height=64, x=8, y=0, strength=1.0),
        "32": node("ConditioningZeroOut", conditioning=["31", 0]),
        "33": node("ConditioningSetAreaStrength", conditioning=["32", 0], strength=0.5),
    }
    nodes = imported(graph).workflow.nodes
    area = nodes[nodes["denoiser"].inputs["positive"].node].inputs
    assert {name: area[name] for name in ("width", "height", "x", "strength")} == {
        "width": 32,
        "height": 64,
        "x": 8,
        "strength": 0.5,
    }
    graph["33"]["inputs"]["conditioning"] = ["34", 0]
    graph["34"] = node("ConditioningCombine", conditioning_1=["32", 0], conditioning_2=["7", 0])
    with pytest.raises(WorkflowError, match="have different areas"):
        imported(graph)


def test_class_with_a_space_behind_its_name(keys):
    graph = changed(txt2img(), "3", positive=["30", 0])
    mixed = {"conditioning_to": ["6", 0], "conditioning_from": ["7", 0], "conditioning_to_strength": 0.5}
    names = ("ConditioningAverage", "ConditioningAverage ")
    first, second = (keys(graph | {"30": node(name, **mixed)}) for name in names)
    assert first == second


# --- latents and masks


def test_instructions_start_from_an_empty_latent_of_the_picture(imported):
    graph = changed(txt2img(), "3", positive=["31", 0], negative=["31", 1], latent_image=["31", 2])
    guided = node("InstructPixToPixConditioning", positive=["6", 0], negative=["7", 0], vae=["4", 2], pixels=["20", 0])
    nodes = imported(graph | {"20": node("LoadImage", image="x.png"), "31": guided}).workflow.nodes
    unet = nodes[nodes["denoiser"].inputs["unet"].node]
    assert (unet.type, unet.inputs["latent"].node) == ("ApplyPix2Pix", "encoded")
    assert nodes[nodes["sampled"].inputs["latent"].node].inputs["like"].node == "encoded"


def test_empty_latent_has_one_size(engine):
    from nodegraph import Workflow

    text = """
nodegraph: 1
nodes:
  model: {use: LoadModel, model: "builtin:tiny"}
  first: {use: EmptyLatent, vae: $model.vae}
  second: {use: EmptyLatent, vae: $model.vae, like: $first, width: 64}
outputs: {latent: {from: $second}}
"""
    with pytest.raises(WorkflowError, match="like and width both set the size"):
        engine.check(Workflow.parse(text))


def test_tiles_are_noted(imported):
    graph = txt2img() | {"8": node("VAEDecodeTiled", samples=["3", 0], vae=["4", 2], tile_size=512)}
    assert any("decoded in one piece" in note for note in imported(graph).notes)


def test_picture_is_pasted_at_its_place(imported):
    pasted = node("ImageCompositeMasked", destination=["8", 0], source=["20", 0], x=8, y=16, resize_source=True)
    graph = changed(txt2img(), "9", images=["25", 0]) | {"20": node("LoadImage", image="x.png"), "25": pasted}
    found = imported(graph).workflow.nodes["pasted"]
    assert found.type == "Paste"
    assert {name: found.inputs[name] for name in ("x", "y", "stretch")} == {"x": 8, "y": 16, "stretch": True}
    assert (found.inputs["image"].node, found.inputs["original"].node, "mask" in found.inputs) == ("picture", "image", False)


def test_latent_of_a_file_belongs_to_the_vae_of_the_model_that_samples_it(imported):
    graph = changed(txt2img(), "3", latent_image=["21", 0]) | {
        "2": node("VAELoader", vae_name="other.safetensors"),
        "21": node("LoadLatent", latent="start.latent"),
    }
    found = imported(graph).workflow.nodes["latent"]
    assert (found.type, str(found.inputs["vae"])) == ("LoadLatent", "$checkpoint.vae")


def test_each_part_of_a_batch_is_sampled_alone(engine, imported):
    graph = changed(txt2img(steps=1), "5", width=16, height=16, batch_size=3)
    whole = engine.run(imported(graph).workflow, targets=["sampled"])["sampled"]
    rebatched = changed(graph, "3", latent_image=["21", 0]) | {"21": node("RebatchLatents", latents=["5", 0], batch_size=2)}
    workflow = imported(rebatched).workflow
    assert workflow.nodes["image"].inputs["each"].keys() == {"latent"}
    parts = engine.run(workflow, targets=["sampled"])["sampled"]
    assert [len(part.samples) for part in parts] == [2, 1]
    torch.testing.assert_close(torch.cat([part.samples for part in parts]), whole.samples, atol=1e-4, rtol=1e-4)


def test_batches_that_are_made_of_a_list_one_by_one_are_refused(imported):
    graph = changed(txt2img(), "3", latent_image=["22", 0]) | {
        "21": node("RebatchLatents", latents=["5", 0], batch_size=2),
        "22": node("LatentBatch", samples1=["21", 0], samples2=["5", 0]),
    }
    with pytest.raises(WorkflowError, match="joins what comes out of a list"):
        imported(graph)


def test_polyexponential_levels(imported):
    found = levels_of(imported, "PolyexponentialScheduler", steps=3, sigma_max=8.0, sigma_min=0.5, rho=2.0)
    middle = math.exp(0.25 * (math.log(8) - math.log(0.5)) + math.log(0.5))
    assert found == pytest.approx([8, middle, 0.5, 0], rel=1e-6)


# --- what is known of classes that no template contains

FACTS = """
CheckpointLoader: config_name, ckpt_name
CLIPLoader: clip_name, type, device
DualCLIPLoader: clip_name1, clip_name2, type, device
UNETLoader: unet_name, weight_dtype
LoraLoaderModelOnly: lora_name, strength_model=1.0
ModelSamplingDiscrete: sampling, zsnr=False
CLIPTextEncodeSDXL: width=1024, height=1024, crop_w=0, crop_h=0, target_width=1024, target_height=1024, text_g, text_l
CLIPTextEncodeSDXLRefiner: ascore=6.0, width=1024, height=1024, text
ConditioningAverage: conditioning_to_strength=1.0
ConditioningSetAreaPercentage: width=1.0, height=1.0, x=0.0, y=0.0, strength=1.0
ConditioningSetAreaStrength: strength=1.0
ConditioningSetMask: strength=1.0, set_cond_area
ConditioningSetTimestepRange: start=0.0, end=1.0
InpaintModelConditioning: noise_mask=True
LatentComposite: x=0, y=0, feather=0
LoadLatent: latent
LatentCompositeMasked: x=0, y=0, resize_source=False
SolidMask: value=1.0, width=512, height=512
CropMask: x=0, y=0, width=512, height=512
FeatherMask: left=0, top=0, right=0, bottom=0
MaskComposite: x=0, y=0, operation='multiply'
ImageColorToMask: color=0
LatentFlip: flip_method
LatentRotate: rotation
LatentCrop: width=512, height=512, x=0, y=0
LatentMultiply: multiplier=1.0
LatentBlend: blend_factor=0.5
LatentInterpolate: ratio=1.0
RebatchLatents: batch_size=1
RepeatLatentBatch: amount=1
LatentFromBatch: batch_index=0, length=1
LatentBatchSeedBehavior: seed_behavior='fixed'
LoadImageMask: image, channel
ImageToMask: channel
ThresholdMask: value=0.5
GrowMask: expand=0, tapered_corners=True
ImageScaleBy: upscale_method, scale_by=1.0
ImageScaleToTotalPixels: upscale_method, megapixels=1.0, resolution_steps=1
ImageCompositeMasked: x=0, y=0, resize_source=False
RepeatImageBatch: amount=1
ImageFromBatch: batch_index=0, length=1
CFGGuider: cfg=8.0
DualCFGGuider: cfg_conds=8.0, cfg_cond2_negative=8.0, style
PerpNegGuider: cfg=8.0, neg_scale=1.0
PerpNeg: neg_scale=1.0
RescaleCFG: multiplier=0.7
PerturbedAttentionGuidance: scale=3.0
SelfAttentionGuidance: scale=0.5, blur_sigma=2.0
DifferentialDiffusion: strength=1.0
BasicScheduler: scheduler, steps=20, denoise=1.0
BetaSamplingScheduler: steps=20, alpha=0.6, beta=0.6
KarrasScheduler: steps=20, sigma_max=14.614642, sigma_min=0.0291675, rho=7.0
ExponentialScheduler: steps=20, sigma_max=14.614642, sigma_min=0.0291675
PolyexponentialScheduler: steps=20, sigma_max=14.614642, sigma_min=0.0291675, rho=1.0
LaplaceScheduler: steps=20, sigma_max=14.614642, sigma_min=0.0291675, mu=0.0, beta=0.5
VPScheduler: steps=20, beta_d=19.9, beta_min=0.1, eps_s=0.001
AlignYourStepsScheduler: model_type, steps=10, denoise=1.0
SplitSigmas: step=0
SplitSigmasDenoise: denoise=1.0
SamplerDPMPP_2M_SDE: solver_type, eta=1.0, s_noise=1.0, noise_device
SamplerDPMPP_SDE: eta=1.0, s_noise=1.0, r=0.5, noise_device
SamplerER_SDE: solver_type, max_stage=3, eta=1.0, s_noise=1.0
SamplerSEEDS2: solver_type, eta=1.0, s_noise=1.0, r=0.5
SaveLatent: filename_prefix='latents/ComfyUI'
PrimitiveInt: value
StringConcatenate: string_a, string_b, delimiter=''
"""
"""The values in the order of ComfyUI's definitions, which is that of the editor's lists, and the defaults that they have there."""


@pytest.mark.parametrize("line", FACTS.strip().splitlines())
def test_values_of_a_class_are_those_of_its_definition(line):
    name, _, values = line.partition(": ")
    known = [found for found in TABLE[name].known.values() if found.is_value]
    expected = [text.partition("=") for text in values.split(", ")]
    assert [found.name for found in known] == [text for text, *_ in expected]
    for found, (_, has_default, default) in zip(known, expected, strict=True):
        if has_default:
            assert found.default == ast.literal_eval(default)
            assert type(found.default) is type(ast.literal_eval(default))
