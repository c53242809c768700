"""TAESD equals diffusers' AutoencoderTiny in each layout; other files are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import CheckpointError, describe, load_taesd
from nodegraph_diffusion.checkpoint.detect.extra_networks.taesd import Half
from nodegraph_diffusion.networks.config import TAESDConfig
from nodegraph_diffusion.networks.taesd import TAESD
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic

PIXELS, LATENT = small.noise(2, 3, 32, 48).tanh(), small.noise(2, 4, 4, 6) * 2


@pytest.fixture(scope="module")
def reference() -> diffusers.AutoencoderTiny:
    model = diffusers.AutoencoderTiny()
    synthetic.fill(model)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory) -> Path:
    """A folder that diffusers wrote. Tests must not change it."""
    path = tmp_path_factory.mktemp("taesd")
    reference.save_pretrained(path)
    return path


def authors_layout(reference: diffusers.AutoencoderTiny, half: Half) -> dict[str, Tensor]:
    """The tensors as the author's sequence numbers them: in a decoder, its clamp is number 0."""
    state = getattr(reference, half).layers.state_dict()
    shift = half == "decoder"
    return {f"{int(key.split('.')[0]) + shift}.{key.split('.', 1)[1]}": value.contiguous() for key, value in state.items()}


@pytest.fixture
def files(reference, folder, tmp_path):
    """The path of a half, in each layout."""

    def write(layout: str, half: Half) -> Path:
        if layout == "diffusers folder":
            return folder
        if layout == "diffusers file":
            return folder / "diffusion_pytorch_model.safetensors"
        tensors = authors_layout(reference, half)
        if layout == "both halves":
            halves: tuple[Half, ...] = ("encoder", "decoder")
            tensors = {f"{part}.{key}": value for part in halves for key, value in authors_layout(reference, part).items()}
        save_file(tensors, tmp_path / f"taesd_{half}.safetensors")
        return tmp_path / f"taesd_{half}.safetensors"

    return write


@pytest.mark.parametrize("layout", ["author", "both halves", "diffusers folder", "diffusers file"])
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_each_half_equals_diffusers(reference, files, layout, half):
    file = describe(files(layout, half)).taesd(half)
    network = load_taesd(file, "cpu", torch.float32)
    with torch.no_grad():
        if half == "encoder":
            ours, theirs = network(PIXELS), reference.encode(PIXELS).latents
            assert ours.shape == (2, 4, 4, 6)
        else:
            ours, theirs = network(LATENT), reference.decode(LATENT).sample
            assert ours.shape == (2, 3, 32, 48)
    assert small.difference(ours, theirs) < small.TOLERANCE
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("channels", [4, 16])
def test_checked_shapes_are_those_of_the_network(half, channels):
    config = TAESDConfig(half, channels)
    assert config.shapes == {key: tuple(value.shape) for key, value in TAESD(config).state_dict().items()}


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_latents_can_have_more_channels(half, tmp_path):
    save_file(TAESD(TAESDConfig(half, 16)).state_dict(), tmp_path / "taef1.safetensors")
    assert describe(tmp_path / "taef1.safetensors").taesd(half).config.latent_channels == 16


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("taesd_decoder.safetensors", "sd"),
        ("taesdxl_decoder.safetensors", "sdxl"),
        ("TAESDXL/diffusion_pytorch_model.safetensors", "sdxl"),
        ("taesd/taesdxl_decoder.safetensors", "sdxl"),
        ("decoder.safetensors", None),
        ("taesd3_decoder.safetensors", None),
    ],
)
def test_latent_space_is_detected_by_name(reference, monkeypatch, tmp_path, name, space):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    save_file(authors_layout(reference, "decoder"), path)
    assert describe(path).taesd().space == space


def test_half_precision_variant_is_read(reference, folder, tmp_path):
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file({key: value.half() for key, value in tensors.items()}, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    network = load_taesd(describe(tmp_path).taesd(), "cpu", torch.float32)
    assert next(network.parameters()).dtype == torch.float32
    with torch.no_grad():
        assert small.difference(network(LATENT), reference.decode(LATENT).sample) < 0.02


def test_other_or_damaged_files_are_errors(reference, folder, tmp_path):
    path = tmp_path / "taesd_decoder.safetensors"
    whole = authors_layout(reference, "decoder")

    def wrong(tensors: dict[str, Tensor]) -> str:
        save_file(tensors, path)
        with pytest.raises(CheckpointError) as error:
            describe(path).taesd()
        return str(error.value)

    assert "expected a TAESD decoder, found a file of other tensors" in wrong(authors_layout(reference, "encoder"))
    assert "expected a TAESD decoder, found a file of other tensors ('a'" in wrong({"a": torch.zeros(1)})
    missing = dict(whole)
    del missing["13.conv.2.bias"]
    assert "found no '13.conv.2.bias'" in wrong(missing)
    assert "found '99.weight', which is unknown" in wrong({**whole, "99.weight": torch.zeros(1)})
    narrow = {key: value[:32].clone() if value.shape[0] == 64 else value for key, value in whole.items()}
    assert "of shape [32, 4, 3, 3] in F32, not [64, 4, 3, 3] and" in wrong(narrow)
    assert "in I8" in wrong({**whole, "19.bias": torch.zeros(3, dtype=torch.int8)})
    assert "of shape [0]" in wrong({**whole, "1.weight": torch.zeros(0)})
    save_file(whole, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="the file is truncated"):
        describe(path).taesd()
    torch.save(whole, tmp_path / "taesd_decoder.pth")
    with pytest.raises(CheckpointError, match="Pickles can run code"):
        describe(tmp_path / "taesd_decoder.pth").taesd()
    for nowhere in (tmp_path, tmp_path / "gone"):
        with pytest.raises(CheckpointError, match="found nothing"):
            describe(nowhere).taesd()


def test_detection_imports_no_torch(folder):
    code = (
        "import sys; from pathlib import Path; from nodegraph_diffusion.checkpoint import describe;"
        f"describe(Path({str(folder)!r})).taesd(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
