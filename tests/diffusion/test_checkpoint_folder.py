"""diffusers' folders: ours open there and theirs here, exactly; incomplete and other folders are refused with a reason."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from nodegraph_diffusion.checkpoint import (
    CheckpointError,
    describe,
    load_text_encoder,
    load_unet,
    load_vae,
    verify,
)
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from tests.support import small_model
from tests.support import small_networks as small

SCHEDULE = NoiseSchedule(beta_end=0.013, prediction="v")
TOKENS = torch.arange(16)[None]
TIMESTEPS = torch.tensor([321.0])


def load_all(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any, Any]:
    checkpoint = describe(folder).model()
    verify(checkpoint)
    on = ("cpu", dtype)
    return load_unet(checkpoint.unet, *on), load_vae(checkpoint.vae, *on), load_text_encoder(checkpoint.text.parts[0], *on)


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that we wrote."""
    folder = tmp_path_factory.mktemp("ours")
    networks = small.our_unet(), small.our_vae(), small.our_text_encoder()
    tokenizer = small.write_tokenizer(folder / "vocabulary")
    small_model.save(folder / "model", *networks, schedule=SCHEDULE, tokenizer=tokenizer)
    return folder / "model"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that diffusers wrote, with the half-precision variant's names for one part."""
    folder = tmp_path_factory.mktemp("theirs")
    pipeline = diffusers.StableDiffusionPipeline(
        unet=small.reference_unet(),
        vae=small.reference_vae(),
        text_encoder=small.reference_text_encoder(),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(small.write_tokenizer(folder / "vocabulary")),
        scheduler=diffusers.PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "model")
    weights = folder / "model" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".fp16.safetensors"))
    return folder / "model"


@pytest.fixture
def copy(ours: Path, tmp_path: Path) -> Path:
    """A folder that we wrote, for tests to damage."""
    return shutil.copytree(ours, tmp_path / "copy")


def test_round_trip_is_exact(ours):
    checkpoint = describe(ours).model()
    assert (checkpoint.layout, checkpoint.kind, checkpoint.sample_size) == ("diffusers", "sd1", 32)
    assert (checkpoint.unet.config, checkpoint.vae.config, checkpoint.text.parts[0].config) == (small.UNET, small.VAE, small.TEXT)
    assert checkpoint.noise_schedule == SCHEDULE
    assert checkpoint.text.parts[0].tokenizer == ours / "tokenizer"
    assert set(checkpoint.files) == {file for file in ours.rglob("*") if file.is_file()}
    for loaded, saved in zip(load_all(ours), (small.our_unet(), small.our_vae(), small.our_text_encoder()), strict=True):
        weights = saved.state_dict()
        assert loaded.state_dict().keys() == weights.keys()
        assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())


def test_half_precision_is_the_default(tmp_path):
    networks = small.our_unet(), small.our_vae(), small.our_text_encoder()
    small_model.save(
        tmp_path / "model",
        *networks,
        schedule=SCHEDULE,
        tokenizer=small.write_tokenizer(tmp_path / "vocabulary"),
        dtype=torch.float16,
    )
    for loaded, saved in zip(load_all(tmp_path / "model"), networks, strict=True):
        weights = saved.half().float().state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
def test_diffusers_opens_our_folders(ours):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(ours)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.safety_checker is None
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    unet, vae, text_encoder = load_all(ours)

    context = text_encoder(TOKENS)
    latent, pixels = small.noise(1, 4, 8, 8), small.noise(1, 3, 32, 32)
    pairs = (
        (context, pipeline.text_encoder(TOKENS).last_hidden_state),
        (unet(latent, TIMESTEPS, context), pipeline.unet(latent, TIMESTEPS, context).sample),
        (vae.encode(pixels)[0], pipeline.vae.encode(pixels).latent_dist.mean),
        (vae.decode(latent), pipeline.vae.decode(latent).sample),
    )
    for result, expected in pairs:
        assert small.difference(result, expected.detach()) <= small.TOLERANCE
    image = pipeline("a red house", num_inference_steps=2, output_type="np").images[0]
    assert image.shape == (32, 32, 3)


