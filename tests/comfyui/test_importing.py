"""A graph becomes the workflow that a person would write, with ComfyUI's meaning."""

from __future__ import annotations

import json

import pytest
import yaml

from nodegraph import Workflow
from nodegraph.errors import WorkflowError
from tests.support.comfy_graphs import BY_HAND, as_editor, changed, editor_node, nested, node, picture, txt2img, with_subgraph


def test_keys_are_those_of_a_workflow_written_by_hand(engine, keys):
    assert keys(txt2img()) == engine.plan(Workflow.parse(BY_HAND)).keys["image"]


@pytest.mark.parametrize(
    "content",
    [
        as_editor(txt2img()),
        as_editor(txt2img(), version=1, mapping=True),
        picture(prompt=json.dumps(txt2img())),
        with_subgraph(),
        nested(),
    ],
    ids=["editor", "mappings", "picture", "subgraph", "nested"],
)
def test_each_form_gives_the_same_keys(keys, content):
    assert keys(content) == keys(txt2img())


def test_names_and_params_are_those_that_people_know(imported):
    workflow = imported(txt2img()).workflow
    assert {name: param.default for name, param in workflow.params.items()} == {
        "model": "builtin:tiny",
        "prompt": "a red house",
        "negative_prompt": "",
        "width": 64,
        "height": 64,
        "seed": 8,
        "steps": 2,
        "cfg": 3.0,
    }
    assert [*workflow.nodes] == ["checkpoint", "latent", "positive", "negative", "denoiser", "noise", "sampled", "image"]
    assert [(output.name, output.save) for output in workflow.outputs.values()] == [("image", "ComfyUI.png")]


def test_titles_become_names(imported):
    graph = as_editor(txt2img())
    editor_node(graph, 3)["title"] = "First pass!"
    editor_node(graph, 6)["title"] = "CLIP Text Encode (Prompt)"
    workflow = imported(graph).workflow
    assert {"first_pass", "first_pass_noise", "first_pass_denoiser", "positive"} <= {*workflow.nodes}


def test_second_sampler_has_params_of_its_own(imported):
    graph = txt2img() | {"13": {**txt2img(seed=9)["3"]}, "18": node("VAEDecode", samples=["13", 0], vae=["4", 2])}
    graph["13"]["inputs"]["latent_image"] = ["3", 0]
    graph["19"] = node("SaveImage", filename_prefix="ComfyUI", images=["18", 0])
    workflow = imported(graph).workflow
    assert (workflow.params["seed"].default, workflow.params["seed_2"].default) == (8, 9)
    assert [output.save for output in workflow.outputs.values()] == ["ComfyUI-image.png", "ComfyUI-image_2.png"]


def test_shared_value_is_one_param(imported):
    graph = txt2img() | {"50": {**node("PrimitiveInt", value=4), "_meta": {"title": "Number of steps"}}}
    graph["3"]["inputs"]["steps"] = ["50", 0]
    workflow = imported(graph).workflow
    assert workflow.params["number_of_steps"].default == 4
    assert "steps" not in workflow.params


def test_subgraph_becomes_a_workflow_inside(imported, engine):
    workflow = imported(with_subgraph("My sampling")).workflow
    inner = workflow.workflows["my_sampling"]
    assert {"sampled", "noise", "image"} <= {*inner.nodes}
    assert workflow.nodes["my_sampling"].type == "#my_sampling"
    assert {"steps", "seed", "cfg"} <= {*inner.params}
    engine.check(workflow)


def test_subgraphs_inside_each_other_become_such_workflows(imported, engine):
    workflow = imported(nested()).workflow
    assert workflow.nodes["outer"].type == "#outer"
    assert workflow.workflows["outer"].nodes["sampling"].type == "#sampling"
    assert "sampled" in workflow.workflows["sampling"].nodes
    engine.check(workflow)


def test_groups_become_comments_about_their_nodes(imported):
    graph = with_subgraph("My sampling")
    for part in (*graph["nodes"], *graph["definitions"]["subgraphs"][0]["nodes"]):
        part |= {"pos": [part["id"] * 100, 0], "size": [10, 10]}
    graph["groups"] = [{"title": "Model and prompts", "bounding": [390, -10, 350, 50]}]
    graph["definitions"]["subgraphs"][0]["groups"] = [{"title": "Steps", "bounding": [290, -10, 50, 50]}]
    assert imported(graph).comments[""].split("\n") == [
        "Groups:",
        "- Model and prompts: checkpoint, latent, positive, negative",
        "- Steps: my_sampling/denoiser, my_sampling/noise, my_sampling/sampled",
    ]


