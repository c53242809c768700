"""Both formats of ComfyUI graphs are read into the same model."""

from __future__ import annotations

import json

import pytest

from nodegraph_comfyui.classes.table import widgets_of
from nodegraph_comfyui.reading.api import read_api
from nodegraph_comfyui.reading.editor import read_editor
from nodegraph_comfyui.reading.file import find_graph
from nodegraph_comfyui.reading.flatten import flatten
from nodegraph_comfyui.reading.graph import Muted, Shared, Wire
from tests.support.comfy_graphs import as_editor, editor_node, nested, node, picture, txt2img, with_subgraph


def read(content):
    found = find_graph(json.dumps(content).encode(), "graph.json")
    if found.format == "api":
        return read_api(found.content, "graph.json")
    return flatten(read_editor(found.content, "graph.json"), widgets_of, "graph.json")


def inputs_of(graph):
    return {id: dict(node.inputs) for id, node in graph.nodes.items()}


@pytest.mark.parametrize("form", [{}, {"version": 1}, {"mapping": True}, {"version": 1, "mapping": True}])
def test_both_formats_say_the_same(form):
    api = read(txt2img())
    editor = read(as_editor(txt2img(), **form))
    assert inputs_of(editor) == inputs_of(api)
    assert api.nodes["3"].inputs["model"] == Wire("4", 0)
    assert api.nodes["3"].inputs["steps"] == 2


def test_api_graph_may_be_inside_a_prompt():
    assert inputs_of(read({"client_id": "x", "prompt": txt2img()})) == inputs_of(read(txt2img()))


@pytest.mark.parametrize("text", ["prompt", "workflow"])
def test_graph_in_a_picture_is_found(text):
    content = txt2img() if text == "prompt" else as_editor(txt2img())
    found = find_graph(picture(**{text: json.dumps(content)}), "x.png")
    assert found.format == ("api" if text == "prompt" else "editor")
    assert found.content == content


def test_what_ran_is_read_first():
    found = find_graph(picture(workflow=json.dumps(as_editor(txt2img())), prompt=json.dumps(txt2img())), "x.png")
    assert found.format == "api"


@pytest.mark.parametrize(
    "data", [b"", b"nodegraph: 1", b'{"nodegraph": 1, "nodes": {}}', b"{nodegraph: 1}", b"[1]", picture(parameters="x")]
)
def test_other_files_are_not_comfyui(data):
    assert find_graph(data, "x") is None


def test_early_files_have_a_bool_behind_the_seed():
    graph = as_editor(txt2img())
    editor_node(graph, 3)["widgets_values"][1] = True
    assert inputs_of(read(graph)) == inputs_of(read(txt2img()))


def test_files_without_a_control_value_are_read():
    graph = as_editor(txt2img())
    del editor_node(graph, 3)["widgets_values"][1]
    assert inputs_of(read(graph)) == inputs_of(read(txt2img()))


def rerouted(graph, link, kind, id=50, **fields):
    """Put a node into a link of an editor's graph."""
    old = next(each for each in graph["links"] if each[0] == link)
    source = old[1:3]
    type = editor_node(graph, source[0])["outputs"][source[1]]["type"]
    graph["links"].append([90, *source, id, 0, type])
    old[1:3] = [id, 0]
    slots = {"inputs": [{"name": "", "type": type, "link": 90}], "outputs": [{"name": "", "type": type}]}
    graph["nodes"].append({"id": id, "type": kind, "mode": 0, **slots, **fields})
    return graph


def link_to(graph, node, name):
    return next(slot["link"] for slot in editor_node(graph, node)["inputs"] if slot["name"] == name)


def test_reroutes_are_skipped():
    graph = as_editor(txt2img())
    assert inputs_of(read(rerouted(graph, link_to(graph, 3, "model"), "Reroute"))) == inputs_of(read(txt2img()))


def test_bypassed_node_passes_on_what_fits():
    graph = as_editor(txt2img())
    found = read(rerouted(graph, link_to(graph, 3, "model"), "LoraLoader", mode=4, widgets_values=["x", 1, 1]))
    assert inputs_of(found) == inputs_of(read(txt2img()))


def test_muted_node_is_known_to_its_users():
    graph = as_editor(txt2img())
    editor_node(graph, 7)["mode"] = 2
    found = read(graph)
    assert "7" not in found.nodes
    assert found.nodes["3"].inputs["negative"] == Muted("7")


def test_primitive_gives_its_value_to_a_converted_input():
    graph = as_editor(txt2img())
    graph["nodes"].append(
        {
            "id": 60,
            "type": "PrimitiveNode",
            "title": "Steps",
            "mode": 0,
            "outputs": [{"name": "INT"}],
            "widgets_values": [7, "fixed"],
        }
    )
    graph["links"].append([91, 60, 0, 3, 4, "INT"])
    editor_node(graph, 3)["inputs"].append({"name": "steps", "type": "INT", "link": 91, "widget": {"name": "steps"}})
    assert read(graph).nodes["3"].inputs["steps"] == Shared(7, "60", "Steps")


