"""Model files that are switched, replaced or written to while a workflow runs: nothing is stored under the key of another model."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nodegraph import Engine, Workflow
from nodegraph.errors import WorkflowError
from nodegraph.plugins.registered import RegisteredThings
from nodegraph_nodes.models import find
from tests.support import small_model
from tests.support import synthetic_checkpoints as synthetic

pytestmark = pytest.mark.slow

WORKFLOW = """\
nodegraph: 1
nodes:
  model: {use: LoadModel, model: MODEL}
  LORA
  latent: {use: EmptyLatent, vae: $model.vae, width: 32, height: 32}
  positive: {use: TextEncode, text_encoder: $model.text_encoder, text: a red house}
  denoiser: {use: UNetDenoise, unet: UNET, positive: $positive, negative: $positive, cfg: 1}
  noise: {use: Noise, like: $latent, seed: 1}
  sampled: {use: Sampler, denoiser: $denoiser, latent: $latent, noise: $noise, steps: 2, sampler: euler}
outputs:
  latent: {from: $sampled}
"""
LORA = "adapted: {use: LoadLora, unet: $model.unet, text_encoder: $model.text_encoder, file: lora}"


def workflow(folder: Path, model: str, *, lora: bool = False) -> Workflow:
    text = WORKFLOW.replace("MODEL", model).replace("LORA", LORA if lora else "")
    path = folder / "workflow.yaml"
    path.write_text(text.replace("UNET", "$adapted.unet" if lora else "$model.unet"))
    return Workflow.load(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("v1", "v2"):
        small_model.save_small_model(folder / name, salt=name)
        small_model.save_single_file(folder / f"{name}.safetensors", salt=name, dtype=torch.float32)
    return folder


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models, tmp_path / "models")
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))
    return tmp_path / "models"


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[..., Engine]:
    return lambda: Engine(tmp_path / "cache", device="cpu", dtype="float32", on_event=lambda event: None)


def picture(result: object) -> torch.Tensor:
    samples: torch.Tensor = result["latent"].samples  # type: ignore[index]
    return samples


def clean(folder: Path, **options: bool) -> torch.Tensor:
    """What the workflow computes now, without a cache."""
    with Engine(None, device="cpu", dtype="float32") as engine:
        return picture(
            engine.run(workflow(folder, "current" if (folder / "current").exists() else "current.safetensors", **options))
        )


def after_describing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Call `change` once a model has been described, before its files are hashed."""
    describe, changes = find.describe, [change]

    def described(path: Path) -> object:
        description = describe(path)
        if changes:
            changes.pop()()
        return description

    monkeypatch.setattr(find, "describe", described)


def switch(link: Path, target: str) -> None:
    other = link.with_name("other")
    other.symlink_to(target)
    other.replace(link)


def test_link_to_a_folder_that_is_switched_changes_nothing_for_a_run_that_has_begun(folder, make_engine, monkeypatch):
    (folder / "current").symlink_to("v1")
    first = clean(folder)
    after_describing(monkeypatch, lambda: switch(folder / "current", "v2"))
    assert torch.equal(picture(make_engine().run(workflow(folder, "current"))), first)
    second = clean(folder)
    assert not torch.equal(first, second)
    result = make_engine().run(workflow(folder, "current"))
    assert torch.equal(picture(result), second)


def test_link_to_a_file_that_is_switched_while_it_is_read_is_an_error(folder, make_engine, monkeypatch):
    (folder / "current.safetensors").symlink_to("v1.safetensors")
    after_describing(monkeypatch, lambda: switch(folder / "current.safetensors", "v2.safetensors"))
    with pytest.raises(WorkflowError, match="was switched to another file while it was read"):
        make_engine().run(workflow(folder, "current.safetensors"))
    result = make_engine().run(workflow(folder, "current.safetensors"))
    assert torch.equal(picture(result), clean(folder))


def replaced(path: Path, other: Path) -> None:
    """Another file at the same path, with the same size and times."""
    temporary = path.with_name("temporary")
    shutil.copy2(other, temporary)
    temporary.replace(path)


def overwritten(path: Path, other: Path) -> None:
    """Other bytes in the same file, with the same size and times."""
    times = path.stat()
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [replaced, overwritten])
def test_file_that_changes_while_it_is_read_is_read_again(folder, make_engine, monkeypatch, change):
    shutil.copy2(folder / "v1.safetensors", folder / "current.safetensors")
    after_describing(monkeypatch, lambda: change(folder / "current.safetensors", folder / "v2.safetensors"))
    result = make_engine().run(workflow(folder, "current.safetensors"))
    assert torch.equal(picture(result), clean(folder))
    assert make_engine().run(workflow(folder, "current.safetensors")).cached == ("sampled",)


