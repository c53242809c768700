"""Models whose parts were trained are written in the layout that they had, and new ones as folders and single files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodegraph_diffusion.checkpoint import (
    Checkpoint,
    Kind,
    Part,
    describe,
    load_controlnet,
    load_text_encoder,
    load_unet,
    load_vae,
    save_controlnet,
    save_single_file,
    save_tuned,
)
from nodegraph_diffusion.networks.config import CLIPTextConfig, UNetConfig
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_diffusion.networks.unet import timestep_embedding
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.pictures.buckets import Buckets
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic
from tests.support.control_nets import our_control
from tests.support.families import FAMILIES
from tests.support.markdown import blocks
from tests.support.small_model import save_single_file as save_small_single_file
from tests.support.unet_configs import CONTEXT, REFINER, SD2, SDXL, TIMESTEPS
from tests.support.whole_checkpoint import whole

pytestmark = pytest.mark.slow

TWO_LEVELS = {"model_channels": 64, "channel_mult": (1, 2), "transformer_depth": (0, 1), "middle_depth": 1, "num_res_blocks": 1}
ROOT = Path(__file__).parents[2]
FILE = {**TWO_LEVELS, "head_channels": 64, "norm_groups": 32}  # what a single file cannot say is as in the published models
TEXT = CLIPTextConfig(vocab_size=514, width=64, layers=3, heads=1, max_length=16, mlp_width=96, eos=513)
TEXT_XL = dataclasses.replace(TEXT, layer=2, final_norm=False)
TEXT_G = dataclasses.replace(TEXT_XL, activation="gelu", projection=64)


def loaded(model: Checkpoint) -> dict[Part, nn.Module]:
    """All parts of a model, in float32."""
    parts: dict[Part, nn.Module] = {
        "unet": load_unet(model.unet, "cpu", torch.float32),
        "vae": load_vae(model.vae, "cpu", torch.float32),
    }
    return parts | {part.weights.part: load_text_encoder(part, "cpu", torch.float32) for part in model.text.parts}


@torch.no_grad()
def trained(network: nn.Module) -> nn.Module:
    """The network with other weights."""
    for index, parameter in enumerate(network.parameters()):
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)), alpha=0.01)
    return network


def assert_equal(found: nn.Module, expected: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    ours = found.state_dict()
    assert [key for key, value in expected.state_dict().items() if not torch.equal(ours[key], value.to(dtype).float())] == []


def tensors_of(path: Path) -> dict[str, Tensor]:
    return load_file(path)


# --- a model that was loaded


def test_single_file_keeps_all_that_was_not_trained(tmp_path) -> None:
    before = {name: value.half() if value.is_floating_point() else value for name, value in whole().items()} | {
        "other": torch.ones(2)
    }
    save_file(before, tmp_path / "model.safetensors", metadata={"title": "a model", "modelspec.hash_sha256": "0"})
    model = describe(tmp_path / "model.safetensors").model()
    networks = loaded(model)
    unet = trained(networks["unet"])
    save_tuned(tmp_path / "tuned.safetensors", model, {"unet": unet})
    again = describe(tmp_path / "tuned.safetensors").model()
    found = loaded(again)
    assert_equal(found["unet"], unet, torch.float16)
    after = tensors_of(tmp_path / "tuned.safetensors")
    assert set(before) - set(after) == {"model_ema.diffusion_modeltime_embed0weight"}  # the average of other weights
    changed = [name for name in after if not torch.equal(after[name], before[name])]
    assert all(name.startswith("model.diffusion_model.") for name in changed)
    assert len(changed) == len(unet.state_dict())
    with safe_open(tmp_path / "tuned.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "title": "a model"}


def test_fused_and_turned_tensors_are_put_together_again(tmp_path) -> None:
    """In a file of SDXL, whose second text encoder has OpenCLIP's names."""
    path = xl_file(tmp_path)
    model = describe(path).model()
    networks = loaded(model)
    texts: dict[Part, nn.Module] = {name: trained(networks[name]) for name in ("text_encoder", "text_encoder_2")}
    save_tuned(tmp_path / "tuned.safetensors", model, texts, dtype=torch.float32)
    found = loaded(describe(tmp_path / "tuned.safetensors").model())
    for name, network in texts.items():
        assert_equal(found[name], network)
    assert_equal(found["unet"], networks["unet"])
    assert tensors_of(path).keys() == tensors_of(tmp_path / "tuned.safetensors").keys()