def test_folders_of_diffusers_open_here(theirs):
    checkpoint = describe(theirs).model()
    assert checkpoint.noise_schedule == NoiseSchedule()
    assert [file.name for file in checkpoint.vae.weights.paths] == ["diffusion_pytorch_model.fp16.safetensors"]
    assert set(checkpoint.files) == {file for file in theirs.rglob("*") if file.is_file()}
    unet, vae, text_encoder = load_all(theirs)
    latent, pixels, context = small.noise(1, 4, 8, 8), small.noise(1, 3, 32, 32), small.noise(1, 16, 128)
    reference_vae = small.reference_vae()
    pairs = (
        (text_encoder(TOKENS), small.reference_text_encoder()(TOKENS).last_hidden_state),
        (unet(latent, TIMESTEPS, context), small.reference_unet()(latent, TIMESTEPS, context).sample),
        (vae.encode(pixels)[0], reference_vae.encode(pixels).latent_dist.mean),
        (vae.decode(latent), reference_vae.decode(latent).sample),
    )
    for result, expected in pairs:
        assert small.difference(result, expected) <= small.TOLERANCE


@pytest.mark.parametrize("prefix", [True, False])
def test_text_encoder_prefix_is_optional(copy, prefix):
    weights = copy / "text_encoder" / "model.safetensors"
    state = {key.removeprefix("text_model."): value for key, value in load_file(weights).items()}
    state["embeddings.position_ids"] = torch.arange(16)[None]
    save_file({f"text_model.{key}" if prefix else key: value for key, value in state.items()}, weights)
    expected = small.our_text_encoder().state_dict()
    loaded = load_all(copy)[2].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


def test_old_vae_attention_names_are_read(copy):
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    state = {}
    for key, value in load_file(weights).items():
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[key] = value[:, :, None, None] if "decoder.mid_block.attentions" in key and value.dim() == 2 else value
    assert any("query" in key for key in state)
    save_file({key: value.contiguous() for key, value in state.items()}, weights)
    expected = small.our_vae().state_dict()
    loaded = load_all(copy)[1].state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        ("model_index.json", "none"),
        ("unet/config.json", "no file"),
        ("vae/diffusion_pytorch_model.safetensors", "no weights"),
        ("text_encoder", "no file"),
        ("tokenizer", "neither"),
    ],
)
def test_folder_without_a_part_is_refused(copy, missing, found):
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError) as caught:
        describe(copy).model()
    assert caught.value.found == found


def test_folder_without_scheduler_takes_the_noise_levels_of_its_family(copy):
    (copy / "scheduler" / "scheduler_config.json").unlink()
    found = describe(copy).model()
    assert found.noise_schedule == NoiseSchedule()
    [note] = found.notes
    family = "the noise levels are those of Stable Diffusion 1.x, and it predicts noise"
    assert note == f"the folder has no scheduler/scheduler_config.json: {family}"


def test_folder_without_tokenizer_takes_the_vocabulary_of_all_families(tmp_path, copy):
    """If the text encoder has that vocabulary; another one needs its own."""
    with_vocabulary = dataclasses.replace(small.TEXT, vocab_size=49408, eos=49407)
    networks = small.our_unet(), small.our_vae(), small.our_text_encoder(with_vocabulary)
    small_model.save(tmp_path / "model", *networks, schedule=SCHEDULE, tokenizer=copy / "tokenizer")
    shutil.rmtree(tmp_path / "model" / "tokenizer")
    found = describe(tmp_path / "model").model()
    assert found.text.parts[0].tokenizer is None
    assert found.notes == ("the folder has no tokenizer: prompts are read with CLIP's vocabulary, that of all families",)
    (tmp_path / "model" / "tokenizer").mkdir()
    assert describe(tmp_path / "model").model() == found  # an empty folder is no vocabulary
    (tmp_path / "model" / "tokenizer" / "vocab.json").write_text("{}")
    assert describe(tmp_path / "model").model() == found  # neither is half of one


