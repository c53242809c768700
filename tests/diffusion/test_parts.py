"""Single parts of models: they compute what the references compute whatever their key names; whole models contain them too."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import (
    CheckpointError,
    Description,
    UNetPart,
    VAEPart,
    describe,
    load_unet,
    load_vae,
    verify,
)
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules, vae_modules
from nodegraph_diffusion.networks.config import LatentSpace, UNetConfig, VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from tests.support import small_model
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic
from tests.support.slow import slow_except
from tests.support.tensor_files import State, below, write
from tests.support.unet_configs import PUBLISHED

LATENT, PIXELS, CONTEXT = small.noise(1, 4, 8, 8), small.noise(1, 3, 32, 32), small.noise(1, 16, 128)
SD2 = dataclasses.replace(small.UNET, model_channels=64, num_heads=None, head_channels=64, linear_projection=True)
XL = dataclasses.replace(SD2, transformer_depth=(0, 2, 3), middle_depth=3, added_dim=1600)
ADDED = small.noise(1, 1600)


def difference_of(state: Mapping[str, Tensor], *others: str) -> State:
    """The tensors without those of the named parts."""
    return {key: value for key, value in state.items() if not key.startswith(others)}


# --- autoencoders


def published(_: Path) -> State:
    """The reference's values under the published names."""
    reference, modules = small.reference_vae().state_dict(), vae_modules(small.VAE)
    return {key: reference[rename(key, modules)].reshape(value.shape) for key, value in small.our_vae().state_dict().items()}


def as_linear(_: Path) -> State:
    """Attention as linear layers, as files that went through diffusers have it."""
    return {key: value.flatten(1) if ".attn_1." in key and value.dim() == 4 else value for key, value in published(_).items()}


def discriminated(folder: Path) -> State:
    return published(folder) | {"loss.logvar": torch.zeros(()), "model_ema.decay": torch.zeros(())}


def from_diffusers(folder: Path) -> State:
    small.reference_vae().save_pretrained(folder / "saved")
    return load_file(folder / "saved" / "diffusion_pytorch_model.safetensors")


def old_names(folder: Path) -> State:
    state = {}
    for key, value in from_diffusers(folder).items():
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[key] = value
    assert any("query" in key for key in state)
    return state


VAES: dict[str, Callable[[Path], State]] = {
    "ldm": published,
    "ldm, below its prefix": lambda folder: below("first_stage_model.", published(folder)),
    "ldm, linear attention": as_linear,
    "ldm, with its discriminator": discriminated,
    "diffusers": from_diffusers,
    "diffusers, old names": old_names,
}


def same_vae(part: VAEPart, config: VAEConfig = small.VAE) -> None:
    """Check its sizes, and that it computes what diffusers' does."""
    verify(part)
    assert part.config == config
    vae, reference = load_vae(part, "cpu", torch.float32), small.reference_vae()
    assert small.difference(vae.encode(PIXELS)[0], reference.encode(PIXELS).latent_dist.mean) <= small.TOLERANCE
    assert small.difference(vae.decode(LATENT), reference.decode(LATENT).sample) <= small.TOLERANCE


@pytest.mark.parametrize("layout", VAES)
def test_vae_alone_is_read(tmp_path, layout):
    file = write(tmp_path, VAES[layout](tmp_path))
    part = describe(file).vae()
    assert (part.files, part.sample_size, part.weights.naming) == ((file,), 512, layout.split(",")[0])
    assert "an autoencoder's file does not say it" in part.reason
    same_vae(part)
    assert describe(file).model_or_part() == part


@pytest.mark.parametrize("origin", ["folder", "file"])
def test_vae_uses_the_config_beside_it(tmp_path, origin):
    reference = small.reference_vae()
    reference.register_to_config(scaling_factor=0.13025)
    reference.save_pretrained(tmp_path)
    part = describe(tmp_path if origin == "folder" else tmp_path / "diffusion_pytorch_model.safetensors").vae()
    assert set(part.files) == {tmp_path / "config.json", tmp_path / "diffusion_pytorch_model.safetensors"}
    assert (part.sample_size, part.reason) == (1024, "its latents are multiplied by 0.13025, as its config says")
    same_vae(part, dataclasses.replace(small.VAE, scaling_factor=0.13025))


