"""Damaged files, and files that are made to do harm, give clear errors."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.errors import WorkflowError
from nodegraph.plugin_api import ImportRequest
from nodegraph_comfyui.building import call
from nodegraph_comfyui.importer import import_comfyui
from tests.support.comfy_graphs import as_editor, changed, node, picture, txt2img, with_subgraph


def refused(imported, content):
    with pytest.raises(WorkflowError) as caught:
        imported(content)
    text = str(caught.value)
    assert text.startswith("[E122]"), text
    assert all(problem.code == "E122" for problem in caught.value.problems)
    return text


def test_nodes_in_a_circle(imported):
    graph = txt2img() | {"50": node("LatentUpscaleBy", samples=["51", 0], upscale_method="area", scale_by=2.0)}
    graph["51"] = node("LatentUpscaleBy", samples=["50", 0], upscale_method="area", scale_by=2.0)
    assert "in a circle" in refused(imported, changed(graph, "3", latent_image=["50", 0]))


def test_reroutes_in_a_circle(imported):
    graph = as_editor(txt2img())
    slots = {"inputs": [{"name": "", "type": "*", "link": 90}], "outputs": [{"name": "", "type": "*"}]}
    graph["nodes"].append({"id": 50, "type": "Reroute", "mode": 0, **slots})
    graph["links"].append([90, 50, 0, 50, 0, "*"])
    next(link for link in graph["links"] if link[3] == 8)[1] = 50
    assert "in a circle" in refused(imported, graph)


@pytest.mark.parametrize("editor", [False, True])
def test_missing_node(imported, editor):
    graph = txt2img()
    full = as_editor(graph)
    full["nodes"] = [part for part in full["nodes"] if part["id"] != 7]
    del graph["7"]
    assert "node 7, which does not exist" in refused(imported, full if editor else graph)


def test_text_ids_are_fine(keys):
    text = json.dumps(txt2img())
    for id in txt2img():
        text = text.replace(f'"{id}":', f'"node {id}":').replace(f'["{id}",', f'["node {id}",')
    assert keys(json.loads(text)) == keys(txt2img())
    graph = as_editor(txt2img())
    for part in graph["nodes"]:
        part["id"] = str(part["id"])
    assert keys(graph) == keys(txt2img())


@pytest.mark.parametrize("id", [None, True, 1.5, [], {}, "", 10**400])
def test_ids_that_are_none(imported, id):
    graph = as_editor(txt2img())
    graph["nodes"][0]["id"] = id
    assert "which is not a number or text" in refused(imported, graph)


def test_same_id_twice(imported):
    graph = as_editor(txt2img())
    graph["nodes"].append(copy.deepcopy(graph["nodes"][0]))
    assert "two nodes have the id 4" in refused(imported, graph)


@pytest.mark.parametrize("editor", [False, True])
def test_a_hundred_thousand_nodes(imported, editor):
    ids = range(100_000)
    nodes = ",".join(f'{{"id":{k},"type":"A"}}' if editor else f'"{k}":{{"class_type":"A"}}' for k in ids)
    text = f'{{"nodes":[{nodes}],"links":[],"version":1}}' if editor else f"{{{nodes}}}"
    assert "100,000 nodes; at most 10,000" in refused(imported, text.encode())


def test_long_chain_is_converted(imported):
    graph = {**txt2img()}
    for k in range(1000):
        above = ["5", 0] if k == 0 else [f"u{k - 1}", 0]
        graph[f"u{k}"] = node("LatentUpscaleBy", samples=above, upscale_method="area", scale_by=1.0)
    assert len(imported(changed(graph, "3", latent_image=["u999", 0])).workflow.nodes) > 1000


def test_workflow_may_not_grow_without_limit(imported, monkeypatch):
    """Each sampler needs the pictures of its prompt with its own seed."""
    monkeypatch.setattr(call, "MOST_STEPS", 100)
    graph = txt2img() | {"20": node("LoadImage", image="x.png"), "50": node("CLIPVisionLoader", clip_name="x")}
    graph["51"] = node("CLIPVisionEncode", clip_vision=["50", 0], image=["20", 0])
    prompt, latent = "6", "5"
    for k in range(20):
        graph[f"c{k}"] = node("unCLIPConditioning", conditioning=[prompt, 0], clip_vision_output=["51", 0], strength=1.0 + k)
        prompt = f"c{k}"
    for k in range(20):
        sampled = {**graph["3"]["inputs"], "seed": k, "positive": [prompt, 0], "latent_image": [latent, 0]}
        graph[f"s{k}"] = node("KSampler", **sampled)
        latent = f"s{k}"
    assert "more than 100 nodes" in refused(imported, changed(graph, "8", samples=[latent, 0]))


def test_thousands_of_groups(imported):
    graph = as_editor(txt2img())
    graph["groups"] = [{"title": f"<b>{k}", "bounding": [-1e308, -1e308, 1e308, 1e308]} for k in range(10_000)]
    graph["groups"] += [{"title": "x" * 10_000, "bounding": [float("nan"), 10**400, None, {}]}, {"bounding": []}, None]
    for part in graph["nodes"]:
        part |= {"pos": [0, 10**400], "size": "x"}
    assert imported(graph).comments == {}


def test_subgraph_that_contains_itself(imported):
    graph = with_subgraph("endless")
    inner = graph["definitions"]["subgraphs"][0]
    inner["nodes"].append({"id": 99, "type": "uuid-1", "mode": 0})
    assert "subgraph 'endless' contains itself" in refused(imported, graph)


def test_subgraphs_that_double(imported):
    graph = {"nodes": [{"id": 1, "type": "s0"}], "links": [], "version": 1, "definitions": {"subgraphs": []}}
    for k in range(30):
        nodes = [{"id": 1, "type": f"s{k + 1}"}, {"id": 2, "type": f"s{k + 1}"}]
        graph["definitions"]["subgraphs"].append({"id": f"s{k}", "name": f"s{k}", "nodes": nodes, "links": []})
    assert "more than 10,000 nodes" in refused(imported, graph)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("cfg", "NaN", "'cfg' is nan; expected a number"),
        ("cfg", "1e999", "'cfg' is inf; expected a number"),
        ("seed", "1" + "0" * 300, "'seed' is a huge number"),
        ("steps", '"many"', "'steps' is 'many'; expected a whole number"),
        ("steps", "2.5", "'steps' is 2.5; expected a whole number"),
        ("steps", "true", "'steps' is True; expected a whole number"),
        ("steps", '{"a": [1]}', "expected a whole number"),
        ("sampler_name", "7", "'sampler_name' is 7; expected text"),
    ],
)
def test_values_that_are_not_usable(imported, name, text, expected):
    written = json.dumps(changed(txt2img(), "3", **{name: "HERE"})).replace('"HERE"', text)
    assert expected in refused(imported, written.encode())


def test_number_of_ten_thousand_digits_is_no_graph(imported):
    written = json.dumps(changed(txt2img(), "3", seed="HERE")).replace('"HERE"', "1" * 10_000)
    assert imported(written.encode()) is None  # JSON that cannot be read is reported as a file that is not a workflow


@pytest.mark.parametrize(
    "name", ["../../secret.safetensors", "/etc/passwd", "C:\\x.ckpt", "~/x.ckpt", "a/../../b", "hf://a/b", "x\0y", " "]
)
def test_names_of_files_stay_in_the_folders(imported, name):
    text = refused(imported, changed(txt2img(), "4", ckpt_name=name))
    assert "leads out of ComfyUI's folders" in text or "is empty" in text
    assert "node 4 (CheckpointLoaderSimple)" in text


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/x"])
def test_outputs_stay_in_the_output_folder(imported, prefix):
    assert "leads out of the output folder" in refused(imported, changed(txt2img(), "9", filename_prefix=prefix))


def test_braces_and_html_are_only_text(imported, engine):
    graph = changed(
        changed(txt2img(), "9", filename_prefix="{seed}<b>:%date:yyyy%"), "6", text="<script>alert(1)</script> $seed {x}"
    )
    graph["3"]["_meta"] = {"title": "<img src=x onerror=alert(1)>"}
    workflow = imported(graph).workflow
    assert workflow.outputs["image"].save == "{{seed}}_b__{date}.png"
    assert "img_src_x_onerror_alert_1" in workflow.nodes
    engine.check(workflow)


def test_unknown_nodes_are_named_all_at_once(imported):
    graph = as_editor(txt2img())
    for id, title in ((50, "My node"), (51, "")):
        graph["nodes"].append({"id": id, "type": "Odd<br>Class", "title": title, "mode": 0})
    text = refused(imported, graph)
    assert "there is no counterpart of Odd<br>Class: node 50 'My node' (Odd<br>Class); node 51 (Odd<br>Class)" in text


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "{" * 100_000, '{"1": 2}'])
def test_picture_with_another_graph(imported, text):
    try:
        assert imported(picture(prompt=text)) is None
    except WorkflowError as error:
        assert "a picture with a damaged graph" in str(error)  # noqa: PT017


def test_deep_json_is_no_graph(imported):
    assert imported(('{"nodes": ' + "[" * 200_000 + "]" * 200_000 + "}").encode()) is None
    deep = as_editor(txt2img()) | {"extra": json.loads("[" * 500 + "]" * 500)}
    assert imported(deep) is not None


def pieces():
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["3", "4", "KSampler"])
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3))


@pytest.mark.slow
@settings(max_examples=150)
@given(data=st.data(), editor=st.booleans())
def test_any_change_of_a_graph_is_imported_or_refused(data, editor, tmp_path_factory):
    content = with_subgraph() if editor else txt2img()
    for _ in range(data.draw(st.integers(1, 3))):
        path, part = [], content
        while isinstance(part, dict | list) and part and (len(path) < 2 or data.draw(st.booleans())):
            key = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
            path.append((part, key))
            part = part[key]
        holder, key = path[-1]
        holder[key] = data.draw(pieces())
    written, folder = json.dumps(content).encode(), tmp_path_factory.getbasetemp()
    for partial in (False, True):
        try:
            import_comfyui(ImportRequest(data=written, file="g.json", name="g", folder=folder, base=folder, partial=partial))
        except WorkflowError as error:
            assert str(error).startswith("[E122]")  # noqa: PT017
