"""Outputs as JPEG and WebP files: `save` names the format and its options, which are checked before anything runs."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.pictures.formats import picture_format
from nodegraph_nodes.types import Image, Latent, Mask
from tests.support.cli import Cli

METADATA = {"nodegraph": "prompt: ein Häuschen <&>, 夜の赤い家, 🏠\n", "nodegraph_run": '{"run": "1"}'}


def smooth(batch=1):
    """Pictures that compress well: (B, 24, 32, 3)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 32), indexing="ij")
    return Image(torch.stack([torch.stack([x, y, (x + y) / 2 * k / batch], dim=-1) for k in range(1, batch + 1)]))


@pytest.fixture
def source(tmp_path):
    smooth().to_pil().save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def copying(source, save):
    workflow = Workflow("copy")
    loaded = workflow.add("LoadImage", path=source)
    workflow.output("picture", loaded.image, save=save)
    return workflow


@pytest.mark.parametrize(("extension", "longest"), [(".jpg", 65_500), (".webp", 16_383)])
def test_pictures_that_are_too_large_for_a_format_are_refused(extension, longest):
    with pytest.raises(ValueError, match=f"expected sides of at most {longest} pixels, found {longest + 1}x1. Save it as a PNG"):
        picture_format(extension, {}).encode(pillow.new("RGB", (longest + 1, 1)))
    assert picture_format(extension, {}).encode(pillow.new("RGB", (longest, 1)))


def test_show_lists_the_options_of_the_format(source, tmp_path):
    (tmp_path / "copy.yaml").write_text(copying(source, {"file": "{workflow}.jpg", "quality": 80}).dump())
    assert Cli(tmp_path)("show", tmp_path / "copy.yaml").stdout.splitlines()[-1].endswith(" -> {workflow}.jpg (quality: 80)")


@pytest.fixture
def engine(tmp_path):
    with Engine(tmp_path / "cache") as engine:
        yield engine


@pytest.mark.parametrize(
    ("save", "name", "format", "allowed"),
    [
        ("{workflow}.jpg", "copy.jpg", "JPEG", 0.03),
        ("{workflow}.JPEG", "copy.jpeg", "JPEG", 0.03),
        ({"file": "{workflow}.jpg", "quality": 100}, "copy.jpg", "JPEG", 0.015),
        ({"file": "{workflow}.webp", "quality": 80}, "copy.webp", "WEBP", 0.06),
        ({"file": "{workflow}.webp", "lossless": True}, "copy.webp", "WEBP", 0.002),
        ({"file": "{workflow}.png"}, "copy.png", "PNG", 0.002),
        ({"file": "{workflow}"}, "copy.png", "PNG", 0.002),
    ],
)
def test_save_names_the_format(engine, source, tmp_path, save, name, format, allowed):
    result = engine.run(copying(source, save), out=tmp_path / "out")
    (path,) = result.outputs["picture"]
    assert path == tmp_path / "out" / name
    with pillow.open(path) as picture:
        assert picture.format == format
        found = np.asarray(picture.convert("RGB")) / 255
    assert np.abs(found - smooth().pixels[0].numpy()).mean() < allowed