def test_config_of_another_model_is_ignored(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    part = describe(write(tmp_path, from_diffusers(tmp_path))).vae()
    assert part.files == (tmp_path / "part.safetensors",)
    same_vae(part)


# --- denoising networks


def same_unet(part: UNetPart, config: UNetConfig) -> None:
    verify(part)
    assert part.config == config
    unet, time = load_unet(part, "cpu", torch.float32), torch.tensor([321.0])
    if config.added_dim is None:
        ours = unet(LATENT, time, CONTEXT)
        theirs = small.reference_unet(config)(LATENT, time, CONTEXT).sample
    else:
        ours = unet(LATENT, time, CONTEXT, ADDED)
        with torch.no_grad():
            theirs = _with_added(small.reference_unet(config), time)
    assert small.difference(ours, theirs) <= small.TOLERANCE


def _with_added(reference: diffusers.UNet2DConditionModel, time: Tensor) -> Tensor:
    """The reference's result for a given embedding of texts and sizes."""
    reference.get_aug_embed = lambda emb, **_: reference.add_embedding(ADDED)
    return reference(LATENT, time, CONTEXT).sample


def as_published(config: UNetConfig) -> State:
    """The reference's values under the published names."""
    reference, modules = small.reference_unet(config).state_dict(), unet_modules(config)
    return {key: reference[rename(key, modules)].reshape(value.shape) for key, value in small.our_unet(config).state_dict().items()}


UNETS = {"sd1": small.UNET, "sd2": SD2, "sdxl": XL}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", ["sd1", "sd2", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_unet_with_published_names_is_read(tmp_path, kind, prefix):
    file = write(tmp_path, below(prefix, as_published(UNETS[kind])) | {"model_ema.decay": torch.zeros(())})
    part = describe(file).unet()
    assert (part.kind, part.files, part.noise_schedule) == (kind, (file,), NoiseSchedule())
    assert part.latent == LatentSpace(4, 8, 0.13025 if kind == "sdxl" else 0.18215)
    same_unet(part, UNETS[kind])
    assert describe(file).model_or_part() == part


@pytest.mark.parametrize("origin", slow_except(["file alone"], ["folder", "file", "file alone"]))
@pytest.mark.parametrize("kind", UNETS)
def test_unet_with_diffusers_names_is_read(tmp_path, kind, origin):
    small.reference_unet(UNETS[kind]).save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    if origin == "file alone":
        (tmp_path / "config.json").unlink()
    part = describe(tmp_path if origin == "folder" else weights).unet()
    assert (part.kind, part.noise_schedule) == (kind, NoiseSchedule())
    assert set(part.files) == set(tmp_path.iterdir())
    same_unet(part, UNETS[kind])


def test_sharded_half_precision_unet_is_read(tmp_path):
    small.reference_unet().half().save_pretrained(tmp_path, max_shard_size="500KB", variant="fp16")
    part = describe(tmp_path).unet()
    assert len(part.weights.paths) > 1
    verify(part)


def test_velocity_mark_of_a_unet_is_used(tmp_path):
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    part = describe(write(tmp_path, as_published(small.UNET) | marks)).unet()
    assert part.noise_schedule == NoiseSchedule(prediction="v", zero_snr=True)
    verify(part)


@pytest.mark.parametrize("layout", PUBLISHED)
@pytest.mark.parametrize("part", ["unet", "vae", "text"])
def test_parts_are_detected_from_headers(tmp_path, layout, part):
    """Each part is taken from the file of the whole model; every key is checked."""
    prefixes = {"unet": ("model.diffusion_model.",), "vae": ("first_stage_model.",), "text": ("cond_stage_model.", "conditioner.")}
    cut = {key: shape for key, shape in synthetic.read_layout(layout).items() if key.startswith(prefixes[part])}
    bare = prefixes[part][0] if part != "text" else ""
    for names in (cut, {key.removeprefix(bare): shape for key, shape in cut.items()}):
        found = describe(synthetic.sparse(names, tmp_path / "sparse.safetensors")).model_or_part()
        verify(found)
        kind = {"sd15": "sd1", "sd21": "sd2", "sdxl": "sdxl"}[layout.split("-")[0]]
        if part == "unet":
            assert (found.config, found.kind) == (PUBLISHED[layout], kind)
        elif part == "vae":
            assert (found.config, found.sample_size) == (VAEConfig(), 512)
        else:
            assert (found.kind, found.width) == (kind, PUBLISHED[layout].context_dim)


# --- parts of whole models


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of a whole model."""
    folder = tmp_path_factory.mktemp("whole")
    networks = small.our_unet(), small.our_vae(), small.our_text_encoder()
    schedule, tokenizer = NoiseSchedule(prediction="v"), small.write_tokenizer(folder / "vocabulary")
    small_model.save(folder / "model", *networks, schedule=schedule, tokenizer=tokenizer)
    return folder / "model"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = below("model.diffusion_model.", small.our_unet().state_dict())
    state |= below("first_stage_model.", small.our_vae().state_dict())
    state |= below("cond_stage_model.transformer.text_model.", small.our_text_encoder().state_dict())
    return write(tmp_path_factory.mktemp("single"), state, "model.safetensors")


def test_parts_of_a_single_file_are_read(single):
    model = describe(single).model()
    assert (describe(single).unet(), describe(single).vae()) == (model.unet, model.vae)
    assert describe(single).text_encoders().parts == model.text.parts
    assert model.unet.latent == LatentSpace(factor=4)


def test_parts_of_a_folder_are_read(whole):
    model = describe(whole).model()
    assert (describe(whole).unet(), describe(whole).vae(), describe(whole).text_encoders()) == (model.unet, model.vae, model.text)
    assert (model.vae.sample_size, model.unet.noise_schedule.prediction, model.unet.latent.factor) == (32, "v", 4)


def test_part_folder_uses_the_model_around_it(whole):
    model = describe(whole).model()
    for found, expected in (
        (describe(whole / "unet").unet(), model.unet),
        (describe(whole / "vae").vae(), model.vae),
        (describe(whole / "text_encoder").text_encoders().parts[0], model.text.parts[0]),
    ):
        assert dataclasses.replace(found, path=expected.path) == expected


def test_part_lists_only_its_own_files(whole):
    def folders(files: tuple[Path, ...]) -> set[str]:
        return {file.relative_to(whole).parts[0] for file in files if file.suffix == ".safetensors"}

    model = describe(whole).model()
    assert folders(model.unet.files) == {"unet"}
    assert folders(model.vae.files) == {"vae"}
    assert folders(model.text.files) == {"text_encoder"}
    assert set(model.files) == {file for file in whole.rglob("*") if file.is_file()}


def test_part_is_found_beside_a_broken_one(whole, tmp_path):
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    assert describe(copy).vae().config == small.VAE
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        describe(copy).unet()


def test_missing_part_of_a_file_is_an_error(single, tmp_path):
    file = write(tmp_path, difference_of(load_file(single), "cond_stage_model."))
    assert (describe(file).unet().config, describe(file).vae().config) == (small.UNET, small.VAE)
    for find in (Description.model, Description.text_encoders):
        with pytest.raises(CheckpointError) as caught:
            find(describe(file))
        assert caught.value.found == "a model without a text encoder"


# --- a given kind


def test_model_is_read_as_the_given_kind(single):
    described = describe(single).model("sd2")
    assert (described.kind, described.text.kind, described.unet.kind, described.reason) == (
        "sd2",
        "sd2",
        "sd2",
        "Stable Diffusion 2.x, as requested; it predicts noise",
    )
    assert described.text.parts[0].config == dataclasses.replace(small.TEXT, activation="gelu")
    verify(described)
    assert describe(single).model("sd1") == describe(single).model()


def test_folder_is_read_as_the_given_kind(whole):
    assert (describe(whole).model("sd2").kind, describe(whole).model().kind) == ("sd2", "sd1")


@pytest.mark.parametrize("kind", ["sdxl", "sdxl-refiner"])
def test_model_cannot_be_read_as_one_with_other_parts(single, whole, kind):
    for path in (single, whole):
        with pytest.raises(CheckpointError, match=rf"expected a Stable Diffusion XL.*found Stable Diffusion 1\.x.*'kind: {kind}'"):
            describe(path).model(kind)


# --- refused files

ONE = torch.ones(2, 2)
OTHERS = {
    "lora": ({"lora_unet_mid_block.lora_up.weight": ONE}, "a LoRA"),
    "controlnet": ({"input_hint_block.0.weight": ONE}, "a ControlNet"),
    "embedding": ({"emb_params": ONE}, "a textual inversion embedding"),
    "unet": ({"input_blocks.0.0.weight": ONE}, "only a UNet"),
    "vae": ({"decoder.up.0.block.0.conv1.weight": ONE}, "only an autoencoder (VAE)"),
    "text_encoder": ({"text_model.encoder.layers.0.mlp.fc1.weight": ONE}, "only a text encoder"),
    None: ({"double_blocks.0.weight": ONE}, "a Flux model"),
}
FINDERS = {
    "model": Description.model,
    "unet": Description.unet,
    "vae": Description.vae,
    "text_encoder": Description.text_encoders,
}


@pytest.mark.parametrize(("wanted", "other"), [(wanted, other) for wanted in FINDERS for other in OTHERS if wanted != other])
def test_other_kind_of_file_is_named(tmp_path, wanted, other):
    state, name = OTHERS[other]
    with pytest.raises(CheckpointError) as caught:
        FINDERS[wanted](describe(write(tmp_path, state)))
    assert (caught.value.found, caught.value.holds) == (name, other)


@pytest.mark.parametrize(("wanted", "other"), [(wanted, other) for wanted in list(FINDERS)[1:] for other in list(FINDERS)[1:]])
def test_other_kind_of_folder_is_named(whole, tmp_path, wanted, other):
    folder = Path(shutil.copytree(whole / other, tmp_path / other))
    if wanted == other:
        assert FINDERS[wanted](describe(folder))
        return
    with pytest.raises(CheckpointError, match=rf"{other}: expected a folder with an? .*, found only an? .*") as caught:
        FINDERS[wanted](describe(folder))
    assert caught.value.holds == other


@pytest.mark.parametrize(
    ("part", "gone", "message"),
    [
        ("vae", "decoder.mid", "found 26 missing (decoder.mid.block_1.norm1.weight, ...)"),
        ("vae", "encoder.conv_in", "expected a tensor 'encoder.conv_in.weight' of 4 dimensions, found none"),
        ("vae", "encoder.", "expected a tensor 'encoder.conv_in.weight' of 4 dimensions, found none"),
        ("unet", "middle_block.1.", "expected a tensor 'middle_block.1.transformer_blocks.0.attn2.to_k.weight' of 2 dimensions"),
        ("unet", "input_blocks.0", "expected a tensor 'input_blocks.0.0.weight' of 4 dimensions, found none"),
        ("text_encoder", "encoder.layers.1.", "unknown (encoder.layers.2."),
        ("text_encoder", "embeddings.token", "expected a tensor 'embeddings.token_embedding.weight' of 2 dimensions, found none"),
    ],
)
def test_broken_part_is_not_mistaken_for_another(tmp_path, part, gone, message):
    networks = {"vae": small.our_vae(), "unet": small.our_unet(), "text_encoder": small.our_text_encoder()}
    file = write(tmp_path, difference_of(networks[part].state_dict(), gone))
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        verify(FINDERS[part](describe(file)))
    assert caught.value.holds is None


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_and_truncated_files_are_errors(tmp_path, part):
    with pytest.raises(CheckpointError, match="found nothing"):
        FINDERS[part](describe(tmp_path / "nowhere.safetensors"))
    file = write(tmp_path, small.our_vae().state_dict())
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="the file is truncated"):
        FINDERS[part](describe(file))
