"""Pickles are opened only if allowed, and then every reader reads them exactly as PyTorch does."""

from __future__ import annotations

import collections
import json
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nodegraph_diffusion.checkpoint import (
    CheckpointError,
    convert,
    describe,
    load_controlnet,
    load_text_encoder,
    load_unet,
    load_vae,
    verify,
)
from nodegraph_diffusion.checkpoint.files.header import read_header
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile
from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from nodegraph_diffusion.text.inversion import read_inversion
from tests.support import small_networks as small
from tests.support.pickles import FORMS
from tests.support.whole_checkpoint import whole


def same(file: Path, expected: dict[str, torch.Tensor]) -> None:
    """The file has these tensors, with these dtypes, shapes and values."""
    assert {name: info.shape for name, info in read_header(file).tensors.items()} == {
        k: tuple(v.shape) for k, v in expected.items()
    }
    mapped = MappedFile(file)
    for name, value in expected.items():
        assert mapped.tensor(name).dtype == value.dtype
        assert torch.equal(mapped.tensor(name), value)


# --- the values are those that PyTorch reads


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("allowed")
def test_views_of_one_storage_are_exact(tmp_path, form):
    whole = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    tensors = {
        "whole": whole,
        "turned": whole.permute(2, 0, 1),
        "part": whole[1:, ::2, 3],
        "one": whole[2, 3, 4],
        "none": whole[:0],
        "half": torch.randn(7, 3).half().T,
        "bf16": torch.randn(4).bfloat16(),
        "double": torch.randn(2, 2).double(),
        "parameter": torch.nn.Parameter(torch.ones(3)).detach(),
        "last": torch.randn(2, 8, 3, 3).contiguous(memory_format=torch.channels_last),
    }
    torch.save(tensors, tmp_path / "model.pt", **form)
    same(tmp_path / "model.pt", tensors)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("allowed")
def test_any_tensors_are_exact(tmp_path, data):
    shapes = st.lists(st.integers(0, 4), max_size=4)
    kinds = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])
    names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    tensors = {}
    for name, (shape, kind) in data.draw(st.dictionaries(names, st.tuples(shapes, kinds), min_size=1, max_size=5)).items():
        order = data.draw(st.permutations(range(len(shape))))
        tensors[name] = torch.randn(shape).to(kind).permute(order)
    for number, form in enumerate(FORMS):
        torch.save(tensors, tmp_path / f"{number}.pt", **form)
        same(tmp_path / f"{number}.pt", tensors)


@pytest.mark.usefixtures("allowed")
def test_integer_tensors_are_listed(tmp_path):
    kinds = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
    torch.save({name: torch.ones(2, dtype=kind) for name, kind in kinds.items()}, tmp_path / "model.pt")
    tensors = read_header(tmp_path / "model.pt").tensors
    assert {name: (info.dtype, info.shape) for name, info in tensors.items()} == {name: (name, (2,)) for name in kinds}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("allowed")
def test_tensors_are_memory_mapped(tmp_path, form):
    torch.save({"a": torch.randn(100, 10), "b": torch.randn(9)}, tmp_path / "model.pt", **form)
    mapped = MappedFile(tmp_path / "model.pt")
    tensors = mapped.header.tensors
    a, b = mapped.tensor("a"), mapped.tensor("b")
    assert b.data_ptr() - a.data_ptr() == tensors["b"].start - tensors["a"].start
    mapped.release("a")
    assert torch.equal(a, torch.load(tmp_path / "model.pt")["a"])


@pytest.mark.usefixtures("allowed")
def test_training_state_is_skipped(tmp_path, monkeypatch):
    """As Lightning writes it: hyperparameters and callbacks of its own classes, which torch's weights-only reader refuses."""
    callbacks = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    saver = type("ModelCheckpoint", (), {"__module__": callbacks.__name__})
    callbacks.ModelCheckpoint = saver
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, callbacks.__name__, callbacks)
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    saved = {
        "epoch": 3,
        "global_step": 875000,
        "loss": 0.125,
        "long": 1 << 70,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": network.state_dict(),  # an OrderedDict with attributes
        "callbacks": {saver: {"best": torch.ones(1), "state": saver()}},
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": [{"betas": (0.9, 0.999)}]}],
        "lr_schedulers": [],
        "sizes": torch.Size([1, 2]),
        "kinds": {torch.float16, None},
        "counts": collections.Counter("aab"),
        "word": b"bytes",
    }
    for number, form in enumerate(FORMS):
        torch.save(saved, tmp_path / f"{number}.ckpt", **form)
        expected = dict(network.state_dict())
        assert set(read_header(tmp_path / f"{number}.ckpt").tensors) == set(expected)
        del expected["1.num_batches_tracked"]  # an integer
        mapped = MappedFile(tmp_path / f"{number}.ckpt")
        assert all(torch.equal(mapped.tensor(name), value) for name, value in expected.items())
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "0.ckpt", weights_only=True)