def test_quality_matters(engine, source, tmp_path):
    sizes = [
        engine.run(copying(source, {"file": f"{quality}.jpg", "quality": quality}), out=tmp_path)
        .outputs["picture"][0]
        .stat()
        .st_size
        for quality in (20, 95)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_the_file_contains_the_workflow_and_is_left_as_it_is(engine, source, tmp_path, name):
    workflow = copying(source, {"file": name, "quality": 70})
    (path,) = engine.run(workflow, out=tmp_path).outputs["picture"]
    before = path.read_bytes()
    _, texts = CODECS[Image].in_format(path.suffix, {}).extract(before)
    (tmp_path / "again.yaml").write_text(texts["nodegraph"], encoding="utf-8")
    again = Workflow.load(tmp_path / "again.yaml")
    assert (again.outputs["picture"].save, dict(again.outputs["picture"].options)) == (name, {"quality": 70})
    assert engine.run(workflow, out=tmp_path).outputs["picture"] == [path]
    assert path.read_bytes() == before
    other = engine.run(copying(source, {"file": name, "quality": 71}), out=tmp_path).outputs["picture"]
    assert [written.name for written in other] == [f"a-2{path.suffix}"]


def test_a_param_sets_an_option(engine, source, tmp_path):
    workflow = copying(source, "exact.png")
    loaded = workflow.add("LoadImage", path=source)
    workflow.output("small", loaded.image, save={"file": "{quality}.jpg", "quality": workflow.param("quality", 90)})
    engine.check(workflow)
    sizes = [
        engine.run(workflow, params={"quality": quality}, out=tmp_path / "out").outputs["small"][0].stat().st_size
        for quality in (10, 100)
    ]
    assert sizes[0] < sizes[1]
    with pytest.raises(WorkflowError, match="quality: expected a whole number from 1 to 100, found 101"):
        engine.run(workflow, params={"quality": 101}, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("save", "message"),
    [
        ({"file": "a.jpg", "quality": 0}, "quality: expected a whole number from 1 to 100, found 0"),
        ({"file": "a.jpg", "quality": True}, "quality: expected a whole number from 1 to 100, found True"),
        ({"file": "a.webp", "lossless": 1}, "lossless: expected true or false, found 1"),
        ({"file": "a.jpg", "lossless": True}, r"a \.jpg file has quality, found lossless"),
        ({"file": "a.png", "quality": 90}, r"a \.png file has no options, found quality"),
        ({"file": "a", "quality": 90}, r"a \.png file has no options, found quality"),
        ("a.gif", r"this output is written as \.png, \.jpg, \.jpeg or \.webp, found \.gif"),
    ],
)
def test_a_wrong_format_or_option_is_found_before_anything_runs(engine, source, save, message):
    with pytest.raises(WorkflowError, match=message):
        engine.check(copying(source, save))


def test_a_latent_has_one_format(engine):
    workflow = Workflow("latent")
    model = workflow.add("LoadModel", model="builtin:tiny")
    workflow.output("latent", workflow.add("EmptyLatent", vae=model.vae), save={"file": "a.safetensors", "quality": 3})
    with pytest.raises(WorkflowError, match=r"a \.safetensors file has no options, found quality"):
        engine.check(workflow)


@pytest.mark.parametrize("save", [{"quality": 90}, 3, ["a.jpg"]])
def test_save_without_a_file_is_an_error(source, tmp_path, save):
    with pytest.raises(ValueError, match="'save' must be a file name, or a mapping with the name as 'file'"):
        copying(source, save)
    (tmp_path / "w.yaml").write_text(
        f"nodegraph: 1\nnodes:\n  a: {{use: LoadImage, path: scene.png}}\noutputs:\n  b: {{from: $a.image, save: {save}}}\n"
    )
    with pytest.raises(WorkflowError, match="'save' of output 'b' must be a file name, or a mapping with the name as 'file'"):
        Engine(None).check(tmp_path / "w.yaml")


def test_two_formats_of_one_name_are_two_files(engine, source, tmp_path):
    workflow = copying(source, "a.jpg")
    loaded = workflow.add("LoadImage", path=source)
    workflow.output("exact", loaded.image, save="a.png")
    result = engine.run(workflow, out=tmp_path / "out")
    assert sorted(path.name for (path,) in result.outputs.values()) == ["a.jpg", "a.png"]


@pytest.mark.parametrize("extension", [".jpg", ".webp"])
@pytest.mark.parametrize("value", [smooth(batch=2), Mask(torch.rand(1, 7, 5))])
def test_texts_come_out_of_a_file_again(extension, value):
    codec = CODECS[type(value)].in_format(extension, {})
    files = codec.export(value)
    assert len(files) == len(codec.tensors(value)[codec.tensor])
    long = {**METADATA, "long": "x" * 200_000}
    with_texts = codec.embed(files[0], long)
    assert codec.extract(with_texts) == (files[0], long)
    assert codec.extract(files[0]) == (files[0], {})
    with pillow.open(io.BytesIO(files[0])) as a, pillow.open(io.BytesIO(with_texts)) as b:
        assert a.convert("RGB").tobytes() == b.convert("RGB").tobytes()
    with pytest.raises(ValueError, match="expected a"):
        codec.extract(b"something else")


def test_other_values_have_no_options():
    with pytest.raises(ValueError, match=r"a \.latent file has no options, found quality"):
        CODECS[Latent].in_format(".latent", {"quality": 90})


def test_the_command_line_checks_and_shows_it(source, tmp_path):
    (tmp_path / "w.yaml").write_text(
        "nodegraph: 1\nnodes:\n  a: {use: LoadImage, path: scene.png}\n"
        'outputs:\n  b: {from: $a.image, save: {file: "{workflow}.jpg", quality: 200}}\n'
    )
    command = [sys.executable, "-m", "nodegraph", "check", str(tmp_path / "w.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "quality: expected a whole number from 1 to 100, found 200" in done.stdout + done.stderr
