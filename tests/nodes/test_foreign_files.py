"""Graphs of ComfyUI and pictures with settings are recognised."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nodegraph_nodes.foreign_files import describe_foreign_file

API = {"3": {"class_type": "CLIPTextEncode", "inputs": {}}, "4": {"class_type": "KSampler", "inputs": {"seed": 1}}}
EDITOR = {"last_node_id": 9, "nodes": [{"id": 3, "type": "VAEDecode"}], "links": [[1, 4, 0, 3, 0, "MODEL"]], "version": 0.4}


def encoded(content):
    return json.dumps(content).encode()


def picture(**chunks):
    info, file = PngInfo(), io.BytesIO()
    for keyword, text in chunks.items():
        info.add_text(keyword, text)
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "beginning", "example"),
    [
        (encoded(API), "a graph of ComfyUI in API format, ", "'nodegraph nodes KSampler'"),
        (encoded({"prompt": API, "client_id": "x"}), "a graph of ComfyUI in API format, ", "'nodegraph nodes KSampler'"),
        (encoded(EDITOR), "a graph of ComfyUI, as its editor saves it, ", "'nodegraph nodes VAEDecode'"),
        (picture(prompt=json.dumps(API), workflow="{}"), "a picture made by ComfyUI", "'nodegraph nodes KSampler'"),
        (picture(parameters="a cat\nSteps: 20"), "a picture made by AUTOMATIC1111's program", "--set"),
        (picture(nodegraph="nodegraph: 1"), "a picture made by nodegraph, and damaged", "copy"),
    ],
)
def test_files_are_recognised(data, beginning, example):
    description = describe_foreign_file(data)
    assert description.startswith(beginning)
    assert example in description


@pytest.mark.parametrize(
    "data",
    [b"", b"nodegraph: 1", b"[1]", b"{}", encoded({"nodes": {}}), encoded({"nodes": [3], "links": []}), picture(), picture()[:20]],
)
def test_other_files_are_not(data):
    assert describe_foreign_file(data) is None
