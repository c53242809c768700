"""Nodes that load single parts of models instead of a model's own, and name other kinds of files."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from nodegraph import Engine, Run, Workflow, WorkflowError
from nodegraph.cli import main
from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_nodes.models.find import find_model, find_text_encoders, find_unet, find_vae
from nodegraph_nodes.models.opened_files import open_part
from nodegraph_nodes.models.parts import load_unet_network, load_vae_network
from nodegraph_nodes.models.text_encoders import load_text_network, load_text_tokenizer
from nodegraph_nodes.nodes.latent import empty_latent, vae_decode
from nodegraph_nodes.nodes.models import load_model, load_text_encoder, load_unet, load_vae
from nodegraph_nodes.nodes.sampling import unet_denoise
from nodegraph_nodes.types import VAE, Conditioning, Latent
from tests.support import small_networks as small
from tests.support.small_model import SIDE, save_single_file

FINDERS = {"LoadModel": find_model, "LoadUNet": find_unet, "LoadVAE": find_vae, "LoadTextEncoder": find_text_encoders}
INPUTS = {"LoadModel": "model", "LoadUNet": "unet", "LoadVAE": "vae", "LoadTextEncoder": "text_encoder"}
XL = dataclasses.replace(small.UNET, model_channels=64, num_heads=None, head_channels=64, linear_projection=True, added_dim=1600)


def found(find, path):
    return find(str(path), Path()).value


def write(path, state):
    save_file({key: value.clone() for key, value in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def vae_file(tmp_path_factory):
    """An autoencoder of the published names, alone."""
    return write(tmp_path_factory.mktemp("vae") / "vae.safetensors", small.our_vae().state_dict())


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return save_single_file(tmp_path_factory.mktemp("single") / "model.safetensors")


# --- parts instead of a model's own


def test_parts_equal_those_of_their_model(model_folder, model, run):
    """They come from one file, which is loaded once for all."""
    unet, vae = load_unet(found(find_unet, model_folder)), load_vae(found(find_vae, model_folder))
    texts = load_text_encoder(found(find_text_encoders, model_folder))
    assert unet.part == model.unet.part
    assert vae.part == model.vae.part
    assert texts.parts == model.text_encoder.parts
    assert load_unet_network(unet, run) is load_unet_network(model.unet, run)
    assert load_vae_network(vae, run) is load_vae_network(model.vae, run)
    assert load_text_network(texts, run) is load_text_network(model.text_encoder, run)
    assert load_text_tokenizer(texts, run) is load_text_tokenizer(model.text_encoder, run)


def test_built_in_models_have_parts(run):
    vae = load_vae(found(find_vae, "builtin:tiny"))
    assert vae.part == load_model(found(find_model, "builtin:tiny")).vae.part


def test_prediction_of_a_unet_can_be_set(single):
    unet = found(find_unet, single)
    assert load_unet(unet).part.noise_schedule == NoiseSchedule()
    assert load_unet(unet, "v", True).part.noise_schedule == NoiseSchedule(prediction="v", zero_snr=True)


def test_scaling_of_a_vae_is_the_files_or_the_given_one(vae_file):
    vae = found(find_vae, vae_file)
    assert load_vae(vae).part.config.scaling_factor == 0.18215
    assert load_vae(vae, scaling=0.13025).part.config.scaling_factor == 0.13025
    assert (load_vae(vae).part.sample_size, load_vae(vae, scaling=0.13025).part.sample_size) == (512, 1024)


def test_vae_like_another_has_its_scaling_and_size(vae_file):
    standalone = found(find_vae, vae_file)
    config = dataclasses.replace(standalone.config, scaling_factor=0.13025)
    like = VAE(open_part(dataclasses.replace(standalone, config=config, trained_size=SIDE), Run().digest))
    vae = load_vae(standalone, like)
    assert (vae.part.config.scaling_factor, vae.part.sample_size) == (0.13025, SIDE)
    assert empty_latent(vae).size == (SIDE, SIDE)
    assert load_vae(standalone, like, scaling=0.5).part.config.scaling_factor == 0.5


def test_vae_with_another_grid_is_not_like_it(vae_file, model):
    with pytest.raises(ValueError, match="expected one that encodes 8x8 pixels into 4 numbers, as 'like' does, found one for 4x4"):
        load_vae(found(find_vae, vae_file), model.vae)


def test_decoding_divides_by_the_given_scaling(vae_file, run):
    latent = Latent(torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(3)), (16, 16))
    vae = load_vae(found(find_vae, vae_file), scaling=0.5)
    expected = (small.our_vae().decode(latent.samples / 0.5) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.allclose(vae_decode(vae, latent, run=run).pixels, expected, atol=1e-5)  # convolutions are laid out otherwise


def test_two_files_are_the_text_encoders_of_sdxl(tmp_path, run):
    big = dataclasses.replace(small.TEXT, width=192, heads=3, activation="gelu", projection=64)
    first = write(tmp_path / "l.safetensors", small.reference_text_encoder().state_dict())
    second = write(tmp_path / "g.safetensors", small.reference_text_encoder(big, projected=True).state_dict())
    texts = load_text_encoder(found(find_text_encoders, first), found(find_text_encoders, second))
    assert [part.weights.part for part in texts.parts] == ["text_encoder", "text_encoder_2"]
    assert [load_text_network(texts, run, i).config.projection for i in (0, 1)] == [None, 64]
    assert [opened.files[0].path for opened in texts.opened] == [first, second]
    with pytest.raises(ValueError, match="CLIP-L is its first"):
        load_text_encoder(found(find_text_encoders, second), found(find_text_encoders, first))


def test_text_encoders_are_read_as_the_given_kind(single):
    texts = found(find_text_encoders, single)
    assert load_text_encoder(texts).parts[0].config.activation == "quick_gelu"
    assert load_text_encoder(texts, kind="sd2").parts[0].config.activation == "gelu"
    with pytest.raises(ValueError, match="expected the two text encoders of Stable Diffusion XL, found one"):
        load_text_encoder(texts, kind="sdxl")


def painted(parts):
    """A workflow that makes a picture with the parts that `parts` adds to it."""
    w = Workflow("painted")
    unet, vae, text_encoder = parts(w)
    prompt = w.add("TextEncode", text_encoder=text_encoder, text="a red house")
    latent = w.add("EmptyLatent", vae=vae)
    denoiser = w.add("UNetDenoise", unet=unet, positive=prompt, negative=prompt)
    sampled = w.add("Sampler", denoiser=denoiser, latent=latent, noise=w.add("Noise", like=latent, seed=1), steps=2)
    w.output("picture", w.add("VAEDecode", vae=vae, latent=sampled))
    return Engine(cache_dir=None, dtype="float32").run(w)["picture"].pixels


def test_parts_make_the_same_picture_as_the_model(model_folder):
    def one(w):
        model = w.add("LoadModel", model=str(model_folder))
        return model.unet, model.vae, model.text_encoder

    def each(w):
        model = w.add("LoadModel", model=str(model_folder))
        vae = w.add("LoadVAE", vae=str(model_folder / "vae"), like=model.vae)
        unet = w.add("LoadUNet", unet=str(model_folder / "unet"), prediction="eps")
        return unet, vae, w.add("LoadTextEncoder", text_encoder=str(model_folder / "text_encoder"))

    assert torch.equal(painted(one), painted(each))


# --- keys


def changed(model_folder, tmp_path, part):
    """A copy of the model with other weights in one part."""
    copy = Path(shutil.copytree(model_folder, tmp_path / f"other-{part}"))
    weights = next((copy / part).glob("*.safetensors"))
    save_file({name: tensor + 0.01 for name, tensor in load_file(weights).items()}, weights)
    return copy


def decoding(folder):
    w = Workflow("decoded")
    vae = w.add("LoadVAE", vae=str(folder))
    w.output("picture", w.add("VAEDecode", vae=vae, latent=w.add("EmptyLatent", vae=vae)))
    return w


def test_decoding_reruns_only_for_a_changed_vae(model_folder, tmp_path):
    def ran(folder):
        return "vae_decode" in Engine(cache_dir=tmp_path / "cache", dtype="float32").run(decoding(folder)).ran

    assert ran(model_folder)
    assert not ran(changed(model_folder, tmp_path, "unet"))
    assert not ran(changed(model_folder, tmp_path, "text_encoder"))
    assert ran(changed(model_folder, tmp_path, "vae"))


@pytest.mark.parametrize(("find", "part"), [(find_unet, "unet"), (find_vae, "vae"), (find_text_encoders, "text_encoder")])
def test_only_weights_of_the_part_are_in_the_key(model_folder, find, part):
    files = find(str(model_folder), Path()).files
    assert {name.split("/")[0] for name in files if name.endswith(".safetensors")} == {part}
    assert all(path.is_file() for path in files.values())


def test_names_in_the_key_hold_no_location(model_folder, vae_file):
    assert set(find_vae(str(vae_file), Path()).files) == {"model"}
    names = set(find_vae(str(model_folder / "vae"), Path()).files)
    assert names == {"config.json", "diffusion_pytorch_model.safetensors", "../unet/config.json"}


# --- a given kind


def test_model_is_read_as_the_given_kind(single):
    model = load_model(found(find_model, single), kind="sd2")
    assert (model.unet.part.kind, model.text_encoder.parts[0].config.activation) == ("sd2", "gelu")


def test_check_refuses_an_impossible_kind(single):
    w = Workflow("wrong")
    w.output("picture", w.add("VAEDecode", vae=w.add("LoadModel", model=str(single), kind="sdxl").vae, latent="nothing"))
    with pytest.raises(WorkflowError, match=r"expected a Stable Diffusion XL model.*found Stable Diffusion 1\.x, because"):
        Engine(cache_dir=None).check(w)
    with pytest.raises(ValueError, match="Leave out 'kind: sdxl'"):
        load_model(found(find_model, single), kind="sdxl")


# --- refused files, and the node that takes them

ONE = torch.ones(2, 2)
OTHERS = {
    "LoadLora": {"lora_unet_mid_block.lora_up.weight": ONE},
    "LoadControlNet": {"input_hint_block.0.weight": ONE},
    "LoadEmbedding": {"emb_params": ONE},
    "LoadUNet": {"down_blocks.0.resnets.0.conv1.weight": ONE},
    "LoadVAE": {"first_stage_model.encoder.conv_in.weight": ONE},
    "LoadTextEncoder": {"text_model.embeddings.token_embedding.weight": ONE},
}


@pytest.mark.parametrize(("node", "other"), [(node, other) for node in FINDERS for other in OTHERS if node != other])
def test_error_names_the_node_for_the_file(tmp_path, node, other):
    file = write(tmp_path / "other.safetensors", OTHERS[other])
    with pytest.raises(ValueError, match=rf"expected .*, found .*, which {other} takes\. "):
        FINDERS[node](str(file), Path())


def test_check_names_the_node_for_the_file(tmp_path):
    file = write(tmp_path / "other.safetensors", OTHERS["LoadVAE"])
    for node, port in INPUTS.items():
        if node != "LoadVAE":
            w = Workflow("wrong")
            w.add(node, **{port: str(file)})
            with pytest.raises(WorkflowError, match="which LoadVAE takes"):
                Engine(cache_dir=None).check(w)


@pytest.mark.parametrize("node", FINDERS)
def test_unknown_file_names_no_node(tmp_path, node):
    file = write(tmp_path / "other.safetensors", {"weight": ONE})
    with pytest.raises(ValueError, match=r"expected .*found .*'weight'") as caught:
        FINDERS[node](str(file), Path())
    assert " takes" not in str(caught.value)


# --- parts that do not belong together


def test_prompts_of_another_family_are_refused(tmp_path, run):
    unet = load_unet(found(find_unet, write(tmp_path / "xl.safetensors", small.our_unet(XL).state_dict())))
    narrow = Conditioning((Prompt(torch.zeros(1, 16, 64)),))
    without_pooled = Conditioning((Prompt(torch.zeros(1, 16, XL.context_dim)),))
    with pytest.raises(ValueError, match=r"positive: expected a prompt of width 128.*found 64; encode it with the text encoder of"):
        unet_denoise(unet, narrow, narrow, run=run)
    with pytest.raises(ValueError, match="positive: expected a prompt with a pooled encoding"):
        unet_denoise(unet, without_pooled, without_pooled, run=run)


def test_latents_of_another_autoencoder_are_refused(vae_file, run):
    with pytest.raises(ValueError, match="expected a latent of 4 channels, which this autoencoder decodes, found one of 16"):
        vae_decode(load_vae(found(find_vae, vae_file)), Latent(torch.zeros(1, 16, 4, 4), (16, 16)), run=run)


# --- the command line


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("vae", "an autoencoder: load it with LoadVAE; ldm names"),
        ("unet", "a UNet: load it with LoadUNet; sdxl, ldm names, eps prediction"),
        ("text", "a text encoder: load it with LoadTextEncoder; sd1, transformers names"),
    ],
)
def test_models_describes_a_part_and_its_node(tmp_path, part, message):
    networks = {"vae": small.our_vae, "unet": lambda: small.our_unet(XL), "text": small.our_text_encoder}
    file = write(tmp_path / "part.safetensors", networks[part]().state_dict())
    result = CliRunner().invoke(main, ["models", str(file)])
    assert (result.exit_code, f"{file}: {message}, " in result.output) == (0, True), result.output
    assert " MB in 1 file\n  " in result.output


def test_models_names_the_node_that_takes_an_adapter(tmp_path):
    half = OTHERS["LoadLora"]
    file = write(tmp_path / "whole.safetensors", half | {"lora_unet_mid_block.lora_down.weight": ONE})
    result = CliRunner().invoke(main, ["models", str(file)])
    assert result.exit_code == 0
    assert result.output.endswith("  load it with LoadLora\n")
    result = CliRunner().invoke(main, ["models", str(write(tmp_path / "half.safetensors", half))])
    assert result.exit_code == 2
    assert "expected a factor 'down' of LoRA beside up, found none" in " ".join(result.output.split())
