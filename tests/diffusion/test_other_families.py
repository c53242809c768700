"""Files and folders that we cannot run are called by their names."""

from __future__ import annotations

import dataclasses
import json

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph_diffusion.checkpoint import CheckpointError, describe
from tests.support import small_networks as small
from tests.support.whole_checkpoint import whole

FILES = {  # some names of each kind of file, as it is published
    "a Flux model": ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"],
    "a Flux model, by diffusers": [
        "single_transformer_blocks.0.attn.to_q.weight",
        "transformer_blocks.0.attn.to_q.weight",
        "context_embedder.weight",
        "x_embedder.weight",
    ],
    "a Flux model, in one file": ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "vae.decoder.conv_in.weight"],
    "a Chroma model": ["double_blocks.0.x", "single_blocks.0.x", "distilled_guidance_layer.norms.0.scale"],
    "a Stable Diffusion 3 model": ["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "first_stage_model.x.weight"],
    "a Stable Cascade model": ["clip_txt_mapper.weight", "down_blocks.0.0.channelwise.0.weight"],
    "a PixArt model": ["x_embedder.proj.weight", "t_block.1.weight", "y_embedder.y_proj.fc1.weight", "blocks.0.attn.qkv.weight"],
    "a Wan model": ["patch_embedding.weight", "text_embedding.0.weight", "time_projection.1.weight", "blocks.0.self_attn.q.weight"],
    "a Hunyuan-DiT model": ["mlp_t5.0.weight", "blocks.0.attn1.Wqkv.weight"],
    "a HunyuanVideo model": ["txt_in.individual_token_refiner.blocks.0.x", "double_blocks.0.x", "single_blocks.0.x"],
    "an AuraFlow model": ["model.double_layers.0.attn.w1q.weight", "model.cond_seq_linear.weight"],
    "a model of Kandinsky, Kolors or DeepFloyd IF": ["encoder_hid_proj.weight", "down_blocks.0.resnets.0.conv1.weight"],
    "a Qwen-Image model": ["txt_norm.weight", "txt_in.weight", "img_in.weight", "transformer_blocks.0.attn.to_q.weight"],
    "a T5 text encoder": ["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"],
    "a model in NF4": ["time_embed.0.weight.quant_state.bitsandbytes__nf4", "time_embed.0.weight"],
}
CLASSES = {
    "FluxPipeline": "a Flux model",
    "StableDiffusion3Pipeline": "a Stable Diffusion 3 model",
    "StableCascadeDecoderPipeline": "a Stable Cascade model",
    "PixArtSigmaPipeline": "a PixArt model",
    "WanPipeline": "a Wan model",
    "HunyuanVideoPipeline": "a Hunyuan model",
    "KandinskyV22Pipeline": "a Kandinsky model",
    "AuraFlowPipeline": "an AuraFlow model",
    "StableVideoDiffusionPipeline": "a Stable Video Diffusion model",
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_recognised_by_their_names(tmp_path, name):
    save_file({key: torch.zeros(2) for key in FILES[name]}, tmp_path / "model.safetensors")
    description = describe(tmp_path / "model.safetensors")
    assert description.content is None
    for read in (description.model, description.unet, description.vae, description.lora):
        with pytest.raises(CheckpointError) as caught:
            read()
        assert name.split(",")[0] in caught.value.found
        hint = "nodegraph reads weights of 16 and 32 bits" if "NF4" in name else "nodegraph runs Stable Diffusion 1, 2 and XL."
        assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("name", CLASSES)
def test_folders_are_recognised_by_their_class(tmp_path, name):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name, "transformer": ["diffusers", "X"]}))
    with pytest.raises(CheckpointError) as caught:
        describe(tmp_path).model()
    assert caught.value.found == f"{CLASSES[name]} ({name})"
    assert caught.value.hint == "nodegraph runs Stable Diffusion 1, 2 and XL."


def test_a_folder_of_one_part_is_recognised_by_its_class(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel"}))
    for read in (describe(tmp_path).model, describe(tmp_path).unet):
        with pytest.raises(CheckpointError, match="found a Flux model"):
            read()


@pytest.mark.parametrize("name", ["1.weight 3.conv.0.weight", "decoder.1.weight decoder.3.conv.0.weight", "of diffusers"])
def test_a_taesd_is_not_taken_for_an_autoencoder_or_a_text_encoder(tmp_path, name):
    path = tmp_path / "tiny"
    if name == "of diffusers":
        diffusers.AutoencoderTiny().save_pretrained(path)
        paths = [path, path / "diffusion_pytorch_model.safetensors"]
    else:
        save_file({key: torch.zeros(2) for key in name.split()}, path)
        paths = [path]
    for path in paths:
        assert describe(path).content is None
        with pytest.raises(CheckpointError, match="found a TAESD, which only decodes previews"):
            describe(path).vae()


def test_a_folder_in_nf4_is_refused_by_name(tmp_path):
    """As diffusers saves a model that bitsandbytes made smaller: the shapes of its weights are others."""
    small.reference_unet().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    name = "mid_block.attentions.0.proj_in.weight"
    state[name] = torch.zeros(state[name].numel() // 2, 1, dtype=torch.uint8)
    save_file({**state, f"{name}.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8)}, file)
    with pytest.raises(CheckpointError, match=r"found a model in NF4 \(bitsandbytes\), a format of four bits\. nodegraph reads"):
        describe(tmp_path).unet()


def test_gguf_is_refused_by_name(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(CheckpointError, match=r"found a GGUF file\. .* Give the model as a \.safetensors file"):
        describe(tmp_path / "model.gguf")


def test_stable_unclip_is_not_taken_for_the_model_that_it_was_made_from(tmp_path):
    """Its UNet receives an embedding of a picture; its file has no other sign of it if the rest was removed."""
    unet = small.our_unet(dataclasses.replace(small.UNET, added_dim=64)).state_dict()
    state = {key: value for key, value in whole().items() if not key.startswith("model.diffusion_model.")}
    state |= {f"model.diffusion_model.{key}": value for key, value in unet.items()}
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="such as that of Stable unCLIP"):
        describe(tmp_path / "model.safetensors").model()
