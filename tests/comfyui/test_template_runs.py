"""Each of the 24 templates runs with synthetic weights and few steps, to pictures of the right size.

Sides of most are a quarter of the template's, as all lengths in the graph are; NODEGRAPH_TEST_SHRINK=1 paints all in full size.
"""

from __future__ import annotations

import json
import os

import numpy
import pytest
from PIL import Image, ImageChops

from nodegraph import Engine
from nodegraph.plugin_api import ImportRequest
from nodegraph.settings import MODELS_VARIABLE
from nodegraph_comfyui.importer import import_comfyui
from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from tests.support.comfy_models import write_models
from tests.support.comfy_templates import TEMPLATES, as_api, model_files, quick, saved_sizes, template, write_pictures

SHRINK = int(os.environ.get("NODEGRAPH_TEST_SHRINK", "4"))
IN_FULL = ("default", "image2image")
COMPUTED_TWICE = ("default", "lora_multiple")


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
    """The folder of a ComfyUI: each test adds the files of its template."""
    return tmp_path_factory.mktemp("comfyui")


@pytest.fixture
def prepared(comfyui, monkeypatch):
    """Returns a function that writes the files of a template, and returns its graph with few steps."""
    monkeypatch.setenv(MODELS_VARIABLE, str(comfyui / "models"))

    def prepared(name):
        graph = template(name)
        files = model_files(graph)
        if any(file.endswith(".pt") for file in files):
            monkeypatch.setenv(PICKLES_VARIABLE, "1")
        write_models(comfyui / "models", files)
        write_pictures(graph, comfyui / "input")
        return quick(graph, shrink(name))

    return prepared


@pytest.fixture
def workflow_of(comfyui):
    """Returns a function that imports a graph that lies beside the folders of ComfyUI; nothing may be missing."""

    def workflow_of(graph, name="graph"):
        data = json.dumps(graph).encode()
        found = import_comfyui(ImportRequest(data=data, file=f"{name}.json", name=name, folder=comfyui, base=comfyui))
        assert (found.notes, found.left_out) == ((), ())
        return found.workflow

    return workflow_of


def shrink(name):
    return 1 if name in IN_FULL else SHRINK


def keys_of_outputs(engine, workflow):
    plan = engine.plan(workflow)
    return {name: plan.keys[output.link.node] for name, output in plan.graph.outputs.items()}


def saved(workflow, result):
    """The pictures that nodes of the class SaveImage wrote, smaller ones first."""
    paths = [path for name, paths in result.outputs.items() if workflow.outputs[name].save for path in paths]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    return sorted(pictures, key=lambda picture: picture.size)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
def test_template_paints_pictures_of_its_size(engine, prepared, workflow_of, tmp_path, name):
    graph = prepared(name)
    workflow, from_api = workflow_of(graph, name), workflow_of(as_api(graph))
    assert sorted(keys_of_outputs(engine, workflow).items()) == sorted(keys_of_outputs(engine, from_api).items())
    pictures = saved(workflow, engine.run(workflow, out=tmp_path))
    assert [picture.size for picture in pictures] == saved_sizes(name, shrink(name))
    for picture in pictures:
        assert numpy.asarray(picture).std() > 1  # not one colour
    if name in COMPUTED_TWICE:
        with Engine(cache_dir=None, device="cpu", dtype="float32") as other:  # one that has computed nothing yet
            again = saved(from_api, other.run(from_api, out=tmp_path / "again"))
        assert all(ImageChops.difference(a, b).getbbox() is None for a, b in zip(pictures, again, strict=True))