def test_value_of_a_converted_input_is_that_of_its_link():
    graph = as_editor(txt2img() | {"60": node("PrimitiveInt", value=7)})
    graph["links"].append([91, 60, 0, 3, 4, "INT"])
    editor_node(graph, 3)["inputs"].append({"name": "steps", "type": "INT", "link": 91, "widget": {"name": "steps"}})
    assert read(graph).nodes["3"].inputs["steps"] == Wire("60", 0)
    editor_node(graph, 3)["inputs"][-1]["link"] = None  # newer editors write such slots for all values
    assert read(graph).nodes["3"].inputs["steps"] == 2


def test_notes_are_read():
    graph = as_editor(txt2img())
    graph["nodes"].append({"id": 70, "type": "Note", "title": "Hint", "mode": 0, "widgets_values": ["Use few steps."]})
    graph["nodes"].append({"id": 71, "type": "MarkdownNote", "mode": 0, "widgets_values": ["# More"]})
    found = read(graph)
    assert found.notes == ("Hint\nUse few steps.", "# More")
    assert inputs_of(found) == inputs_of(read(txt2img()))


@pytest.mark.parametrize("mapping", [False, True])
def test_node_is_in_the_smallest_group_around_its_centre(mapping):
    graph = as_editor(txt2img())
    for part, (left, top) in zip(
        graph["nodes"], [(0, 0), (0, 200), (300, 0), (300, 200), (600, 0), (900, 0), (1200, 0)], strict=True
    ):
        part |= {"pos": {"0": left, "1": top} if mapping else [left, top], "size": {"0": 100, "1": 50} if mapping else [100, 50]}
    first, second, third, *_ = (str(part["id"]) for part in graph["nodes"])
    graph["groups"] = [
        {"title": "all \n of it", "bounding": [-10, -10, 450, 500]},
        {"title": "loading", "bounding": [-10, -10, 70, 100]},
        {"title": "Group", "bounding": [-10, -10, 9000, 9000]},
        {"title": "empty", "bounding": [5000, 0, 10, 10]},
        {"title": "broken", "bounding": ["x", None, 1, 2]},
        "nonsense",
    ]
    groups = {group.title: group.nodes for group in read(graph).groups}
    assert groups["loading"] == (first,)
    assert set(groups["all of it"]) == {second, third, str(graph["nodes"][3]["id"])}
    assert [*groups] == ["all of it", "loading"]


def test_reroutes_of_the_editor_are_only_drawn():
    """Schema 0.4 holds them in `extra`, schema 1 beside the links, whose `parentId` they are."""
    old, new = as_editor(txt2img()), as_editor(txt2img(), version=1)
    points = [{"id": 1, "pos": [3, 4], "linkIds": [2]}, {"id": 2, "parentId": 1, "pos": [5, 6], "linkIds": [2]}]
    old["extra"] = {"reroutes": points, "linkExtensions": [{"id": 2, "parentId": 2}]}
    new["reroutes"] = points
    new["links"][1]["parentId"] = 2
    new["floatingLinks"] = [{"id": 1, "origin_id": -1, "origin_slot": -1, "target_id": 3, "target_slot": 0, "type": "MODEL"}]
    for graph in (old, new):
        assert inputs_of(read(graph)) == inputs_of(read(txt2img()))


def test_subgraphs_are_written_out():
    found = read(with_subgraph())
    assert found.subgraphs == {("80",): "Sampling"}
    assert set(found.nodes) == {"4", "5", "6", "7", "9", "80:3", "80:8"}
    assert found.nodes["9"].inputs["images"] == Wire("80:8", 0)
    assert found.nodes["80:8"].inputs["samples"] == Wire("80:3", 0)
    assert found.nodes["80:3"].inputs["model"] == Wire("4", 0)
    assert found.nodes["80:3"].level == ("80",)


def test_subgraph_inside_a_subgraph():
    found = read(nested())
    assert found.subgraphs == {("90",): "Outer", ("90", "80"): "Sampling"}
    assert set(found.nodes) == {"4", "5", "6", "7", "9", "90:80:3", "90:80:8"}
    assert found.nodes["9"].inputs["images"] == Wire("90:80:8", 0)
    assert found.nodes["90:80:3"].inputs["model"] == Wire("4", 0)
    assert found.nodes["90:80:3"].level == ("90", "80")


def test_muted_subgraph_is_known_to_its_users():
    graph = with_subgraph()
    editor_node(graph, 80)["mode"] = 2
    found = read(graph)
    assert not any(":" in id for id in found.nodes)
    assert found.nodes["9"].inputs["images"] == Muted("80")


def test_user_of_a_subgraph_sets_values_inside():
    graph = with_subgraph()
    use = editor_node(graph, 80)
    use["properties"] = {"proxyWidgets": [["3", "steps"], ["3", "cfg"]]}
    use["widgets_values"] = [5, 1.5]
    inside = read(graph).nodes["80:3"].inputs
    assert (inside["steps"], inside["cfg"], inside["seed"]) == (5, 1.5, 8)


def test_bypassed_subgraph_is_skipped():
    graph = with_subgraph()
    editor_node(graph, 80)["mode"] = 4
    assert set(read(graph).nodes) == {"4", "5", "6", "7", "9"}
