"""Each model family as a small synthetic model: saved by diffusers and transformers, opened here, with equal results."""

from __future__ import annotations

import dataclasses

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from nodegraph_diffusion.checkpoint import Checkpoint, describe, load_text_encoder, load_unet, load_vae, verify
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.networks.config import CLIPTextConfig
from nodegraph_diffusion.text.encode import Reader, read_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from tests.support import small_networks as small
from tests.support.families import FAMILIES, OPENCLIP, encode, text_encoder
from tests.support.unet_configs import REFINER

SIGMA = 3.0


@dataclasses.dataclass
class Saved:
    """A pipeline of diffusers, and what we found in the folder that it wrote."""

    pipeline: diffusers.DiffusionPipeline
    checkpoint: Checkpoint

    def readers(self) -> list[Reader]:
        checkpoint = self.checkpoint
        return [
            Reader(load_text_encoder(part, "cpu", torch.float32), load_tokenizer(part.tokenizer)) for part in checkpoint.text.parts
        ]


@pytest.fixture(params=FAMILIES, scope="module")
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp(request.param)
    pipeline = FAMILIES[request.param](folder)
    pipeline.save_pretrained(folder / "model", max_shard_size="500KB")  # so that there are shards, too
    checkpoint = describe(folder / "model").model()
    assert checkpoint.kind == request.param
    return Saved(pipeline, checkpoint)


def test_every_tensor_of_sharded_weights_is_used(saved):
    verify(saved.checkpoint)
    assert len(saved.checkpoint.unet.weights.paths) > 1
    assert saved.checkpoint.kind in ("sd2", "sdxl", "sdxl-refiner")


def test_prompt_encodings_equal_diffusers(saved):
    ours = read_prompt(saved.readers(), "a red house")
    expected, pooled = encode(saved.pipeline, "a red house")
    assert small.difference(ours.embedding, expected) <= small.TOLERANCE
    if saved.checkpoint.kind == "sd2":
        assert ours.pooled is None
    else:
        assert small.difference(ours.pooled, pooled) <= small.TOLERANCE


def test_autoencoding_equals_diffusers(saved):
    ours, theirs = load_vae(saved.checkpoint.vae, "cpu", torch.float32), saved.pipeline.vae
    pixels, latent = small.noise(1, 3, 32, 32), small.noise(1, 4, 8, 8)
    assert saved.checkpoint.vae.config.scaling_factor == theirs.config.scaling_factor
    assert small.difference(ours.encode(pixels)[0], theirs.encode(pixels).latent_dist.mean) <= small.TOLERANCE
    assert small.difference(ours.decode(latent), theirs.decode(latent).sample) <= small.TOLERANCE


def test_denoiser_conditions_equal_diffusers(saved):
    checkpoint, pipeline = saved.checkpoint, saved.pipeline
    prompt = read_prompt(saved.readers(), "a red house")
    x = small.noise(1, 4, 8, 8) * SIGMA
    denoiser = UNetDenoiser(load_unet(checkpoint.unet, "cpu", torch.float32), checkpoint.noise_schedule, (prompt,), cell=4)

    embedding, pooled = encode(pipeline, "a red house")
    timestep, more = checkpoint.noise_schedule.timestep(SIGMA).round(), {}
    if pooled is not None:
        numbers = [32.0, 32.0, 0.0, 0.0, *([6.0] if checkpoint.kind == "sdxl-refiner" else [32.0, 32.0])]
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.tensor([numbers])}}
    scale = 1 / (SIGMA**2 + 1) ** 0.5
    predicted = pipeline.unet(x * scale, timestep, embedding, **more).sample
    expected = x * scale**2 - predicted * SIGMA * scale if checkpoint.noise_schedule.prediction == "v" else x - predicted * SIGMA
    assert small.difference(denoiser(x, SIGMA), expected) <= small.TOLERANCE


def test_training_settings_are_read(saved):
    expected = {"sd2": ("v", True), "sdxl": ("eps", False), "sdxl-refiner": ("eps", False)}[saved.checkpoint.kind]
    assert (saved.checkpoint.noise_schedule.prediction, saved.checkpoint.noise_schedule.zero_snr) == expected
    layers = {(part.config.layer, part.config.final_norm) for part in saved.checkpoint.text.parts}
    assert layers == ({(1, True)} if saved.checkpoint.kind == "sd2" else {(2, False)})


def test_openclip_names_equal_transformers(tmp_path):
    """The same values under OpenCLIP's names, in a file of the layout of Stable Diffusion XL's refiner."""
    reference = text_encoder(128, projected=True, **OPENCLIP)
    state = small.openclip_names(reference.state_dict())
    config = dataclasses.replace(small.UNET, **REFINER | {"added_dim": 64 + 5 * 256, "head_channels": 64, "model_channels": 64})
    unet, autoencoder = small.our_unet(dataclasses.replace(config, norm_groups=32)), small.our_vae()
    file = tmp_path / "refiner.safetensors"
    tensors = {f"conditioner.embedders.0.model.{key}": value for key, value in state.items()}
    tensors |= {f"model.diffusion_model.{key}": value for key, value in unet.state_dict().items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in autoencoder.state_dict().items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)

    checkpoint = describe(file).model()
    assert checkpoint.kind == "sdxl-refiner"
    assert checkpoint.text.parts[0].config == CLIPTextConfig(
        vocab_size=514,
        width=128,
        layers=4,
        heads=2,
        max_length=16,
        mlp_width=96,
        activation="gelu",
        projection=64,
        layer=2,
        final_norm=False,
        eos=513,
    )
    tokens = torch.tensor([[512, 5, 6, 7, 513, *[0] * 11]])
    hidden, pooled = load_text_encoder(checkpoint.text.parts[0], "cpu", torch.float32).encode(tokens)
    expected = reference(tokens, output_hidden_states=True)
    assert small.difference(hidden, expected.hidden_states[-2]) <= small.TOLERANCE
    assert small.difference(pooled, expected.text_embeds) <= small.TOLERANCE