# --- every reader accepts them


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrapped", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("allowed")
def test_pickled_checkpoint_gives_the_same_networks(tmp_path, form, wrapped):
    state = whole()
    torch.save({"state_dict": state, "global_step": 1} if wrapped else state, tmp_path / "model.ckpt", **form)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    pickled, plain = describe(tmp_path / "model.ckpt").model(), describe(tmp_path / "model.safetensors").model()
    assert (pickled.unet.config, pickled.vae.config, pickled.reason) == (plain.unet.config, plain.vae.config, plain.reason)
    assert [part.config for part in pickled.text.parts] == [part.config for part in plain.text.parts]
    verify(pickled)
    loads = {
        load_unet: lambda checkpoint: checkpoint.unet,
        load_vae: lambda checkpoint: checkpoint.vae,
        load_text_encoder: lambda checkpoint: checkpoint.text.parts[0],
    }
    for load, part in loads.items():
        for dtype in (torch.float32, torch.bfloat16):
            ours, theirs = (load(part(checkpoint), "cpu", dtype).state_dict() for checkpoint in (pickled, plain))
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
            assert all(ours[key].dtype == dtype for key in ours)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("allowed")
def test_values_of_one_tensor_are_read_without_torch(tmp_path, kind):
    values = torch.randn(320).to(kind)
    torch.save({"other": torch.ones(3), "bias": values}, tmp_path / "model.ckpt")
    assert read_header(tmp_path / "model.ckpt").read_floats("bias") == values.float().tolist()


PICKLED = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "pytorch_model"}


@pytest.mark.parametrize("half", ["", ".fp16"])
@pytest.mark.usefixtures("allowed")
def test_folder_of_pickles_is_read(tmp_path, folder, half):
    before = load_unet(describe(folder).model().unet, "cpu", torch.float32).state_dict()
    for part, stem in PICKLED.items():
        (file,) = (folder / part).glob("*.safetensors")
        torch.save(load_file(file), folder / part / f"{stem}{half}.bin")
        file.unlink()
    checkpoint = describe(folder).model()
    verify(checkpoint)
    parts = (checkpoint.unet, checkpoint.vae, *checkpoint.text.parts)
    assert {file.suffix for part in parts for file in part.weights.paths} == {".bin"}
    after = load_unet(checkpoint.unet, "cpu", torch.float32).state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("index", ["diffusion_pytorch_model.bin.index.json", "diffusion_pytorch_model.bin.index.fp16.json"])
