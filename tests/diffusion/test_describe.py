"""`describe` finds out everything about a path in one call."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nodegraph_diffusion
from nodegraph_diffusion.checkpoint import CheckpointError, describe
from nodegraph_diffusion.checkpoint.files import header
from tests.support import small_model
from tests.support.tensor_files import write

TINY = Path(nodegraph_diffusion.__file__).parent / "tiny"
ONE = torch.ones(2, 2)
CONTENTS = {
    "lora": {"lora_unet_mid_block.lora_up.weight": ONE, "lora_unet_mid_block.lora_down.weight": 2 * ONE},
    "lora of differences": {"diffusion_model.middle_block.0.diff": ONE},
    "controlnet": {"input_hint_block.0.weight": ONE},
    "embedding": {"emb_params": ONE},
    "embedding under its word": {"<style>": ONE},
    "unet": {"input_blocks.0.0.weight": ONE},
    "vae": {"decoder.up.0.block.0.conv1.weight": ONE},
    "text_encoder": {"text_model.encoder.layers.0.mlp.fc1.weight": ONE},
    "None": {"double_blocks.0.weight": ONE},
    "None, unknown": {"a": ONE, "b": 2 * ONE},
}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose headers are read."""
    paths: list[Path] = []
    read = header.read_header

    def recorded(path: Path, allow_pickles: bool | None = None) -> header.Header:
        found = read(path, allow_pickles)
        paths.append(path)
        return found

    monkeypatch.setattr(header, "read_header", recorded)
    return paths


@pytest.mark.parametrize("name", CONTENTS)
def test_description_lists_the_content_of_a_file(tmp_path, name):
    expected = name.split(",")[0].split(" ")[0]
    assert str(describe(write(tmp_path, CONTENTS[name])).content) == expected


def test_each_header_is_read_once(tmp_path, opened):
    found = describe(TINY)
    assert len(opened) == len(set(opened)) == 3
    found.model("sd2")
    found.text_encoders("sd2")
    assert found.model_or_part() == found.model()
    assert (found.model().unet.path, found.unet().config) == (TINY, found.model().unet.config)
    assert len(opened) == 3

    opened.clear()
    file = small_model.save_single_file(tmp_path / "model.safetensors")
    found = describe(file)
    assert (found.content, found.model("sd2").kind, found.text_encoders("sd2").kind) == ("model", "sd2", "sd2")
    assert (found.unet(), found.vae()) == (found.model().unet, found.model().vae)
    assert opened == [file]


def test_missing_content_error_names_what_is_there():
    found = describe(TINY)
    for method in (found.lora, found.controlnet):
        with pytest.raises(CheckpointError, match="found a whole model") as caught:
            method()
        assert caught.value.holds == "model"
    with pytest.raises(CheckpointError, match="found a folder"):
        found.embedding()
    with pytest.raises(CheckpointError, match="found nothing"):
        found.taesd()


def test_damaged_part_leaves_the_others_readable(tmp_path):
    small_model.save_small_model(tmp_path / "model")
    (tmp_path / "model/vae/config.json").write_text("{")
    found = describe(tmp_path / "model")
    assert found.text_encoders().kind == "sd1"
    for method in (found.vae, found.model):
        with pytest.raises(CheckpointError, match=r"vae/config\.json: expected a JSON config"):
            method()