def test_only_what_the_outputs_need_is_imported(imported):
    graph = txt2img() | {
        "90": node("SomethingElse", image=["8", 0], extra=1),
        "91": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    }
    with pytest.raises(WorkflowError, match="SomethingElse"):
        imported(graph)
    del graph["90"]
    assert "image_2" not in imported(graph).workflow.nodes


def test_last_layer_is_an_input_of_the_prompt(imported):
    graph = changed(txt2img(), "6", clip=["30", 0]) | {"30": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["4", 1])}
    nodes = imported(graph).workflow.nodes
    assert nodes["positive"].inputs["clip_skip"] == 2
    assert "clip_skip" not in nodes["negative"].inputs


def test_advanced_sampler_in_two_parts(imported, engine):
    fields = {"cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "noise_seed": 8, "steps": 4, "model": ["4", 0]}
    fields |= {"positive": ["6", 0], "negative": ["7", 0]}
    graph = txt2img() | {
        "3": node(
            "KSamplerAdvanced",
            **fields,
            add_noise="enable",
            latent_image=["5", 0],
            start_at_step=0,
            end_at_step=2,
            return_with_leftover_noise="enable",
        ),
        "13": node(
            "KSamplerAdvanced",
            **fields,
            add_noise="disable",
            latent_image=["3", 0],
            start_at_step=2,
            end_at_step=10000,
            return_with_leftover_noise="disable",
        ),
        "8": node("VAEDecode", samples=["13", 0], vae=["4", 2]),
    }
    workflow = imported(graph).workflow
    first, second = (workflow.nodes[name].inputs for name in ("sampled", "sampled_2"))
    assert "start_step" not in first
    assert workflow.params[first["end_step"].name].default == 2
    assert "finish" not in first
    assert (workflow.params[second["start_step"].name].default, second.get("end_step")) == (2, None)
    assert workflow.nodes["noise_2"].inputs["draw"] == "none"
    engine.check(workflow)


def test_embeddings_of_a_prompt_are_loaded(imported):
    text = "a house, (embedding:styles\\old.pt:1.2), embedding:mist"
    nodes = imported(changed(txt2img(), "6", text="a house, embedding:old.pt, (embedding:mist:1.2)")).workflow.nodes
    loaded = [part.inputs for part in nodes.values() if part.type == "LoadEmbedding"]
    assert [(inputs["file"], inputs["word"]) for inputs in loaded] == [("old.pt", "old.pt"), ("mist", "mist")]
    assert imported(changed(txt2img(), "6", text=text)).workflow.nodes["embedding"].inputs["file"] == "styles/old.pt"


def test_missing_files_are_noted(imported):
    found = imported(changed(txt2img(), "4", ckpt_name="sd\\dreamshaper.safetensors"))
    assert found.workflow.params["model"].default == "sd/dreamshaper.safetensors"
    (note,) = found.notes
    assert "node 4 (CheckpointLoaderSimple)" in note
    assert "there is no file sd/dreamshaper.safetensors" in note


@pytest.mark.parametrize(
    ("kind", "values", "family"),
    [
        ("ModelSamplingFlux", {}, "Flux"),
        ("Flux2Scheduler", {}, "Flux 2"),
        ("EmptySD3LatentImage", {}, "Stable Diffusion 3"),
        ("TripleCLIPLoader", {"clip_name1": "sd3.5_large.safetensors"}, "Stable Diffusion 3"),
        ("WanImageToVideo", {}, "Wan"),
        ("UNETLoaderGGUF", {"unet_name": "wan2.2_ti2v_5B.gguf"}, "Wan"),
        ("LTXVConditioning", {}, "LTX"),
        ("EmptyHunyuanLatentVideo", {}, "Hunyuan"),
        ("TextEncodeQwenImageEdit", {}, "Qwen-Image"),
        ("SVD_img2vid_Conditioning", {}, "Stable Video Diffusion"),
        ("StableCascade_StageB_Conditioning", {}, "Stable Cascade"),
        ("KlingTextToVideoNode", {}, "a cloud service"),
        ("OpenRouterImageNode", {}, "a cloud service"),
    ],
)
def test_families_are_recognised(imported, kind, values, family):
    with pytest.raises(WorkflowError) as caught:
        imported(txt2img() | {"50": node(kind, image=["8", 0], **values)})
    first, second = (problem.message for problem in caught.value.problems)
    assert first == f"graph.json is a graph for {family}, which nodegraph does not have. It has Stable Diffusion 1, 2 and XL"
    assert f"no counterpart of {kind}: node 50" in second


def test_family_of_the_files_is_noted(imported):
    found = imported(changed(txt2img(), "4", ckpt_name="flux1-dev-fp8.safetensors"))
    assert any("the names of its files say that it is for Flux" in note for note in found.notes)


def test_picture_is_found_in_the_input_folder(imported, tmp_path):
    graph = changed(txt2img(), "3", latent_image=["21", 0], denoise=0.5) | {
        "20": node("LoadImage", image="start.png [input]"),
        "21": node("VAEEncode", pixels=["20", 0], vae=["4", 2]),
    }
    assert any("there is no file start.png" in note for note in imported(graph).notes)
    (tmp_path / "input").mkdir()
    (tmp_path / "input/start.png").write_bytes(picture())
    found = imported(graph)
    assert found.notes == ()
    assert found.workflow.params["image"].default == "input/start.png"
    assert found.workflow.params["strength"].default == 0.5


def test_noise_mask_reaches_the_sampler(imported):
    graph = changed(txt2img(), "3", latent_image=["22", 0]) | {
        "20": node("LoadImage", image="start.png"),
        "22": node("SetLatentNoiseMask", samples=["5", 0], mask=["20", 1]),
    }
    mask = imported(graph).workflow.nodes["sampled"].inputs["mask"]
    assert (mask.node, mask.port) == ("picture", "mask")


def test_control_nets_go_to_the_unet(imported):
    graph = changed(txt2img(), "3", positive=["32", 0], negative=["32", 1]) | {
        "20": node("LoadImage", image="start.png"),
        "31": node("ControlNetLoader", control_net_name="depth.safetensors"),
        "32": node(
            "ControlNetApplyAdvanced",
            positive=["6", 0],
            negative=["7", 0],
            control_net=["31", 0],
            image=["20", 0],
            strength=0.8,
            start_percent=0.0,
            end_percent=0.5,
        ),
    }
    nodes = imported(graph).workflow.nodes
    assert nodes["denoiser"].inputs["unet"].node == "controlled"
    assert {name: nodes["controlled"].inputs.get(name) for name in ("strength", "start", "end")} == {
        "strength": 0.8,
        "start": None,
        "end": 0.5,
    }
    assert nodes["denoiser"].inputs["positive"].node == "positive"


def test_muted_node_leaves_out_the_outputs_that_need_it(imported):
    graph = as_editor(txt2img() | {"19": node("SaveImage", filename_prefix="x", images=["8", 0])})
    editor_node(graph, 7)["mode"] = 2
    with pytest.raises(WorkflowError, match="no output that can be made"):
        imported(graph)


def test_preview_is_saved_if_nothing_else_is(imported):
    graph = txt2img() | {"9": node("PreviewImage", images=["8", 0])}
    assert [output.save for output in imported(graph).workflow.outputs.values()] == ["{workflow}-{output}.png"]
    both = txt2img() | {"19": node("PreviewImage", images=["8", 0])}
    assert [output.save for output in imported(both).workflow.outputs.values()] == ["ComfyUI.png", None]


def test_karras_levels_are_those_of_the_paper(imported):
    fields = {"noise_seed": 8, "cfg": 3.0, "add_noise": True, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}
    graph = txt2img() | {
        "3": node("SamplerCustom", **fields, sampler=["40", 0], sigmas=["41", 0], latent_image=["5", 0]),
        "40": node("KSamplerSelect", sampler_name="euler"),
        "41": node("KarrasScheduler", steps=3, sigma_max=10.0, sigma_min=0.1, rho=2.0),
    }
    levels = imported(graph).workflow.nodes["levels"].inputs["levels"]
    middle = ((10**0.5 + 0.1**0.5) / 2) ** 2
    assert levels == pytest.approx([10, middle, 0.1, 0], rel=1e-6)


def test_workflow_reads_as_yaml(imported):
    from nodegraph.workflow.dump import dump

    text = dump(imported(txt2img()).workflow)
    assert yaml.safe_load(text)["params"]["prompt"] == "a red house"
    assert [*Workflow.parse(text).nodes] == [*imported(txt2img()).workflow.nodes]