@pytest.mark.usefixtures("allowed")
def test_sharded_folder_of_pickles_is_read(folder, index):
    unet = folder / "unet"
    (file,) = unet.glob("*.safetensors")
    tensors = load_file(file)
    file.unlink()
    shards = {f"diffusion_pytorch_model-0000{i}-of-00002.bin": dict(list(tensors.items())[i - 1 :: 2]) for i in (1, 2)}
    for name, shard in shards.items():
        torch.save(shard, unet / name)
    places = {key: name for name, shard in shards.items() for key in shard}
    (unet / index).write_text(json.dumps({"weight_map": places}))
    checkpoint = describe(folder).model()
    verify(checkpoint)
    assert len(checkpoint.unet.weights.paths) == 2
    (unet / "diffusion_pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"expected all 2 files of weights, found 1 missing \(diffusion_pytorch_model-00002"):
        describe(folder).model()


@pytest.mark.usefixtures("allowed")
def test_safetensors_are_preferred_to_pickles(folder):
    (file,) = (folder / "unet").glob("*.safetensors")
    torch.save({"other": torch.ones(1)}, file.with_suffix(".bin"))
    assert describe(folder).model().unet.weights.paths == (file,)


@pytest.mark.usefixtures("allowed")
def test_adapters_and_bin_files_are_read(tmp_path):
    lora = {"lora_unet_input_blocks_1_1_proj_in.diff": torch.ones(2, 4)}
    torch.save(lora, tmp_path / "lora.pt")
    assert describe(tmp_path / "lora.pt").lora().changes["unet"]
    from nodegraph_diffusion.networks.controlnet import ControlNet

    network = ControlNet(small.UNET)
    torch.save({f"control_model.{key}": value for key, value in network.state_dict().items()}, tmp_path / "control.pth")
    loaded = load_controlnet(describe(tmp_path / "control.pth").controlnet(), "cpu", torch.float32).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("half", ["", ".fp16"])
@pytest.mark.usefixtures("allowed")
def test_pickled_controlnet_folder_is_read(tmp_path, half):
    import diffusers

    theirs = diffusers.ControlNetModel.from_unet(small.reference_unet())
    theirs.save_pretrained(tmp_path / "control", safe_serialization=False)
    written = tmp_path / "control" / "diffusion_pytorch_model.bin"
    written.rename(written.with_suffix(f"{half}.bin"))
    assert describe(tmp_path / "control").controlnet().weights.name == f"diffusion_pytorch_model{half}.bin"
    assert load_controlnet(describe(tmp_path / "control").controlnet(), "cpu", torch.float32)


class OldParameterDict(torch.nn.Module):
    """A ParameterDict as it was pickled when the first textual inversions were: its parameters lie in `_parameters`."""


OldParameterDict.__module__, OldParameterDict.__qualname__ = "torch.nn.modules.container", "ParameterDict"
VECTORS = torch.randn(3, 128)


@pytest.mark.parametrize(
    "content",
    [
        {"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "name": "style", "step": 900, "sd_checkpoint": None},
        {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": torch.nn.ParameterDict({"*": VECTORS})},
        {"<style>": VECTORS},
        {"<style>": torch.nn.Parameter(VECTORS)},
        {"emb_params": VECTORS},
        {"clip_l": VECTORS, "clip_g": torch.randn(3, 64)},
    ],
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("allowed")
def test_textual_inversions_are_read(tmp_path, content, form):
    torch.save(content, tmp_path / "style.pt", **form)
    vectors = read_inversion(describe(tmp_path / "style.pt").embedding(), [128, 64] if "clip_g" in content else [128])
    assert torch.equal(vectors[0], VECTORS)


@pytest.mark.usefixtures("allowed")
def test_early_textual_inversion_is_read(tmp_path, monkeypatch):
    old = OldParameterDict()
    old._parameters["*"] = torch.nn.Parameter(VECTORS)
    monkeypatch.setattr("torch.nn.modules.container.ParameterDict", OldParameterDict)
    torch.save({"string_to_token": {"*": 265}, "string_to_param": old}, tmp_path / "style.pt", pickle_module=_Untyped)
    assert torch.equal(read_inversion(describe(tmp_path / "style.pt").embedding(), [128])[0], VECTORS)


class _Untyped:
    """pickle, for classes whose modules torch's own check would look for."""

    Pickler, dump = pickle._Pickler, pickle.dump


# --- the content decides the format, not the name


@pytest.mark.usefixtures("forbidden")
@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "model.bin", "model"])
@pytest.mark.parametrize("form", FORMS)
def test_pickle_with_any_name_needs_permission(tmp_path, name, form, monkeypatch):
    torch.save(whole(), tmp_path / name, **form)
    monkeypatch.setattr("nodegraph_diffusion.checkpoint.files.pickle_file.read_pickled", None)
    with pytest.raises(CheckpointError, match=r"found a PyTorch pickle .* can run code, .*--allow-pickles.*nodegraph convert"):
        describe(tmp_path / name).model()


@pytest.mark.usefixtures("forbidden")
def test_safetensors_with_any_name_need_no_permission(tmp_path):
    save_file({key: value.contiguous() for key, value in whole().items()}, tmp_path / "model.ckpt")
    verify(describe(tmp_path / "model.ckpt").model())


@pytest.mark.parametrize(
    ("value", "allowed"),
    [("1", True), ("yes", True), (" TRUE ", True), ("", False), ("0", False), ("no", False), ("False", False)],
)
def test_environment_can_allow_pickles(tmp_path, monkeypatch, value, allowed):
    monkeypatch.setenv(PICKLES_VARIABLE, value)
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")
    if allowed:
        assert set(read_header(tmp_path / "model.pt").tensors) == {"a"}
    else:
        with pytest.raises(CheckpointError, match="unless you allow it"):
            read_header(tmp_path / "model.pt")


def test_other_word_in_the_environment_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(PICKLES_VARIABLE, "perhaps")
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="NODEGRAPH_ALLOW_PICKLES: expected 1 or 0, found 'perhaps'"):
        read_header(tmp_path / "model.pt")


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": 1}, 4), "a pickle that PyTorch did not write"),
        (pickle.dumps({"a": 1}, 2), "a pickle that PyTorch did not write"),
        (b"\x80\x02", "a pickle that PyTorch did not write"),
    ],
)
def test_pickle_of_something_else_is_refused(tmp_path, content, message):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_header(tmp_path / "model.pt")


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("value", [[torch.ones(2)], torch.ones(2), {"a": 1}, {}, {"state_dict": {"a": [torch.ones(1)]}}, 7, None])
def test_pickle_without_named_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="found no named tensors"):
        read_header(tmp_path / "model.pt")


# --- conversion


@pytest.mark.usefixtures("forbidden")
@pytest.mark.parametrize("form", FORMS)
def test_converted_file_holds_the_same(tmp_path, form):
    kinds = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    tensors = {
        "a": torch.randn(5, 6),
        "turned": torch.randn(5, 6).bfloat16().T,
        "none": torch.ones(0, 3),
        "one": torch.tensor(2.5).half(),
        "ключ ñ 😀 \t": torch.randn(2, 8, 3, 3).contiguous(memory_format=torch.channels_last),
        **{str(kind): torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=kind).T for kind in kinds},
    }
    tensors["shared"] = tensors["a"][1:3, ::2]
    torch.save({"state_dict": tensors, "step": 3}, tmp_path / "model.ckpt", **form)
    assert convert(tmp_path / "model.ckpt", tmp_path / "model.safetensors").tensors == len(tensors)
    converted = load_file(tmp_path / "model.safetensors")
    assert converted.keys() == tensors.keys()
    for name, value in tensors.items():
        assert converted[name].dtype == value.dtype
        assert torch.equal(converted[name], value)
    assert int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little") % 8 == 0
