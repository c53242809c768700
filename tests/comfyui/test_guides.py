"""What prompts bring for the UNet in ComfyUI is applied to the UNet here; pictures as prompts take the seed of the sampling."""

from __future__ import annotations

import pytest

from nodegraph.errors import WorkflowError
from tests.support.comfy_graphs import changed, node, txt2img


def boxes(graph, **more):
    """The graph with GLIGEN's layers and boxes."""
    return graph | {"40": node("GLIGENLoader", gligen_name="boxes.safetensors"), **more}


def box(prompt, text="a sun", **place):
    fields = {"text": text, "width": 32, "height": 24, "x": 8, "y": 16, **place}
    return node("GLIGENTextBoxApply", conditioning_to=[prompt, 0], clip=["4", 1], gligen_textbox_model=["40", 0], **fields)


def seen(graph, **more):
    """The graph with a picture that is encoded."""
    return graph | {
        "20": node("LoadImage", image="start.png"),
        "50": node("CLIPVisionLoader", clip_name="seen.safetensors"),
        "51": node("CLIPVisionEncode", clip_vision=["50", 0], image=["20", 0], crop="center"),
        **more,
    }


def shown(prompt, **numbers):
    fields = {"strength": 0.75, "noise_augmentation": 0.2, **numbers}
    return node("unCLIPConditioning", conditioning=[prompt, 0], clip_vision_output=["51", 0], **fields)


def test_boxes_go_to_the_unet_one_after_the_other(imported):
    graph = changed(txt2img(), "3", positive=["42", 0])
    nodes = imported(boxes(graph, **{"41": box("6"), "42": box("41", "a moon", x=0)})).workflow.nodes
    second = nodes[nodes["denoiser"].inputs["unet"].node]
    first = nodes[second.inputs["unet"].node]
    assert (first.type, second.type) == ("ApplyGligen", "ApplyGligen")
    assert {name: first.inputs[name] for name in ("width", "height", "x", "y")} == {"width": 32, "height": 24, "x": 8, "y": 16}
    assert second.inputs["x"] == 0
    assert nodes["denoiser"].inputs["positive"].node == "positive"


def test_boxes_of_the_negative_prompt_alone_are_refused(imported):
    graph = changed(txt2img(), "3", negative=["41", 0])
    with pytest.raises(WorkflowError, match="its prompts have different boxes of GLIGEN"):
        imported(boxes(graph, **{"41": box("7")}))


def test_control_net_on_one_output_of_the_advanced_node_is_refused(imported):
    graph = changed(txt2img(), "3", positive=["32", 0]) | {
        "20": node("LoadImage", image="start.png"),
        "31": node("ControlNetLoader", control_net_name="depth.safetensors"),
        "32": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["31", 0], image=["20", 0]),
    }
    with pytest.raises(WorkflowError, match="its prompts have different ControlNets"):
        imported(graph)
    simple = graph | {"32": node("ControlNetApply", conditioning=["6", 0], control_net=["31", 0], image=["20", 0])}
    assert imported(simple).workflow.nodes["denoiser"].inputs["unet"].node == "controlled"


def test_pictures_as_prompts_have_the_seed_of_the_sampling(imported):
    graph = changed(txt2img(), "3", positive=["53", 0])
    workflow = imported(seen(graph, **{"52": shown("6"), "53": shown("52", strength=0.5)})).workflow
    second = workflow.nodes[workflow.nodes["denoiser"].inputs["positive"].node]
    first = workflow.nodes[second.inputs["conditioning"].node]
    assert [part.inputs["strength"] for part in (first, second)] == [0.75, 0.5]
    assert {part.inputs["seed"].name for part in (first, second)} == {"seed"}
    assert first.inputs["noise"] == 0.2
    assert workflow.params["seed"].default == 8


def test_two_samplings_of_one_prompt_have_its_pictures_with_their_own_seeds(imported):
    graph = changed(txt2img(), "3", positive=["52", 0])
    graph["13"] = node("KSampler", **{**graph["3"]["inputs"], "seed": 9, "latent_image": ["3", 0]})
    workflow = imported(seen(changed(graph, "8", samples=["13", 0]), **{"52": shown("6")})).workflow
    found = [part for part in workflow.nodes.values() if part.type == "ImageCondition"]
    assert sorted(workflow.params[part.inputs["seed"].name].default for part in found) == [8, 9]


def test_picture_of_strength_0_is_left_out(imported):
    graph = changed(txt2img(), "3", positive=["52", 0])
    nodes = imported(seen(graph, **{"52": shown("6", strength=0.0)})).workflow.nodes
    assert not {"ImageCondition", "ImageEncode"} & {part.type for part in nodes.values()}


def test_pictures_of_a_prompt_that_no_sampler_uses_are_imported_in_part(imported):
    found = imported(seen(txt2img(), **{"52": shown("6")}), partial=True).workflow
    (part,) = (part for part in found.nodes.values() if part.type == "ImageCondition")
    assert part.inputs["seed"] == 0
