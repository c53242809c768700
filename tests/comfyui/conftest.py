"""One engine for the tests of this folder: loading plugins takes a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodegraph import Engine
from nodegraph.plugin_api import ImportRequest
from nodegraph_comfyui.importer import import_comfyui


@pytest.fixture(scope="session")
def engine():
    with Engine(cache_dir=None, device="cpu", dtype="float32") as engine:
        yield engine


@pytest.fixture
def imported(tmp_path: Path):
    """Returns a function that imports a graph that is in the folder of the test."""

    def imported(content, *, partial=False):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = ImportRequest(data=data, file="graph.json", name="graph", folder=tmp_path, base=tmp_path, partial=partial)
        return import_comfyui(request)

    return imported


@pytest.fixture
def keys(engine, imported):
    """Returns a function from a graph to the static key of what it saves as `image`."""

    def keys(content):
        workflow = imported(content).workflow
        plan = engine.plan(workflow)
        return plan.keys[plan.graph.outputs["image"].link.node]

    return keys
