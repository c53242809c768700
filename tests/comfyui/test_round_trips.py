"""Graphs with models beside the checkpoint, and the shipped workflows: export and import again give the same keys."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from nodegraph import Workflow
from nodegraph.errors import WorkflowError
from nodegraph.plugin_api import ExportRequest, ImportRequest, Link
from nodegraph.run.lock.facts import plain_nodes
from nodegraph.settings import MODELS_VARIABLE
from nodegraph_comfyui.exporting.exporter import export_comfyui
from nodegraph_comfyui.importer import import_comfyui
from nodegraph_diffusion.networks.config import GligenConfig, UpscalerConfig
from nodegraph_diffusion.networks.gligen import Gligen
from nodegraph_diffusion.networks.rrdb import Upscaler
from nodegraph_diffusion.networks.shapes import transformer_widths
from tests.support import adapted_models, small_model
from tests.support import synthetic_checkpoints as synthetic
from tests.support.comfy_graphs import changed, node, txt2img

pytestmark = pytest.mark.slow

EXPRESSIBLE = ("img2img", "txt2img", "xy")
SHIPPED = sorted((Path(__file__).parents[2] / "workflows").glob("*.yaml"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of small models, with GLIGEN's layers and a network that enlarges pictures."""
    folder = adapted_models.save_models(tmp_path_factory.mktemp("models"))
    blocks = tuple(transformer_widths(small_model.UNET).items())
    layers = Gligen(GligenConfig(blocks=blocks, text_width=small_model.UNET.context_dim))
    synthetic.fill(layers)
    state = {}
    for key, value in layers.state_dict().items():
        block, _, rest = key.removeprefix("layers.").partition(".")
        name = key if key.startswith("position_net") else f"{block.replace('/', '.')}.fuser.{rest}"
        state[name] = torch.tensor(0.9) if "alpha" in key else value.contiguous()
    save_file(state, folder / "boxes.safetensors")
    enlarging = Upscaler(UpscalerConfig(width=8, growth=4, blocks=1))
    synthetic.fill(enlarging)
    save_file({name: value.contiguous() for name, value in enlarging.state_dict().items()}, folder / "enlarge.safetensors")
    return folder


@pytest.fixture(autouse=True)
def picture(tmp_path):
    picture = Image.new("RGBA", (64, 64), "red")
    picture.paste((0, 0, 0, 0), (16, 16, 40, 40))
    picture.save(tmp_path / "start.png")


def small(unet=None, *, model="model", **more):
    """A graph with a small model, and another UNet."""
    graph = changed(txt2img(), "4", ckpt_name=model)
    if unet is not None:
        graph = changed(graph, "3", model=["10", 0]) | {"10": node("UNETLoader", unet_name=unet, weight_dtype="default")}
    return graph | {"20": node("LoadImage", image="start.png"), **more}


def control(prompt, **more):
    return node("ControlNetApply", conditioning=[prompt, 0], control_net=["31", 0], image=["20", 0], strength=0.8, **more)


def both(positive, negative, **more):
    fields = {"control_net": ["31", 0], "image": ["20", 0], **more}
    return node("ControlNetApplyAdvanced", positive=positive, negative=negative, **fields)


def box(prompt, text, **place):
    fields = {"text": text, "width": 32, "height": 24, "x": 8, "y": 16, **place}
    return node("GLIGENTextBoxApply", conditioning_to=[prompt, 0], clip=["4", 1], gligen_textbox_model=["40", 0], **fields)


LOADERS = {
    "31": node("ControlNetLoader", control_net_name="control.safetensors"),
    "40": node("GLIGENLoader", gligen_name="boxes.safetensors"),
    "44": node("UpscaleModelLoader", model_name="enlarge.safetensors"),
}
ON_BOTH = {"positive": ["6", 0], "negative": ["7", 0], "vae": ["4", 2], "pixels": ["20", 0]}