def test_eight_bit_weights_become_float16_without_their_scales(tmp_path) -> None:
    tensors = whole()
    name = "model.diffusion_model.time_embed.0.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    tensors[name.replace("weight", "scale_weight")] = torch.tensor(0.5)
    tensors["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
    save_file(tensors, tmp_path / "model.safetensors")
    model = describe(tmp_path / "model.safetensors").model()
    unet = trained(loaded(model)["unet"])
    save_tuned(tmp_path / "tuned.safetensors", model, {"unet": unet})
    after = tensors_of(tmp_path / "tuned.safetensors")
    assert after[name].dtype == torch.float16
    assert name.replace("weight", "scale_weight") not in after
    found = loaded(describe(tmp_path / "tuned.safetensors").model())["unet"]
    torch.testing.assert_close(found.state_dict(), unet.state_dict(), rtol=1e-3, atol=1e-3)


def test_folder_stays_one_that_diffusers_opens(tmp_path) -> None:
    """A folder of SDXL, whose weights are in shards of a variant."""
    pipeline = FAMILIES["sdxl"](tmp_path)
    pipeline.save_pretrained(tmp_path / "model", max_shard_size="500KB", variant="fp16")
    model = describe(tmp_path / "model").model()
    unet = trained(loaded(model)["unet"])
    save_tuned(tmp_path / "tuned", model, {"unet": unet})
    again = describe(tmp_path / "tuned").model()
    found = loaded(again)
    assert_equal(found["unet"], unet)
    assert sorted(path.name for path in (tmp_path / "tuned" / "unet").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    for name in ("vae", "text_encoder", "tokenizer", "scheduler"):
        names = [sorted(path.name for path in (tmp_path / folder / name).iterdir()) for folder in ("model", "tuned")]
        assert names[0] == names[1]
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "tuned" / "unet")
    ids, pooled = torch.tensor([[512.0, 512, 0, 0, 512, 512]]).repeat(2, 1), torch.randn(2, 64)
    added = torch.cat([pooled, timestep_embedding(ids.flatten(), 256).reshape(2, -1)], dim=1)
    latents = small.noise(2, 4, 8, 8)
    with torch.no_grad():
        more = {"text_embeds": pooled, "time_ids": ids}
        expected = theirs(latents, TIMESTEPS, CONTEXT, added_cond_kwargs=more).sample
        assert small.difference(unet(latents, TIMESTEPS, CONTEXT, added=added), expected) < small.TOLERANCE


@pytest.mark.parametrize("layout", ["single file", pytest.param("folder", marks=pytest.mark.slow)])
def test_models_are_fine_tuned_as_the_docs_say(tmp_path, layout) -> None:
    """A single file of Stable Diffusion 1 and a folder of Stable Diffusion XL: from files with captions to the model's layout."""
    if layout == "folder":
        path = tmp_path / "model"
        FAMILIES["sdxl"](tmp_path).save_pretrained(path)
    else:
        path = save_small_single_file(tmp_path / "model.safetensors")
    pictures = []
    for name, size in (("a", (40, 32)), ("b", (32, 32)), ("c", (64, 24))):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / f"{name}.png")
        pictures.append((tmp_path / f"{name}.png", f"a picture {name}"))
    names: dict[str, Any] = {}
    block = next(each.text for each in blocks(ROOT / "docs" / "training.md") if "def fine_tune" in each.text)
    exec(block, names)
    options = TrainingOptions(steps=1, batch=2, recompute=True)
    buckets = Buckets(side=32, step=8, least=16, most=64)
    names["fine_tune"](path, pictures, tmp_path / "out", options=options, buckets=buckets)
    before, after = describe(path).model(), describe(tmp_path / "out" / f"tuned{path.suffix}").model()
    assert (after.kind, after.layout) == (before.kind, before.layout)
    old, new = loaded(before), loaded(after)
    assert all(value.isfinite().all() for value in new["unet"].state_dict().values())
    changed = {name: not same_weights(old[name], new[name]) for name in old}
    assert changed == {name: name == "unet" for name in old}


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_wrong_parts_are_refused(tmp_path) -> None:
    save_file(whole(), tmp_path / "model.safetensors")
    model = describe(tmp_path / "model.safetensors").model()
    with pytest.raises(ValueError, match=r"parts of .*model.safetensors \(unet, vae, text_encoder\), found 'text_encoder_2'"):
        save_tuned(tmp_path / "x.safetensors", model, {"text_encoder_2": small.our_text_encoder()})
    other = small.our_unet(dataclasses.replace(small.UNET, in_channels=9))
    with pytest.raises(ValueError, match="expected 'unet' with the sizes of the model"):
        save_tuned(tmp_path / "x.safetensors", model, {"unet": other})
    assert not (tmp_path / "x.safetensors").exists()


# --- a new model