@pytest.mark.parametrize("left", [[], ["tokenizer_config.json"], ["vocab.json"]])
def test_folder_without_a_vocabulary_of_its_own_is_refused(copy, left):
    """Before the weights are read, whether the folder is empty, incomplete or not there."""
    for file in (copy / "tokenizer").iterdir():
        if file.name not in left:
            file.unlink()
    message = "expected the vocabulary of the text encoder, which is not CLIP's: vocab.json and merges.txt, or tokenizer.json"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        describe(copy).model()
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(CheckpointError, match=re.escape(message)):
        describe(copy).model()


@pytest.mark.parametrize("variant", ["bf16", "fp32", "ema", "non_ema"])
def test_variants_load(copy, variant):
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        weights = copy / part / f"{name}.safetensors"
        weights.rename(weights.with_suffix(f".{variant}.safetensors"))
    assert load_all(copy)[0].state_dict().keys() == small.our_unet().state_dict().keys()


def test_shards_of_a_variant_load(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    shard = weights.with_name("diffusion_pytorch_model.bf16-00001-of-00001.safetensors")
    weights.rename(shard)
    index = {"weight_map": dict.fromkeys(load_file(shard), shard.name)}
    weights.with_name("diffusion_pytorch_model.safetensors.index.bf16.json").write_text(json.dumps(index))
    assert describe(copy).unet().weights.paths == (shard,)


def test_part_alone_is_named(copy):
    with pytest.raises(CheckpointError, match="found only a UNet"):
        describe(copy / "unet").model()


def test_pickled_weights_are_refused(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model\.bin: .* found a PyTorch pickle .*ALLOW_PICKLES=1"):
        describe(copy).model()


@pytest.mark.parametrize(
    ("file", "changes", "found"),
    [
        ("model_index.json", {"unet": ["diffusers", "UNet1DModel"]}, "UNet1DModel in a StableDiffusionPipeline"),
        ("model_index.json", {"unet": None, "_class_name": "FluxPipeline"}, "a Flux model (FluxPipeline)"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "no file"),
        ("unet/config.json", {"only_cross_attention": True}, "only_cross_attention is True, not False"),
        ("unet/config.json", {"attention_head_dim": [5, 10, 20, 20]}, "attention_head_dim is [5, 10, 20, 20]"),
        ("unet/config.json", {"addition_embed_type": "image"}, "addition_embed_type is 'image'"),
        ("unet/config.json", {"block_out_channels": [32, 48]}, "[32, 48] are not multiples of the first"),
        ("unet/config.json", {"block_out_channels": None}, "block_out_channels is None, not the width of each level"),
        ("unet/config.json", {"down_block_types": ["AttnDownBlock2D"]}, "'AttnDownBlock2D' is not one of"),
        ("unet/config.json", {"in_channels": 10}, "one with 10 in and 4 out"),
        ("unet/config.json", {"cross_attention_dim": 64}, "one of shape [32, 128]"),
        ("vae/config.json", {"shift_factor": 0.1}, "shift_factor is 0.1, not None"),
        ("text_encoder/config.json", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("text_encoder/config.json", {"num_attention_heads": 3}, "heads 3 does not divide the width 128"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "linear"}, "beta_schedule is 'linear'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "'sample' is not one of"),
    ],
)
def test_other_configs_are_named(copy, file, changes, found):
    edit_json(copy / file, **changes)
    with pytest.raises(CheckpointError) as caught:
        describe(copy).model()
    assert found in caught.value.found


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_damaged_configs_are_named(copy, content):
    (copy / "vae" / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: expected a JSON"):
        describe(copy).model()


def test_truncated_weights_are_named(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="the file is truncated"):
        describe(copy).model()