GRAPHS = {
    "inpainting": changed(small("inpaint"), "3", positive=["30", 0], negative=["30", 1], latent_image=["30", 2], denoise=0.7)
    | {"30": node("InpaintModelConditioning", **ON_BOTH, mask=["20", 1], noise_mask=True)},
    "inpainting without a mask of the noise": changed(
        small("inpaint"), "3", positive=["30", 0], negative=["30", 1], latent_image=["30", 2]
    )
    | {"30": node("InpaintModelConditioning", **ON_BOTH, mask=["20", 1], noise_mask=False)},
    "inpainting with boxes": changed(small("inpaint"), "3", positive=["41", 0], negative=["30", 1])
    | LOADERS
    | {"30": node("InpaintModelConditioning", **ON_BOTH, mask=["20", 1], noise_mask=False), "41": box("30", "a boat")},
    "instructions": changed(small("pix2pix"), "3", positive=["30", 0], negative=["30", 1], latent_image=["30", 2])
    | {"30": node("InstructPixToPixConditioning", **ON_BOTH)},
    "ControlNet": changed(small(model="single.safetensors"), "3", positive=["32", 0]) | LOADERS | {"32": control("6")},
    "two ControlNets": changed(small(model="single.safetensors"), "3", positive=["33", 0], negative=["33", 1])
    | LOADERS
    | {
        "32": both(["6", 0], ["7", 0]),
        "33": both(["32", 0], ["32", 1], strength=0.5, start_percent=0.2, end_percent=0.9),
    },
    "boxes": changed(small(), "3", positive=["42", 0]) | LOADERS | {"41": box("6", "a boat"), "42": box("41", "a house", x=0)},
    "LoRA": changed(small(), "3", model=["11", 0])
    | {
        "11": node("LoraLoader", model=["4", 0], clip=["4", 1], lora_name="lora.safetensors", strength_model=0.5, strength_clip=0.7)
    },
    "enlarged": changed(small(), "9", images=["45", 0])
    | LOADERS
    | {"45": node("ImageUpscaleWithModel", upscale_model=["44", 0], image=["8", 0])},
}


def exported(engine, workflow):
    graph = engine.check(workflow)
    outputs = {name: (Link(found.link.node, found.link.port), found.save) for name, found in graph.outputs.items()}
    return export_comfyui(ExportRequest(name="x", nodes=plain_nodes(graph), outputs=outputs))


def exported_or_problems(engine, workflow):
    try:
        return exported(engine, workflow), ()
    except WorkflowError as error:
        return None, error.problems


def keys_of(engine, workflow):
    plan = engine.plan(workflow)
    return sorted(plan.keys[found.link.node] for found in plan.graph.outputs.values())


def again(text, folder):
    request = ImportRequest(data=text.encode(), file="graph.json", name="graph", folder=folder, base=folder)
    return import_comfyui(request).workflow


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_has_the_same_keys(engine, imported, models, monkeypatch, tmp_path, name):
    monkeypatch.setenv(MODELS_VARIABLE, str(models))
    first = imported(GRAPHS[name])
    found = exported(engine, first.workflow)
    assert (first.notes, found.notes) == ((), ())
    assert keys_of(engine, again(found.text, tmp_path)) == keys_of(engine, first.workflow)


def test_picture_of_the_unet_is_that_of_both_prompts(engine, imported, models, monkeypatch):
    monkeypatch.setenv(MODELS_VARIABLE, str(models))
    nodes = json.loads(exported(engine, imported(GRAPHS["inpainting"]).workflow).text).values()
    (guided,) = (part["inputs"] for part in nodes if part["class_type"] == "InpaintModelConditioning")
    assert {*guided} == {"positive", "negative", "vae", "pixels", "mask", "noise_mask"}
    (encoded,) = (part["inputs"] for part in nodes if part["class_type"] == "VAEEncode")
    assert encoded["pixels"] == guided["pixels"]
    assert [part["class_type"] for part in nodes if part["inputs"].get("mask") == guided["mask"]].count("SetLatentNoiseMask") == 1


def as_comfyui_paints(document):
    """Give sizes to latents, and noise and fit as ComfyUI has them: what else a workflow says, ComfyUI can say, too."""
    ours = {
        "EmptyLatent": {"width": 64, "height": 64},
        "Noise": {"draw": "sequential"},
        "Sampler": {"step_noise": "comfyui"},
        "VAEEncode": {"fit": "crop"},
    }
    for name, part in document.nodes.items():
        document.nodes[name] = dataclasses.replace(part, inputs={**part.inputs, **ours.get(part.type, {})})


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_shipped_workflow_has_the_same_keys_or_says_what_differs(engine, path):
    plain, fitted = Workflow.load(path), Workflow.load(path)
    for document in (fitted, *fitted.workflows.values()):
        as_comfyui_paints(document)
    for workflow in (plain, fitted):
        found, problems = exported_or_problems(engine, workflow)
        assert all(problem.message.startswith(("node '", "output '")) for problem in problems)
        assert found is not None or workflow is plain or path.stem not in EXPRESSIBLE
        if found is None:
            continue
        if found.notes == ():
            assert keys_of(engine, again(found.text, path.parent)) == keys_of(engine, workflow)
        else:
            assert workflow is plain
