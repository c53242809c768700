"""Files whose times change while their content stays: everything that was made from them in one engine goes on working."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph import Engine
from tests.support.adapted_models import KINDS, UNET, save_models, workflow
from tests.support.slow import slow_except


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models, tmp_path / "models")
    return tmp_path / "models"


def engine(cache: Path | None = None) -> Engine:
    return Engine(cache, device="cpu", dtype="float32", on_event=lambda event: None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", slow_except(["LoadLora", "ApplyControlNet"], KINDS))
def test_touched_files_are_the_same_model(folder, kind):
    with engine() as shared, engine() as fresh:
        shared.run(workflow(folder, kind, "a red house"))
        for path in folder.rglob("*"):
            os.utime(path, (2, 2))
        expected = fresh.run(workflow(folder, kind, "a blue house"))["latent"].samples
        for _ in range(2):
            result = shared.run(workflow(folder, kind, "a blue house"))
            assert torch.equal(result["latent"].samples, expected)
        assert result.ran == ()


def test_touched_files_do_not_load_a_network_again(folder, monkeypatch):
    from nodegraph_diffusion import checkpoint

    loaded = []

    def load_unet(*arguments):
        loaded.append(arguments)
        return original(*arguments)

    original = checkpoint.load_unet
    monkeypatch.setattr(checkpoint, "load_unet", load_unet)
    with engine() as shared:
        shared.run(workflow(folder, "plain", "a red house"))
        for path in folder.rglob("*.safetensors"):
            os.utime(path, (2, 2))
        shared.run(workflow(folder, "plain", "a blue house"))
    assert len(loaded) == 1


@pytest.mark.parametrize("kind", ["LoadLora", "ApplyInpaint"])
def test_other_content_is_another_model(folder, kind):
    weights = folder / ("inpaint" if kind == "ApplyInpaint" else "model/unet") / UNET
    with engine() as shared, engine() as fresh:
        first = shared.run(workflow(folder, kind, "a red house"))["latent"].samples
        tensors = {name: tensor * 1.01 for name, tensor in load_file(weights).items()}
        save_file(tensors, weights.with_name("new"))
        weights.with_name("new").replace(weights)
        second = shared.run(workflow(folder, kind, "a red house"))["latent"].samples
        assert torch.equal(second, fresh.run(workflow(folder, kind, "a red house"))["latent"].samples)
        assert not torch.equal(first, second)