def xl_file(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    path = folder / "xl.safetensors"
    unet = small.our_unet(dataclasses.replace(small.UNET, **SDXL | FILE))
    texts = [small.our_text_encoder(TEXT_XL), small.our_text_encoder(TEXT_G)]
    save_single_file(path, "sdxl", unet=unet, vae=vae_of("sdxl"), text_encoders=texts, dtype=dtype)
    return path


def vae_of(kind: Kind) -> Any:
    return small.our_vae(dataclasses.replace(small.VAE, scaling_factor=0.13025 if kind.startswith("sdxl") else 0.18215))


@pytest.mark.parametrize(
    ("kind", "unet", "texts", "schedule"),
    [
        ("sd1", small.UNET, [small.TEXT], NoiseSchedule()),
        (
            "sd2",
            dataclasses.replace(small.UNET, **SD2 | FILE),
            [dataclasses.replace(small.TEXT, activation="gelu", layer=2)],
            NoiseSchedule(prediction="v", zero_snr=True),
        ),
        ("sdxl", dataclasses.replace(small.UNET, **SDXL | FILE), [TEXT_XL, TEXT_G], NoiseSchedule()),
        (
            "sdxl-refiner",
            dataclasses.replace(small.UNET, **REFINER | FILE | {"added_dim": 64 + 5 * 256}),
            [dataclasses.replace(TEXT_G, width=128, heads=2)],
            NoiseSchedule(),
        ),
    ],
    ids=["sd1", "sd2", "sdxl", "sdxl-refiner"],
)
def test_new_model_is_read_from_its_single_file(tmp_path, kind, unet, texts, schedule) -> None:
    networks = {"unet": small.our_unet(unet), "vae": vae_of(kind)}
    encoders = [small.our_text_encoder(config) for config in texts]
    path = tmp_path / "new.safetensors"
    save_single_file(path, kind, **networks, text_encoders=encoders, noise_schedule=schedule, dtype=torch.float32)
    model = describe(path).model(kind)
    assert (model.kind, model.noise_schedule) == (kind, schedule)
    assert next(iter(describe(path).models)) in (kind, "sd1")
    found = loaded(model)
    for name, network in [*networks.items(), *zip((part.weights.part for part in model.text.parts), encoders, strict=True)]:
        assert_equal(found[name], network)


def test_model_that_a_single_file_cannot_describe_is_refused(tmp_path) -> None:
    path = tmp_path / "new.safetensors"
    parts: dict[str, Any] = {"vae": small.our_vae(), "text_encoders": [small.our_text_encoder()]}
    with pytest.raises(ValueError, match=r"read with UNetConfig\.norm_groups 32, expected 8; write it as a folder instead"):
        save_single_file(path, "sd1", unet=small.our_unet(dataclasses.replace(small.UNET, norm_groups=8)), **parts)
    with pytest.raises(ValueError, match=r"read with NoiseSchedule\.beta_end 0\.012, expected 0\.02"):
        save_single_file(path, "sd1", unet=small.our_unet(), noise_schedule=NoiseSchedule(beta_end=0.02), **parts)
    with pytest.raises(ValueError, match="expected 2 text encoders in Stable Diffusion XL, found 1"):
        save_single_file(path, "sdxl", unet=small.our_unet(), **parts)
    assert list(tmp_path.iterdir()) == []


# --- ControlNets

X, HINT = small.noise(2, 4, 8, 8), small.noise(2, 3, 64, 64).sigmoid()


@pytest.mark.parametrize("changes", [{}, SD2 | FILE, SDXL | FILE], ids=["sd1", "sd2", "sdxl"])
def test_controlnet_is_read_by_us_and_by_diffusers(tmp_path, changes) -> None:
    control = our_control(dataclasses.replace(small.UNET, **changes))
    for path in (tmp_path / "control.safetensors", tmp_path / "control"):
        save_controlnet(path, control, dtype=torch.float32)
        found = describe(path).controlnet()
        assert (found.layout, found.notes) == ("ldm" if path.suffix else "diffusers", ())
        assert_equal(load_controlnet(found, "cpu", torch.float32), control)
    theirs = diffusers.ControlNetModel.from_pretrained(tmp_path / "control")
    if control.config.added_dim is None:
        expected = control(X, HINT, TIMESTEPS, CONTEXT)
        with torch.no_grad():
            skips, middle = theirs(X, TIMESTEPS, CONTEXT, controlnet_cond=HINT, return_dict=False)
        for result, reference in zip((*expected[0], expected[1]), (*skips, middle), strict=True):
            assert small.difference(result, reference) < small.TOLERANCE


def test_controlnet_that_a_single_file_cannot_describe_is_refused(tmp_path) -> None:
    config: UNetConfig = dataclasses.replace(small.UNET, norm_groups=8)
    control = ControlNet(config, (8, 16))
    synthetic.fill(control)
    with pytest.raises(ValueError, match=r"read with UNetConfig\.norm_groups 32, expected 8; write it as a folder"):
        save_controlnet(tmp_path / "control.safetensors", control)
    assert list(tmp_path.iterdir()) == []
    save_controlnet(tmp_path / "control", control)
    assert describe(tmp_path / "control").controlnet().hint_widths == (8, 16)
