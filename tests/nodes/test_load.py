"""LoadModel finds models, keys them by content, and loads their parts on demand."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph_diffusion.checkpoint import load_unet
from nodegraph_nodes.models.find import BUILTIN, builtin_models, find_model
from nodegraph_nodes.models.parts import load_unet_network, load_vae_network
from nodegraph_nodes.models.text_encoders import load_text_network, load_text_tokenizer
from nodegraph_nodes.nodes.models import load_model
from tests.support.small_model import SIDE, UNET


@pytest.fixture
def copied(model_folder, tmp_path):
    """A copy of the model that a test can damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "copied"))


def weights(folder, part="unet"):
    return next((folder / part).glob("*.safetensors"))


def found(path):
    return find_model(str(path), Path()).value


def test_folder_is_relative_to_the_base(model_folder):
    model = find_model(model_folder.name, model_folder.parent).value.model()
    assert model == find_model(str(model_folder), Path("/nowhere")).value.model()
    assert model.sample_size == SIDE


def test_key_names_of_files_hold_no_location(model_folder):
    files = find_model(str(model_folder), Path()).files
    assert files["unet/diffusion_pytorch_model.safetensors"] == weights(model_folder)
    assert {name.split("/")[0] for name in files} == {
        "model_index.json",
        "unet",
        "vae",
        "text_encoder",
        "scheduler",
        "tokenizer",
    }
    assert not any(Path(name).is_absolute() or "\\" in name for name in files)


def test_home_folder_is_expanded(model_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(model_folder.parent))
    monkeypatch.setenv("USERPROFILE", str(model_folder.parent))
    assert find_model(f"~/{model_folder.name}", Path("/nowhere")).value.model().sample_size == SIDE


def test_parts_are_loaded_on_demand(model, run):
    assert load_unet_network(model.unet, run).config == UNET
    assert load_vae_network(model.vae, run).config == model.vae.part.config
    assert load_text_network(model.text_encoder, run).config == model.text_encoder.parts[0].config
    assert load_text_tokenizer(model.text_encoder, run).max_length == 16
    assert len(run.residents) == 4


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_only_the_unet_uses_the_dtype_of_the_run(model, run, dtype, expected):
    run.dtype = dtype
    assert next(load_unet_network(model.unet, run).parameters()).dtype == expected
    assert next(load_vae_network(model.vae, run).parameters()).dtype == torch.float32
    assert next(load_text_network(model.text_encoder, run).parameters()).dtype == torch.float32


def test_changed_files_are_loaded_again(copied, run):
    first = load_unet_network(load_model(found(copied)).unet, run)
    changed = {name: tensor + 1 for name, tensor in load_file(weights(copied)).items()}
    save_file(changed, weights(copied))
    second = load_unet_network(load_model(found(copied)).unet, run)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_files_changed_during_a_run_are_an_error(copied, run):
    model = load_model(found(copied))
    parts = {
        "unet": functools.partial(load_unet_network, model.unet),
        "vae": functools.partial(load_vae_network, model.vae),
        "text_encoder": functools.partial(load_text_network, model.text_encoder),
    }
    for part, load in parts.items():
        load(run)  # the files of the other parts do not count
        stat = weights(copied, part).stat()
        os.utime(weights(copied, part), ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
        with pytest.raises(ValueError, match=r"copied were changed during the run\. Run again"):
            load(run)
    with pytest.raises(ValueError, match=r"copied were changed during the run\. Run again"):
        load_text_tokenizer(model.text_encoder, run)


def rewrite(file):
    """Write other weights with the same size and times, once a change is certain to show in the file's ctime."""
    stat, probe = file.stat(), file.with_name("probe")
    while probe.write_text("tick") and probe.stat().st_ctime_ns <= stat.st_ctime_ns:
        pass
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no timestamp that changes with every write")
def test_changed_weights_with_equal_times_are_an_error(copied, run):
    model = load_model(found(copied))
    rewrite(weights(copied))
    with pytest.raises(ValueError, match=r"copied were changed during the run\. Run again"):
        load_unet_network(model.unet, run)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no timestamp that changes with every write")
def test_weights_changed_while_read_are_not_kept(copied, run, monkeypatch):
    model = load_model(found(copied))

    def edited(*args):
        rewrite(weights(copied))
        return load_unet(*args)

    monkeypatch.setattr("nodegraph_diffusion.checkpoint.load_unet", edited)
    with pytest.raises(ValueError, match=r"copied were changed during the run\. Run again"):
        load_unet_network(model.unet, run)
    assert not run.residents


# --- refused models


def test_unknown_built_in_model_is_an_error():
    with pytest.raises(ValueError, match="there is no built-in model 'tyni'; there is builtin:tiny"):
        find_model(BUILTIN + "tyni", Path())
    assert "tiny" in builtin_models()


def test_missing_path_is_an_error(tmp_path):
    with pytest.raises(
        ValueError, match=r"nowhere\.safetensors: expected a \.safetensors file or a diffusers folder, found nothing"
    ):
        found(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04pickle", b"\x02\0\0\0\0\0\0\0{}"])
def test_file_that_is_not_a_checkpoint_is_an_error(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.safetensors: expected .*, found "):
        found(path)


def test_folder_that_is_not_a_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"expected a folder with model_index\.json, found none"):
        found(tmp_path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_truncated_weights_are_an_error(copied, part):
    with weights(copied, part).open("r+b") as file:
        file.truncate(weights(copied, part).stat().st_size - 100)
    with pytest.raises(ValueError, match=rf"{part}.*truncated"):
        found(copied)


def test_missing_tensor_is_reported_on_loading(copied, run):
    tensors = load_file(weights(copied))
    tensors.pop("conv_in.weight")
    save_file(tensors, weights(copied))
    with pytest.raises(ValueError, match=r"expected the \d+ tensors of its unet, found 1 missing"):
        load_unet_network(load_model(found(copied)).unet, run)


def test_tensor_of_another_shape_is_reported_on_loading(copied, run):
    tensors = load_file(weights(copied, "vae"))
    tensors["quant_conv.bias"] = torch.zeros(3)
    save_file(tensors, weights(copied, "vae"))
    with pytest.raises(ValueError, match=r"'quant_conv\.bias' of shape \[8\]"):
        load_vae_network(load_model(found(copied)).vae, run)


def test_damaged_vocabulary_is_an_error(copied, run):
    (copied / "tokenizer" / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match=r"vocab\.json"):
        load_text_tokenizer(load_model(found(copied)).text_encoder, run)


def test_loading_equals_the_library(model, model_folder, run):
    direct = load_unet(found(model_folder).unet(), "cpu", torch.float32)
    assert torch.equal(direct.state_dict()["out.2.weight"], load_unet_network(model.unet, run).state_dict()["out.2.weight"])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("stabilityai/sdxl-turbo", "hf://stabilityai/sdxl-turbo"),
        ("https://huggingface.co/stabilityai/sdxl-turbo", "hf://stabilityai/sdxl-turbo"),
        ("huggingface.co/a/b/blob/main/c/d.safetensors?x=1", "hf://a/b/c/d.safetensors"),
        ("models/x.safetensors", None),
        ("./a/b", None),
        ("here/b", None),
    ],
)
def test_names_on_the_hub_suggest_an_address(tmp_path, text, address):
    (tmp_path / "here").mkdir()
    with pytest.raises(ValueError, match="found nothing") as caught:
        find_model(text, tmp_path)
    assert (f"Did you mean '{address}'" in str(caught.value)) == (address is not None)
    assert ("Did you mean" in str(caught.value)) == (address is not None)
