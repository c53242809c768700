"""What was imported is exported as a graph that gives the same keys, and what ComfyUI cannot express is named."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from nodegraph import Workflow
from nodegraph.errors import WorkflowError
from nodegraph.plugin_api import ExportRequest, Link
from nodegraph.run.lock.facts import plain_nodes
from nodegraph_comfyui.classes.table import TABLE
from nodegraph_comfyui.exporting.exporter import export_comfyui, prefix_of
from nodegraph_comfyui.exporting.latents import LATENTS
from nodegraph_comfyui.exporting.models import MODELS
from nodegraph_comfyui.exporting.pictures import PICTURES
from nodegraph_comfyui.exporting.prompts import PROMPTS
from nodegraph_comfyui.exporting.sampling import SAMPLING
from tests.support.comfy_graphs import BY_HAND, changed, node, txt2img


def exported(engine, workflow, form="api"):
    graph = engine.check(workflow)
    outputs = {name: (Link(found.link.node, found.link.port), found.save) for name, found in graph.outputs.items()}
    return export_comfyui(ExportRequest(name="x", nodes=plain_nodes(graph), outputs=outputs, form=form))


@pytest.fixture(autouse=True)
def start(tmp_path):
    """A picture with a transparent part, in the folder of the graph."""
    picture = Image.new("RGBA", (64, 64), "red")
    picture.paste((0, 0, 0, 0), (16, 16, 40, 40))
    (tmp_path / "input").mkdir()
    picture.save(tmp_path / "input/start.png")
    (tmp_path / "input/start.latent").write_bytes(b"")


def advanced():
    fields = {"cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "noise_seed": 8, "steps": 4, "model": ["4", 0]}
    fields |= {"positive": ["6", 0], "negative": ["7", 0]}
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
    second = {"add_noise": "disable", "start_at_step": 1, "end_at_step": 3, "return_with_leftover_noise": "disable"}
    graph = txt2img() | {"3": node("KSamplerAdvanced", **fields, **first, latent_image=["5", 0])}
    graph["13"] = node("KSamplerAdvanced", **fields, **second, latent_image=["3", 0])
    return changed(graph, "8", samples=["13", 0])


def with_picture(latent, **more):
    """Image to image; `latent` is how the latent is made of the picture."""
    graph = changed(txt2img(), "3", latent_image=["21", 0], denoise=0.5)
    return graph | {"20": node("LoadImage", image="start.png"), "21": latent, **more}


def masked(**more):
    """Image to image of what the mask 23 leaves free."""
    encoded = node("VAEEncode", pixels=["20", 0], vae=["4", 2])
    return with_picture(node("SetLatentNoiseMask", samples=["22", 0], mask=["23", 0]), **{"22": encoded, **more})


CUSTOM = {"noise_seed": 8, "cfg": 3.0, "add_noise": True, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}


def basic_custom(kind, **values):
    graph = txt2img()
    graph["3"] = node("SamplerCustom", **CUSTOM, sampler=["40", 0], sigmas=["41", 0], latent_image=["5", 0])
    return graph | {"40": node("KSamplerSelect", sampler_name="euler_ancestral"), "41": node(kind, **values, model=["4", 0])}


GRAPHS = {
    "txt2img": txt2img(),
    "batch": changed(txt2img(), "5", batch_size=2),
    "strength": txt2img(denoise=0.5),
    "layer": changed(txt2img(), "6", clip=["30", 0]) | {"30": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["4", 1])},
    "areas": changed(txt2img(), "3", positive=["32", 0])
    | {
        "31": node("ConditioningSetArea", conditioning=["6", 0], width=32, height=64, x=0, y=0, strength=0.7),
        "32": node("ConditioningCombine", conditioning_1=["31", 0], conditioning_2=["7", 0]),
    },
    "zero": changed(txt2img(), "3", negative=["31", 0]) | {"31": node("ConditioningZeroOut", conditioning=["6", 0])},
    "two parts": advanced(),
    "picture": with_picture(node("VAEEncode", pixels=["20", 0], vae=["4", 2])),
    "mask": with_picture(
        node("SetLatentNoiseMask", samples=["22", 0], mask=["20", 1]), **{"22": node("VAEEncode", pixels=["20", 0], vae=["4", 2])}
    ),
    "inpaint": with_picture(node("VAEEncodeForInpaint", pixels=["20", 0], vae=["4", 2], mask=["20", 1], grow_mask_by=4)),
    "outpaint": with_picture(
        node("VAEEncodeForInpaint", pixels=["22", 0], vae=["4", 2], mask=["22", 1], grow_mask_by=8),
        **{"22": node("ImagePadForOutpaint", image=["20", 0], left=8, top=0, right=16, bottom=0, feathering=4)},
    ),
    "resized": with_picture(
        node("LatentUpscale", samples=["22", 0], upscale_method="bislerp", width=96, height=96, crop="disabled"),
        **{
            "22": node("VAEEncode", pixels=["23", 0], vae=["4", 2]),
            "23": node("ImageScale", image=["20", 0], upscale_method="bilinear", width=32, height=48, crop="center"),
        },
    ),
    "batches": changed(txt2img(), "3", latent_image=["22", 0])
    | {
        "21": node("RepeatLatentBatch", samples=["5", 0], amount=3),
        "22": node("LatentFromBatch", samples=["21", 0], batch_index=1, length=1),
    },
    "guidance": changed(txt2img(), "3", model=["30", 0]) | {"30": node("RescaleCFG", model=["4", 0], multiplier=0.4)},
    "custom": basic_custom("BasicScheduler", scheduler="karras", steps=3, denoise=1.0),
    "turbo": basic_custom("SDTurboScheduler", steps=1, denoise=1.0),
    "options": basic_custom("BasicScheduler", scheduler="normal", steps=3, denoise=1.0)
    | {"40": node("SamplerDPMPP_2M_SDE", solver_type="heun", eta=0.5, s_noise=1.0, noise_device="cpu")},
    "solver": basic_custom("BasicScheduler", scheduler="normal", steps=3, denoise=1.0)
    | {"40": node("SamplerER_SDE", solver_type="Reverse-time SDE", max_stage=2, eta=1.0, s_noise=1.0)},
    "two parts of levels": basic_custom("BasicScheduler", scheduler="normal", steps=4, denoise=1.0)
    | {
        "42": node("SplitSigmasDenoise", sigmas=["41", 0], denoise=0.5),
        "3": node("SamplerCustom", **CUSTOM, sampler=["40", 0], sigmas=["42", 1], latent_image=["5", 0]),
    },
    "changed mask": masked(
        **{
            "24": node("LoadImageMask", image="start.png", channel="alpha"),
            "25": node("InvertMask", mask=["24", 0]),
            "26": node("ThresholdMask", mask=["25", 0], value=0.5),
            "23": node("GrowMask", mask=["26", 0], expand=-3, tapered_corners=False),
        }
    ),
    "masks that are combined": masked(
        **{
            "24": node("SolidMask", value=0.75, width=64, height=64),
            "25": node("CropMask", mask=["20", 1], x=8, y=8, width=32, height=24),
            "26": node("FeatherMask", mask=["25", 0], left=4, top=0, right=6, bottom=2),
            "27": node("MaskComposite", destination=["24", 0], source=["26", 0], x=16, y=8, operation="subtract"),
            "28": node("MaskToImage", mask=["27", 0]),
            "29": node("ImageColorToMask", image=["28", 0], color=0xBFBFBF),
            "23": node("MaskComposite", destination=["27", 0], source=["29", 0], x=0, y=0, operation="xor"),
        }
    ),
    "inverted after growing": masked(
        **{"24": node("GrowMask", mask=["20", 1], expand=3, tapered_corners=True), "23": node("InvertMask", mask=["24", 0])}
    ),
    "mask of a latent that was resized": with_picture(
        node("LatentUpscaleBy", samples=["22", 0], upscale_method="area", scale_by=1.5),
        **{"22": node("VAEEncodeForInpaint", pixels=["20", 0], vae=["4", 2], mask=["20", 1], grow_mask_by=4)},
    ),
    "composite": changed(txt2img(), "9", images=["25", 0])
    | {
        "20": node("LoadImage", image="start.png"),
        "25": node("ImageCompositeMasked", destination=["20", 0], source=["8", 0], mask=["20", 1], x=0, y=0, resize_source=False),
    },
    "placed": changed(txt2img(), "9", images=["26", 0])
    | {
        "20": node("LoadImage", image="start.png"),
        "25": node("ImageCompositeMasked", destination=["8", 0], source=["20", 0], x=8, y=24, resize_source=False),
        "26": node("ImageCompositeMasked", destination=["25", 0], source=["20", 0], x=0, y=0, resize_source=True, mask=["20", 1]),
    },
    "latent of a file": changed(txt2img(), "3", latent_image=["23", 0])
    | {
        "22": node("LoadLatent", latent="start.latent"),
        "23": node("LatentCompositeMasked", destination=["5", 0], source=["22", 0], x=8, y=16, resize_source=True),
    },
    "latents that are computed": changed(txt2img(), "3", latent_image=["29", 0])
    | {
        "22": node("LatentFlip", samples=["5", 0], flip_method="x-axis: vertically"),
        "23": node("LatentRotate", samples=["22", 0], rotation="270 degrees"),
        "24": node("LatentCrop", samples=["23", 0], width=64, height=64, x=0, y=8),
        "25": node("LatentAdd", samples1=["24", 0], samples2=["5", 0]),
        "26": node("LatentSubtract", samples1=["25", 0], samples2=["5", 0]),
        "27": node("LatentMultiply", samples=["26", 0], multiplier=0.5),
        "28": node("LatentBlend", samples1=["27", 0], samples2=["5", 0], blend_factor=0.25),
        "29": node("LatentInterpolate", samples1=["28", 0], samples2=["25", 0], ratio=0.75),
    },
    "latents": changed(txt2img(), "3", latent_image=["23", 0])
    | {
        "22": node("LatentComposite", samples_to=["5", 0], samples_from=["5", 0], x=8, y=16, feather=8),
        "23": node("LatentBatch", samples1=["22", 0], samples2=["5", 0]),
    },
}
GRAPHS["perp-neg"] = basic_custom("BasicScheduler", scheduler="normal", steps=3, denoise=1.0) | {
    "42": node("PerpNegGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], empty_conditioning=["7", 0], cfg=3.0),
    "43": node("RandomNoise", noise_seed=8),
    "3": node(
        "SamplerCustomAdvanced", noise=["43", 0], guider=["42", 0], sampler=["40", 0], sigmas=["41", 0], latent_image=["5", 0]
    ),
}


QUICK = ("txt2img", "areas", "mask", "changed mask", "options")
"""The graphs whose editor form is not a slow test."""

FORMS = [(name, "api") for name in GRAPHS] + [
    pytest.param(name, "editor", marks=() if name in QUICK else pytest.mark.slow) for name in GRAPHS
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_export_and_import_give_the_same_keys(engine, imported, keys, name, form):
    first = imported(GRAPHS[name])
    found = exported(engine, first.workflow, form)
    assert (first.notes, found.notes) == ((), ())
    assert keys(json.loads(found.text)) == keys(GRAPHS[name])


def test_levels_become_numbers_of_a_node_for_them(engine, imported, keys):
    graph = basic_custom("ManualSigmas", sigmas="10, 0.00001,0")
    assert imported(graph).workflow.nodes["levels"].inputs["levels"] == [10, 1e-5, 0]
    found = exported(engine, imported(graph).workflow)
    assert "10.0, 0.00001, 0.0" in found.text
    assert "needs a ComfyUI that has the node ManualSigmas" in " ".join(found.notes)
    assert keys(json.loads(found.text)) == keys(graph)


def test_latents_are_saved(engine, imported):
    graph = txt2img() | {"9": node("SaveLatent", samples=["3", 0])}
    workflow = imported(graph).workflow
    assert [output.save for output in workflow.outputs.values()] == ["latents/ComfyUI.latent"]
    found = exported(engine, workflow)
    assert found.notes == ()
    nodes = json.loads(found.text)
    (saved,) = (part["inputs"] for part in nodes.values() if part["class_type"] == "SaveLatent")
    assert saved["filename_prefix"] == "latents/ComfyUI"
    assert nodes[saved["samples"][0]]["class_type"] == "KSampler"
    assert "VAEDecode" not in {part["class_type"] for part in nodes.values()}


def test_only_what_the_outputs_need_is_written(engine):
    text = BY_HAND.replace("outputs:", "  sheet: {use: Grid, images: [$image]}\noutputs:")
    assert len(json.loads(exported(engine, Workflow.parse(text)).text)) == 7


def test_editor_places_nodes_beside_each_other(engine, imported):
    graph = json.loads(exported(engine, imported(txt2img()).workflow, "editor").text)
    places = {part["type"]: part["pos"] for part in graph["nodes"] if part["type"] != "CLIPTextEncode"}
    assert places["CheckpointLoaderSimple"][0] < places["KSampler"][0] < places["VAEDecode"][0] < places["SaveImage"][0]
    boxes = [(*part["pos"], part["size"][0], part["size"][1]) for part in graph["nodes"]]
    for k, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[k + 1 :]:
            assert x + width <= other_x or other_x + other_width <= x or y + height <= other_y or other_y + other_height <= y
    for link, source, slot, *_ in graph["links"]:
        outputs = next(part for part in graph["nodes"] if part["id"] == source)["outputs"]
        assert link in outputs[slot]["links"]


def test_what_comfyui_cannot_express_is_named(engine):
    text = BY_HAND.replace("image: {from: $image, save: x.png}", "image: {from: $sheet}").replace(
        "outputs:", "  sheet: {use: Grid, images: [$image]}\n  text: {use: TextTemplate, text: x}\noutputs:"
    )
    with pytest.raises(WorkflowError) as caught:
        exported(engine, Workflow.parse(text))
    assert "node 'sheet': ComfyUI has no counterpart of Grid" in str(caught.value)
    with pytest.raises(WorkflowError, match="'syntax' is 'a1111'"):
        exported(engine, Workflow.parse(BY_HAND.replace("text: a red house", "text: a red house, syntax: a1111")))
    with pytest.raises(WorkflowError, match="output 'image' is an output of TextEncode"):
        exported(engine, Workflow.parse(BY_HAND.replace("{from: $image, save: x.png}", "{from: $positive}")))
    with pytest.raises(WorkflowError, match="no native size of a model: give 'width' and 'height'"):
        exported(engine, Workflow.parse(BY_HAND.replace(", width: 64, height: 64", "")))
    with pytest.raises(WorkflowError, match="no form 'xml'"):
        exported(engine, Workflow.parse(BY_HAND), "xml")


def test_what_differs_in_comfyui_is_noted(engine):
    found = exported(engine, Workflow.parse(BY_HAND.replace("step_noise: comfyui", "steps: 2").replace("    steps: 2\n", "", 1)))
    assert "ComfyUI draws noise in its own way" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("save", "prefix"),
    [("x.png", "x"), ("a/{seed}-{date}.png", "a/-%date:yyyy-MM-dd%"), ("{workflow}.png", "ComfyUI"), ("{{x}}.webp", "{x}")],
)
def test_names_of_files(save, prefix):
    assert prefix_of(save) == prefix


def test_pictures_carry_the_graph(engine, imported, tmp_path, keys):
    graph = changed(changed(txt2img(), "3", steps=1), "5", width=16, height=16)
    result = engine.run(imported(graph).workflow, out=tmp_path)
    data = result.outputs["image"][0].read_bytes()
    with Image.open(result.outputs["image"][0]) as picture:
        assert keys(json.loads(picture.text["prompt"])) == keys(graph)
    assert b"nodegraph" in data


def test_node_that_is_renamed_loses_no_input(engine):
    """A class under another name has all inputs of our node, so that no value is lost on the way out."""
    by_hand = {*MODELS, *PROMPTS, *LATENTS, *PICTURES, *SAMPLING}
    types = engine.plugins.nodes
    for found in TABLE.values():
        renaming = found.renaming
        if renaming is None or renaming.type in by_hand:
            continue
        inputs = {port.here for port in found.known.values() if port.here} | {*renaming.always}
        assert inputs == {port.name for port in types.get(renaming.type).value.inputs}, found.name
