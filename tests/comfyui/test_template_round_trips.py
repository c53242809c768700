"""Each of the 24 templates, exported in both forms and imported again, has the same keys."""

from __future__ import annotations

import json

import pytest

from nodegraph.plugin_api import ExportRequest, ImportRequest, Link
from nodegraph.run.lock.facts import plain_nodes
from nodegraph.settings import MODELS_VARIABLE
from nodegraph_comfyui.exporting.exporter import export_comfyui
from nodegraph_comfyui.importer import import_comfyui
from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from tests.support.comfy_models import write_models
from tests.support.comfy_templates import TEMPLATES, model_files, quick, template, write_pictures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
    """The folder of a ComfyUI: each test adds the files of its template."""
    return tmp_path_factory.mktemp("comfyui")


def keys_of(engine, workflow):
    plan = engine.plan(workflow)
    return sorted(plan.keys[found.link.node] for found in plan.graph.outputs.values())


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_has_the_same_keys(engine, comfyui, monkeypatch, name):
    monkeypatch.setenv(MODELS_VARIABLE, str(comfyui / "models"))
    monkeypatch.setenv(PICKLES_VARIABLE, "1")  # of the embedding
    graph = template(name)
    write_models(comfyui / "models", model_files(graph))
    write_pictures(graph, comfyui / "input")

    def workflow_of(text):
        request = ImportRequest(data=text.encode(), file="graph.json", name="graph", folder=comfyui, base=comfyui)
        found = import_comfyui(request)
        assert (found.notes, found.left_out) == ((), ())
        return found.workflow

    first = workflow_of(json.dumps(quick(graph, 4)))
    checked = engine.check(first)
    outputs = {port: (Link(found.link.node, found.link.port), found.save) for port, found in checked.outputs.items()}
    for form in ("api", "editor"):
        found = export_comfyui(ExportRequest(name="x", nodes=plain_nodes(checked), outputs=outputs, form=form))
        assert found.notes == ()
        assert keys_of(engine, workflow_of(found.text)) == keys_of(engine, first)
