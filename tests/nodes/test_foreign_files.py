"""Pictures with settings of other programs are recognised."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nodegraph_nodes.pictures.foreign_files import describe_foreign_file


def picture(**chunks):
    info, file = PngInfo(), io.BytesIO()
    for keyword, text in chunks.items():
        info.add_text(keyword, text)
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "beginning", "example"),
    [
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
    [b"", b"nodegraph: 1", b"[1]", b"{}", picture(), picture()[:20]],
)
def test_other_files_are_not(data):
    assert describe_foreign_file(data) is None
