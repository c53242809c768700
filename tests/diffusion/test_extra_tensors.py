"""Files with more tensors than a model has, with names that a compiler changed, and in eight bits."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from nodegraph_diffusion.checkpoint import CheckpointError, describe, load_controlnet, load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.checkpoint.files.header import read_header
from nodegraph_nodes.models.find import find_model, find_vae
from nodegraph_nodes.nodes.models import load_model
from nodegraph_nodes.nodes.models import load_vae as load_vae_node
from tests.support import small_networks as small
from tests.support.control_nets import our_control
from tests.support.recording_run import RecordingRun
from tests.support.whole_checkpoint import whole

EXTRAS = {
    "denoiser.sigmas": torch.ones(1000),
    "embedding_manager.string_to_param_dict.*": torch.ones(2, 4),
    "scale_factor": torch.tensor(0.18215),
    "global_step": torch.tensor(470000),
    "control_model.zero_convs.0.0.weight": torch.ones(3),
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


def equal(network, reference):
    state = reference.state_dict()
    return all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_tensors_outside_the_parts_are_ignored_with_a_note(file, tmp_path, monkeypatch):
    save_file({key: value.contiguous() for key, value in {**whole(), **EXTRAS}.items()}, file)
    found = describe(file).model()
    [note] = found.notes
    assert note.startswith("5 tensors belong to no part of the model and are ignored (")
    assert equal(load_unet(found.unet, "cpu", torch.float32), small.our_unet())
    load_model(find_model(file.name, tmp_path).value, run=(run := RecordingRun()))
    assert run.notices == [f"model.safetensors: {note}"]


def test_one_extra_tensor_inside_a_part_is_refused(file):
    for name in ("model.diffusion_model.surprise", "first_stage_model.surprise", "cond_stage_model.transformer.surprise"):
        save_file({key: value.contiguous() for key, value in {**whole(), name: torch.ones(2)}.items()}, file)
        with pytest.raises(CheckpointError, match=rf"1 unknown \({name}"):
            describe(file).model()


def test_a_file_of_one_part_ignores_only_what_is_known_to_be_harmless(file, tmp_path):
    vae = dict(small.our_vae().state_dict())
    save_file({**vae, **{key: value for key, value in EXTRAS.items() if not key.startswith("control_model.")}}, file)
    [note] = describe(file).vae().notes
    load_vae_node(find_vae(file.name, tmp_path).value, run=(run := RecordingRun()))
    assert run.notices == [f"model.safetensors: {note}"]
    assert note.startswith("4 tensors belong to no part")
    save_file({**vae, "surprise": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match="1 unknown"):
        describe(file).vae()


def test_a_control_net_is_read_out_of_the_whole_file_that_its_training_wrote(file):
    control = {f"control_model.{key}": value for key, value in our_control().state_dict().items()}
    save_file({key: value.contiguous() for key, value in {**whole(), **control}.items()}, file)
    found = describe(file)
    assert equal(load_controlnet(found.controlnet(), "cpu", torch.float32), our_control())
    assert len(found.model().notes) == 1


@pytest.mark.parametrize("inside", [True, False], ids=["the UNet alone", "the whole model"])
def test_names_that_torch_compile_changed_are_read_as_before(file, inside):
    prefix = "model.diffusion_model."
    state = {
        key.replace(prefix, f"{prefix}_orig_mod.") if inside else f"_orig_mod.{key}": value.contiguous()
        for key, value in whole().items()
    }
    save_file(state, file)
    assert equal(load_unet(describe(file).model().unet, "cpu", torch.float32), small.our_unet())


def test_a_compiled_module_inside_a_network(file):
    unet = {key.replace("middle_block.0.", "middle_block.0._orig_mod."): v for key, v in small.our_unet().state_dict().items()}
    save_file(unet, file)
    assert equal(load_unet(describe(file).unet(), "cpu", torch.float32), small.our_unet())


def test_a_tensor_with_and_without_the_name_of_the_compiler_is_refused(file):
    save_file({"a._orig_mod.weight": torch.ones(1), "a.weight": torch.ones(1)}, file)
    with pytest.raises(CheckpointError, match=r"'a\.weight' twice"):
        read_header(file)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_are_widened(file, dtype):
    eight = {key: value.to(dtype).contiguous() if value.is_floating_point() else value for key, value in whole().items()}
    save_file(eight, file)
    found = describe(file).model()
    prefix = "model.diffusion_model."
    for key, value in load_unet(found.unet, "cpu", torch.float32).state_dict().items():
        assert torch.equal(value, eight[prefix + key].float())
    load_vae(found.vae, "cpu", torch.float32)
    load_text_encoder(found.text.parts[0], "cpu", torch.float32)


@pytest.mark.parametrize(("scale_name", "shape"), [("scale_weight", ()), ("scale_weight", (1,)), ("weight_scale", ())])
def test_scaled_weights_are_multiplied_by_their_scale(file, scale_name, shape):
    """As ComfyUI writes them: weights of layers in eight bits, each with its scale; the rest as it was."""
    prefix, state, expected = "model.diffusion_model.", {}, {}
    for key, value in small.our_unet().state_dict().items():
        expected[key] = value
        state[prefix + key] = value.contiguous()
        if value.dim() == 2:
            scale = value.abs().max() / 448
            state[prefix + key] = (value / scale).to(torch.float8_e4m3fn)
            state[prefix + key.replace("weight", scale_name)] = scale.reshape(shape)
            state[prefix + key.replace("weight", "scale_input")] = torch.ones(())
            expected[key] = (value / scale).to(torch.float8_e4m3fn).float() * scale
    others = {key: value.contiguous() for key, value in whole().items() if not key.startswith(prefix)}
    save_file({**others, **state, f"{prefix}scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, file)
    found = describe(file).model()
    assert found.notes == ()
    unet = load_unet(found.unet, "cpu", torch.float32)
    for key, value in unet.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("columns", [(), (1,)])
@pytest.mark.parametrize("where", ["comfy_quant", "header"])
def test_a_scale_for_each_row_and_named_formats(file, columns, where):
    """As ComfyUI documents them: the format of each layer is named, beside its weight or in the header."""
    prefix, state, expected, formats = "model.diffusion_model.", dict(whole()), {}, {}
    for key, value in small.our_unet().state_dict().items():
        expected[key] = value
        if value.dim() in (2, 4):
            layer, rows = prefix + key.removesuffix(".weight"), value.shape[0]
            scale = value.flatten(1).abs().amax(1) / 448 + 1e-9
            by_row = scale.reshape(rows, *[1] * (value.dim() - 1))
            eight = (value / by_row).to(torch.float8_e4m3fn)
            state |= {f"{layer}.weight": eight, f"{layer}.weight_scale": scale.reshape(rows, *columns)}
            expected[key], formats[layer] = eight.float() * by_row, {"format": "float8_e4m3fn"}
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": formats})} if where == "header" else None
    if where == "comfy_quant":
        state |= {f"{layer}.comfy_quant": as_bytes(json.dumps(name)) for layer, name in formats.items()}
    save_file({key: value.contiguous() for key, value in state.items()}, file, metadata=metadata)
    found = describe(file).model()
    assert found.notes == ()
    for key, value in load_unet(found.unet, "cpu", torch.float32).state_dict().items():
        assert torch.equal(value, expected[key]), key


def as_bytes(text):
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


@pytest.mark.parametrize("where", ["comfy_quant", "header"])
def test_other_formats_of_layers_are_refused_by_name(file, where):
    layer, name = "model.diffusion_model.time_embed.0", '{"format": "nvfp4"}'
    state = {key: value.contiguous() for key, value in whole().items()}
    state[f"{layer}.weight"] = torch.zeros(128, 16, dtype=torch.uint8)
    metadata = {"_quantization_metadata": f'{{"layers": {{"{layer}": {name}}}}}'} if where == "header" else None
    save_file(state | ({} if metadata else {f"{layer}.comfy_quant": as_bytes(name)}), file, metadata=metadata)
    for read in (describe(file).model, describe(file).unet, describe(file).vae):
        with pytest.raises(
            CheckpointError, match=rf"layers in the format nvfp4 \(1, such as '{layer}'\)\. nodegraph reads weights"
        ):
            read()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 4}', " " * 10_001])
def test_a_damaged_format_of_a_layer_is_an_error(file, text):
    save_file({key: value.contiguous() for key, value in whole().items()} | {"x.comfy_quant": as_bytes(text)}, file)
    with pytest.raises(CheckpointError, match="expected the formats of its layers as JSON, found a damaged text"):
        describe(file)


def test_scales_of_blocks_or_without_their_weight_are_refused(file):
    prefix = "model.diffusion_model."
    for name, scale in (("time_embed.0.scale_weight", torch.ones(2, 2)), ("time_embed.9.scale_weight", torch.ones(()))):
        state = {key: value.contiguous() for key, value in whole().items()}
        state[f"{prefix}time_embed.0.weight"] = state[f"{prefix}time_embed.0.weight"].to(torch.float8_e4m3fn)
        save_file({**state, prefix + name: scale}, file)
        with pytest.raises(CheckpointError, match=rf"'{prefix}{name}' to be one number, or one for each row of"):
            describe(file).model()


def test_every_number_of_eight_bits_is_read_without_torch(file):
    for dtype, name in ((torch.float8_e4m3fn, "F8_E4M3"), (torch.float8_e5m2, "F8_E5M2")):
        every = torch.arange(256, dtype=torch.uint8).view(dtype)
        save_file({"a": every}, file)
        assert read_header(file).tensors["a"].dtype == name
        assert torch.equal(torch.tensor(read_header(file).read_floats("a")).nan_to_num(7), every.float().nan_to_num(7))


def test_integers_are_refused_by_name(file):
    state = whole()
    save_file(
        {
            **{key: value.contiguous() for key, value in state.items()},
            "model.diffusion_model.out.0.bias": torch.ones(32).to(torch.int8),
        },
        file,
    )
    with pytest.raises(CheckpointError, match=r"expected 'model\.diffusion_model\.out\.0\.bias' in F16.*, found I8\."):
        describe(file).model()
