"""Single files are detected from their header, loaded exactly, and refused with a reason if they are something else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import (
    CheckpointError,
    describe,
    load_text_encoder,
    load_unet,
    load_vae,
    verify,
)
from nodegraph_diffusion.checkpoint.files.header import read_header
from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from nodegraph_diffusion.networks.config import CLIPTextConfig, VAEConfig
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic
from tests.support.pickles import FORMS
from tests.support.unet_configs import PUBLISHED
from tests.support.whole_checkpoint import State, whole


def save(folder: Path, state: State, name: str = "model.safetensors") -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, folder / name)
    return folder / name


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("ldm"), whole())


def test_sizes_are_read_from_shapes(file):
    checkpoint = describe(str(file)).model()
    assert (checkpoint.layout, checkpoint.kind, checkpoint.sample_size) == ("ldm", "sd1", 512)
    assert (checkpoint.unet.config, checkpoint.vae.config, checkpoint.text.parts[0].config) == (small.UNET, small.VAE, small.TEXT)
    assert checkpoint.files == (file,)
    assert [part.tokenizer for part in checkpoint.text.parts] == [None]
    verify(checkpoint)


def sparse(folder: Path, layout: str) -> Path:
    """A file of a published layout whose tensors take no disk space."""
    return synthetic.sparse(synthetic.read_layout(layout), folder / "sparse.safetensors")


CLIP_L = CLIPTextConfig()
OPENCLIP_H = CLIPTextConfig(width=1024, layers=24, heads=16, mlp_width=4096, activation="gelu", layer=2)
OPENCLIP_G = CLIPTextConfig(
    width=1280, layers=32, heads=20, mlp_width=5120, activation="gelu", projection=1280, layer=2, final_norm=False
)
LAYOUTS = {
    "sd15-ldm": ("sd1", 512, (CLIP_L,)),
    "sd15-inpainting-ldm": ("sd1", 512, (CLIP_L,)),
    "sd15-instruct-pix2pix-ldm": ("sd1", 512, (CLIP_L,)),
    "sd21-ldm": ("sd2", 512, (OPENCLIP_H,)),
    "sdxl-base-ldm": ("sdxl", 1024, (dataclasses.replace(CLIP_L, layer=2, final_norm=False), OPENCLIP_G)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_detected_and_every_key_is_used(tmp_path, layout):
    checkpoint = describe(sparse(tmp_path, layout)).model()
    assert (checkpoint.kind, checkpoint.sample_size, tuple(part.config for part in checkpoint.text.parts)) == LAYOUTS[layout]
    assert re.match(r"Stable Diffusion \S+, because its text encoders? (is|are) below '.*'; it predicts noise", checkpoint.reason)
    assert checkpoint.unet.config == PUBLISHED[layout]
    assert checkpoint.vae.config == VAEConfig(scaling_factor=0.13025 if checkpoint.kind == "sdxl" else 0.18215)
    verify(checkpoint)


def test_prediction_is_detected_by_marks_or_a_bias(tmp_path):
    assert describe(sparse(tmp_path, "sd21-ldm")).model().noise_schedule == NoiseSchedule()
    file = sparse(tmp_path, "sd21-ldm")
    with file.open("rb") as stream:
        info = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    start, end = info["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"]["data_offsets"]
    with file.open("r+b") as stream:
        stream.seek(8 + int.from_bytes(stream.read(8), "little") + start)
        stream.write((torch.arange((end - start) // 2) % 2).half().numpy().tobytes())  # a spread of 0.5
    checkpoint = describe(file).model()
    assert (checkpoint.noise_schedule, checkpoint.sample_size) == (NoiseSchedule(prediction="v"), 768)
    assert "spread of one of its biases (0.50)" in checkpoint.reason


def test_networks_are_loaded_exactly(file):
    checkpoint = describe(file).model()
    pairs = (
        (load_unet(checkpoint.unet, "cpu", torch.float32), small.our_unet()),
        (load_vae(checkpoint.vae, "cpu", torch.float32), small.our_vae()),
        (load_text_encoder(checkpoint.text.parts[0], "cpu", torch.float32), small.our_text_encoder()),
    )
    for loaded, expected in pairs:
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        weights = expected.state_dict()
        assert loaded.state_dict().keys() == weights.keys()
        assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_are_loaded_in_another_dtype(file, dtype):
    vae = load_vae(describe(file).model().vae, "cpu", dtype)
    expected = small.our_vae().to(dtype).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in vae.state_dict().items())


def test_text_encoder_prefix_is_optional(tmp_path):
    state = {key.replace(".text_model.", "."): value for key, value in whole().items()}
    model = load_text_encoder(describe(save(tmp_path, state)).model().text.parts[0], "cpu", torch.float32)
    expected = small.our_text_encoder().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_detection_imports_no_torch(file):
    code = (
        "import sys; from nodegraph_diffusion.checkpoint import describe;"
        f"print(describe({str(file)!r}).model().kind, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["sd1", "False"]


def _only(prefix: str) -> Callable[[State], State]:
    return lambda state: {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _with(**tensors: Tensor) -> Callable[[State], State]:
    return lambda state: state | {key.replace("__", "."): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda _: {"lora_unet_mid_block.lora_up.weight": torch.ones(2, 2)}, "a LoRA"),
        (lambda _: {"control_model.input_hint_block.0.weight": torch.ones(2, 2)}, "a ControlNet"),
        (lambda _: {"emb_params": torch.ones(2, 2)}, "a textual inversion embedding"),
        (lambda _: {"down_blocks.0.resnets.0.conv1.weight": torch.ones(2, 2)}, "only a UNet, with diffusers' names"),
        (lambda _: {"weight": torch.ones(2, 2)}, "none ('weight', ...)"),
        (lambda _: {}, "none (no tensor, ...)"),
        (_only("first_stage_model."), "only an autoencoder (VAE)"),
        (_only("cond_stage_model.transformer."), "only a text encoder"),
        (lambda _: {"model.diffusion_model.joint_blocks.0.x.weight": torch.ones(2)}, "a Stable Diffusion 3 model"),
        (_with(conditioner__embedders__1__model__ln_final__weight=torch.ones(2)), "1 tensors of another one, such as 'cond"),
        (_with(model__diffusion_model__input_blocks__0__0__weight=torch.ones(32, 10, 3, 3)), "one with 10 in and 4 out"),
        (_with(model__diffusion_model__input_blocks__0__0__weight=torch.ones(30, 4, 3, 3)), "not a multiple of 30"),
        (_with(model__diffusion_model__input_blocks__0__0__weight=torch.ones(32, 4)), "one of shape [32, 4]"),
    ],
)
def test_other_files_are_named(tmp_path, change, found):
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected .*") as caught:
        describe(save(tmp_path, change(whole()))).model()
    assert found in caught.value.found
    assert caught.value.hint.endswith(".")


@pytest.mark.parametrize(
    ("change", "part", "found"),
    [
        (_with(model__diffusion_model__out__0__bias=torch.ones(7)), "unet", "one of shape [7]"),
        (_with(model__diffusion_model__out__0__bias=torch.ones(32).int()), "unet", "I32"),
        (_with(model__diffusion_model__out__9__bias=torch.ones(7)), "unet", "1 unknown (model.diffusion_model.out.9.bias)"),
        (
            lambda state: {key: value for key, value in state.items() if "decoder.mid" not in key},
            "vae",
            "26 missing (decoder.mid.block_1.norm1.weight, ...)",
        ),
    ],
)
def test_every_tensor_is_checked(tmp_path, change, part, found):
    """The description finds it, for the whole model and for the part; the other parts can still be loaded by themselves."""
    description = describe(save(tmp_path, change(whole())))
    for read in (description.model, getattr(description, part)):
        with pytest.raises(CheckpointError) as caught:
            read()
        assert found == caught.value.found
    assert getattr(description, "vae" if part == "unet" else "unet")().config
    assert description.text_encoders().parts


@pytest.mark.parametrize(
    ("change", "part", "found"),
    [
        (_with(model__diffusion_model__out__0__bias=torch.ones(7)), "unet", "one of shape [7]"),
        (_with(first_stage_model__more=torch.ones(7)), "vae", "1 unknown (first_stage_model.more)"),
    ],
)
def test_a_file_that_changes_is_checked_again_when_it_is_loaded(tmp_path, change, part, found):
    checkpoint = describe(save(tmp_path, whole())).model()
    save(tmp_path, change(whole()))
    load = {"unet": load_unet, "vae": load_vae}[part]
    for check in (verify, lambda checkpoint: load(getattr(checkpoint, part), "cpu", torch.float32)):
        with pytest.raises(CheckpointError) as caught:
            check(checkpoint)
        assert found == caught.value.found


def test_missing_path_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: expected .* found nothing"):
        describe(tmp_path / "nowhere.safetensors").model()


def test_pickle_with_any_name_is_refused(tmp_path):
    zipped, plain = tmp_path / "zipped.safetensors", tmp_path / "plain.safetensors"
    torch.save({"weight": torch.ones(2)}, zipped)
    plain.write_bytes(pickle.dumps({"weight": 1}))
    for path in (zipped, plain):
        with pytest.raises(CheckpointError, match="PyTorch pickle"):
            describe(path).model()


@pytest.mark.parametrize("content", [b"", b"short", b"\x89PNG\r\n\x1a\n" + bytes(100), b"<!DOCTYPE html>" * 9, bytes(99)])
def test_other_content_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        describe(tmp_path / "model.safetensors").model()


@pytest.mark.parametrize(("end", "found"), [(-1, "the file is truncated"), (5000, "truncated one")])
def test_truncated_file_is_refused(file, tmp_path, end, found):
    (tmp_path / "model.safetensors").write_bytes(file.read_bytes()[:end])
    with pytest.raises(CheckpointError, match=found):
        describe(tmp_path / "model.safetensors").model()


def test_appended_bytes_are_refused(file, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(file.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="something was appended"):
        describe(tmp_path / "model.safetensors").model()


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 4 * 10**30]},
        {"dtype": "F3", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [0, 4]},
        "weight",
    ],
)
def test_false_header_is_refused(tmp_path, entry):
    text = json.dumps({"weight": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(CheckpointError):
        describe(tmp_path / "model.safetensors").model()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 60_000), byte=st.integers(0, 255))
def test_changed_byte_is_harmless_or_reported(file, tmp_path, at, byte):
    content = bytearray(file.read_bytes())
    content[at] = byte
    (tmp_path / "model.safetensors").write_bytes(content)
    with contextlib.suppress(CheckpointError):
        verify(describe(tmp_path / "model.safetensors").model())


@pytest.mark.slow
@pytest.mark.parametrize("form", [None, *FORMS])
def test_loading_needs_memory_for_network_and_one_tensor(tmp_path, form, monkeypatch):
    pytest.importorskip("resource")
    with torch.device("meta"):
        big = UNet(dataclasses.replace(small.UNET, model_channels=160)).state_dict()
    unet = {f"model.diffusion_model.{key}": torch.zeros(value.shape, dtype=torch.float16) for key, value in big.items()}
    rest = {key: value for key, value in whole().items() if not key.startswith("model.diffusion_model.")}
    file = tmp_path / "model.ckpt" if form is not None else save(tmp_path, rest | unet)
    if form is not None:
        torch.save({"state_dict": rest | unet}, file, **form)
        monkeypatch.setenv(PICKLES_VARIABLE, "1")
    code = """
import resource, sys, torch
from nodegraph_diffusion.checkpoint import describe, load_unet, load_vae
checkpoint = describe(sys.argv[1]).model()
load_vae(checkpoint.vae, "cpu", torch.float32)                              # whatever is imported or started once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unet = load_unet(checkpoint.unet, "cpu", torch.float32)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before      # KiB on Linux
tensors = [parameter.nbytes for parameter in unet.parameters()]
mapped = sum(tensors) // 2                                              # the file's own pages, which the system may drop
print((peak * 1024 - mapped) / (sum(tensors) + max(tensors)), sum(tensors))
"""
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    share, size = map(float, done.stdout.split())
    assert size > 200e6
    assert share < 1.1


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580])
def test_header_length_that_looks_like_a_pickle_is_read(tmp_path, length):
    text = json.dumps({"weight": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).encode().ljust(length)
    (tmp_path / "file.safetensors").write_bytes(length.to_bytes(8, "little") + text + b"\0\0")
    info = read_header(tmp_path / "file.safetensors").tensors["weight"]
    assert (info.dtype, info.shape) == ("F16", (1,))
