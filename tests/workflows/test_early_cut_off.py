"""Equal results stop recomputation, and models are identified by the content of their files: with the real node pack."""

from __future__ import annotations

import os
import time

import pytest
from PIL import Image

from nodegraph import Engine, Workflow
from tests.support.small_model import save_small_model
from tests.support.workspace import SIZE

pytestmark = pytest.mark.slow

BELOW_THE_PICTURE = {"latent", "noise", "sampled", "decoded", "result"}


def test_prompt_with_equal_tokens_reruns_only_its_encoding(workspace):
    workspace("txt2img", "prompt=a red house")
    assert workspace("txt2img", "prompt=a  red house ").named("ran") == {"model", "positive"}
    assert workspace("txt2img", "prompt=a  red house ").named("ran") == set()  # a content hit is direct the next time
    assert "sampled" in workspace("txt2img", "prompt=a blue house").named("ran")


@pytest.mark.slow
def test_equal_tokens_are_a_hit_in_another_process(workspace):
    workspace("txt2img", "prompt=a red house")
    ran = workspace.other_process(*workspace.words("txt2img", "prompt=a  red house "))
    assert ran.named("ran") == {"model", "positive"}


def test_picture_with_equal_pixels_reruns_only_its_loading(workspace):
    scene = workspace.examples / "scene.png"
    workspace("inpaint")
    before = scene.read_bytes()
    with Image.open(scene) as picture:
        picture.load()
        picture.save(scene, compress_level=1)
    assert scene.read_bytes() != before
    assert workspace("inpaint").named("ran") == {"picture"}
    Image.new("RGB", SIZE, "red").save(scene)
    assert workspace("inpaint").named("ran") >= BELOW_THE_PICTURE - {"noise"}


@pytest.fixture
def own_model(workspace, tmp_path):
    """A model that a test can change; its files are older than the granularity of timestamps."""
    folder = save_small_model(tmp_path / "own")
    workspace.model = folder
    age(folder)
    workspace("txt2img")
    return folder


def age(folder, hours=1):
    then = time.time() - 3600 * hours
    for file in folder.rglob("*"):
        os.utime(file, (then, then))


@pytest.mark.parametrize("changed", ["unet", "tokenizer"])
def test_changed_model_with_equal_times_is_a_miss(workspace, own_model, changed):
    if changed == "unet":
        other = save_small_model(workspace.folder / "other", salt="other")
        file = own_model / "unet" / "diffusion_pytorch_model.safetensors"
        size, content = file.stat().st_size, (other / "unet" / file.name).read_bytes()
        assert len(content) == size
    else:
        file = own_model / "tokenizer" / "tokenizer_config.json"
        content = file.read_bytes() + b"\n"
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "model" in workspace("txt2img").named("ran")


def test_touched_or_moved_model_is_a_hit(workspace, own_model):
    engine = Engine(cache_dir=workspace.folder / "cache")
    workflow = Workflow.load(workspace.folder / "workflows" / "txt2img.yaml")

    def ran(model, prompt):
        return set(engine.run(workflow, params={"model": str(model), "prompt": prompt, "sampled.steps": 2}).ran)

    workspace("txt2img", "prompt=a red house")
    assert ran(own_model, "a blue house") == {"model", "positive", "denoiser", "sampled", "picture"}
    age(own_model, hours=2)
    assert ran(own_model, "a blue house") == set()
    assert ran(own_model, "a red boat") >= {"positive", "sampled"}
    moved = own_model.rename(workspace.folder / "moved")
    assert ran(moved, "a red boat") == set()
    assert ran(moved, "a blue boat") >= {"positive", "sampled"}


def test_damaged_cached_tensors_are_recomputed(workspace):
    workspace("txt2img")
    blobs = sorted((workspace.folder / "cache" / "blobs").rglob("*.safetensors"))
    assert blobs
    for blob in blobs:
        blob.chmod(0o600)
        with blob.open("r+b") as file:
            file.write(b"\xff" * 8)  # a header longer than anything
    ran = workspace("txt2img", "seed=8")
    assert {"positive", "negative", "sampled"} <= ran.named("ran")
    assert ran.stderr.count("the cache file") == 1
    assert workspace("txt2img", "seed=8").named("ran") == set()