@pytest.mark.parametrize("change", [replaced, overwritten])
def test_file_that_changes_between_reading_and_hashing_is_not_kept(folder, make_engine, change):
    shutil.copy2(folder / "v1.safetensors", folder / "current.safetensors")
    engine = make_engine()
    sha256, changes = engine._files.sha256, [lambda: change(folder / "current.safetensors", folder / "v2.safetensors")]

    def changing(path: Path) -> str:
        if changes:
            changes.pop()()
        return sha256(path)

    engine._files.sha256 = changing
    result = engine.run(workflow(folder, "current.safetensors"))
    assert any("a file was changed while the workflow was read" in notice.message for notice in result.notices)
    again = make_engine().run(workflow(folder, "current.safetensors"))
    assert again.nodes["sampled"].status == "ran"
    assert torch.equal(picture(again), clean(folder))


def test_file_that_is_always_being_written_is_an_error(folder, make_engine, monkeypatch):
    describe, times = find.describe, itertools.count(1)

    def changing(path: Path) -> object:
        os.utime(path, (1, next(times)))
        return describe(path)

    shutil.copy2(folder / "v1.safetensors", folder / "current.safetensors")
    monkeypatch.setattr(find, "describe", changing)
    with pytest.raises(WorkflowError, match="is being written by another program"):
        make_engine().run(workflow(folder, "current.safetensors"))


def test_config_of_an_adapter_that_changes_after_it_was_read_is_read_again(folder, make_engine, monkeypatch):
    """The weights are the same; the config says how strongly they apply."""
    shutil.copytree(folder / "v1", folder / "current")
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    parts = {f"base_model.model.{name}.lora_{side}.weight": synthetic.draw(side, shape) for side, shape in SHAPES.items()}
    (folder / "lora").mkdir()
    save_file(parts, folder / "lora" / "adapter_model.safetensors")
    config = folder / "lora" / "adapter_config.json"

    def write(alpha: int) -> None:
        config.write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": alpha}))

    write(2)
    after = [False]

    def describe_then_change(path: Path) -> object:
        description = describe(path)
        if path.name == "lora" and not after[0]:
            after[0] = True
            write(64)
        return description

    describe = find.describe
    monkeypatch.setattr(find, "describe", describe_then_change)
    result = make_engine().run(workflow(folder, "current", lora=True))
    assert after == [True]
    assert torch.equal(picture(result), clean(folder, lora=True))
    assert make_engine().run(workflow(folder, "current", lora=True)).cached == ("sampled",)
    write(2)
    assert not torch.equal(picture(make_engine().run(workflow(folder, "current", lora=True))), picture(result))


SHAPES = {"A": [2, 32], "B": [16, 2]}


@pytest.mark.parametrize("when", ["before it is opened", "while it is used"])
@pytest.mark.parametrize("change", [replaced, overwritten])
def test_file_that_changes_during_the_run_is_used_but_not_kept(folder, make_engine, monkeypatch, change, when):
    """A model is opened by one node and read by others, some of which read its pages only while they compute."""
    shutil.copy2(folder / "v1.safetensors", folder / "current.safetensors")
    engine = make_engine()
    spec = engine.plugins.nodes.get("LoadModel" if when == "before it is opened" else "Sampler").value
    function, changes = spec.function, [lambda: change(folder / "current.safetensors", folder / "v2.safetensors")]

    def changing(**inputs):
        if changes:
            changes.pop()()
        return function(**inputs)

    object.__setattr__(spec, "function", changing)
    monkeypatch.setattr(engine.plugins, "is_unchanged", lambda thing: True)
    monkeypatch.setattr(RegisteredThings, "has_same_code", lambda *_: True)
    try:
        result = engine.run(workflow(folder, "current.safetensors"), raise_errors=False)
    finally:
        object.__setattr__(spec, "function", function)
    stored = {record.node for record in engine.cache.entries()}
    assert "sampled" not in stored
    if result.error is None:
        assert any("a file that it reads was changed" in notice.message for notice in result.notices)
    replaced(folder / "current.safetensors", folder / "v1.safetensors")  # the key of the run above means this file
    again = make_engine().run(workflow(folder, "current.safetensors"))
    assert torch.equal(picture(again), clean(folder))
