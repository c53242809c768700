"""LoRA files of every published form change a network by their formulas, and leave the original network unchanged."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.adapters.lora.match import unmatched
from nodegraph_diffusion.adapters.lora.patch import patched
from nodegraph_diffusion.checkpoint import CheckpointError, describe
from nodegraph_diffusion.checkpoint.layouts.lora import parse_name
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from tests.support import small_networks as small
from tests.support.lora_files import CHANGE, CONV, CONV_THEIRS, DOWN, OURS, THEIRS, UP, apply, kohya, noise, write
from tests.support.slow import slow_except
from tests.support.synthetic_checkpoints import read_layout


@pytest.mark.parametrize(
    ("up", "down", "alpha"),
    [
        (f"{kohya(THEIRS)}.lora_up.weight", f"{kohya(THEIRS)}.lora_down.weight", f"{kohya(THEIRS)}.alpha"),
        (f"{kohya(OURS)}.lora_up.weight", f"{kohya(OURS)}.lora_down.weight", f"{kohya(OURS)}.alpha"),
        (f"unet.{THEIRS}.lora_B.weight", f"unet.{THEIRS}.lora_A.weight", f"unet.{THEIRS}.alpha"),
        (f"base_model.model.{THEIRS}.lora_B.default.weight", f"base_model.model.{THEIRS}.lora_A.default.weight", None),
        (f"{THEIRS}.lora_B.weight", f"{THEIRS}.lora_A.weight", None),
        (
            THEIRS.replace(".to_k", ".processor.to_k_lora.up.weight"),
            THEIRS.replace(".to_k", ".processor.to_k_lora.down.weight"),
            None,
        ),
        (f"unet.{THEIRS}.lora.up.weight", f"unet.{THEIRS}.lora.down.weight", f"unet.{THEIRS}.lora.alpha"),
    ],
)
@pytest.mark.parametrize("strength", slow_except([0.6], [1.0, 0.6, -1.0]))
def test_all_naming_schemes_are_equivalent(tmp_path, up, down, alpha, strength):
    tensors = {up: UP, down: DOWN} | ({alpha: torch.tensor(2.0)} if alpha else {})
    torch.testing.assert_close(apply(tmp_path, tensors, strength), strength * CHANGE * (0.5 if alpha else 1), rtol=1e-5, atol=1e-6)


def test_convolutions_with_and_without_a_core_are_read(tmp_path):
    up, down, core = noise(32, 4, 1, 1, seed=3), noise(4, 32, 3, 3, seed=4), noise(4, 4, 3, 3, seed=5)
    expected = torch.einsum("or,ri...->oi...", up[:, :, 0, 0], down)
    name = kohya(CONV_THEIRS)
    tensors = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, f"{name}.alpha": torch.tensor(4.0)}
    torch.testing.assert_close(apply(tmp_path, tensors, module=CONV), expected, rtol=1e-4, atol=1e-5)
    entry = noise(4, 32, 1, 1, seed=6)
    expected = torch.einsum("or,rskl,si->oikl", up[:, :, 0, 0], core, entry[:, :, 0, 0])
    tensors = {f"{name}.lora_up.weight": up, f"{name}.lora_mid.weight": core, f"{name}.lora_down.weight": entry}
    torch.testing.assert_close(apply(tmp_path, tensors, module=CONV), expected, rtol=1e-4, atol=1e-5)


def test_loha_lokr_and_differences_are_read(tmp_path):
    a1, b1, a2, b2 = noise(32, 4, seed=1), noise(4, 128, seed=2), noise(32, 4, seed=3), noise(4, 128, seed=4)
    name = kohya(THEIRS)
    loha = {f"{name}.hada_w1_a": a1, f"{name}.hada_w1_b": b1, f"{name}.hada_w2_a": a2, f"{name}.hada_w2_b": b2}
    torch.testing.assert_close(
        apply(tmp_path, loha | {f"{name}.alpha": torch.tensor(2.0)}), (a1 @ b1) * (a2 @ b2) / 2, rtol=1e-4, atol=1e-6
    )
    first, second = noise(4, 8, seed=5), noise(8, 16, seed=6)
    torch.testing.assert_close(
        apply(tmp_path, {f"{name}.lokr_w1": first, f"{name}.lokr_w2": second}), torch.kron(first, second), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(apply(tmp_path, {f"{name}.diff": CHANGE}, 0.5), CHANGE / 2, rtol=1e-4, atol=1e-6)


def test_dora_scales_rows_to_learned_norms(tmp_path):
    weight = small.our_unet().state_dict()[f"{OURS}.weight"]
    norms = noise(32, 1, seed=9).abs() + 1
    name = kohya(THEIRS)
    tensors = {f"{name}.lora_up.weight": UP, f"{name}.lora_down.weight": DOWN, f"{name}.dora_scale": norms}
    after = weight + apply(tmp_path, tensors)
    torch.testing.assert_close(after.norm(dim=1, keepdim=True), norms, rtol=1e-4, atol=1e-5)
    direction = (weight + CHANGE) / (weight + CHANGE).norm(dim=1, keepdim=True)
    torch.testing.assert_close(after / after.norm(dim=1, keepdim=True), direction, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_files_add_up_and_strength_0_changes_nothing(tmp_path):
    unet = small.our_unet()
    bytes_before = {key: value.clone() for key, value in unet.state_dict().items()}
    one = describe(
        write(tmp_path, {f"{kohya(THEIRS)}.lora_up.weight": UP, f"{kohya(THEIRS)}.lora_down.weight": DOWN}, "a.safetensors")
    ).lora()
    two = describe(write(tmp_path, {f"{kohya(THEIRS)}.diff": CHANGE}, "b.safetensors")).lora()
    key = f"{OURS}.weight"
    both = patched(unet, "unet", [(one, 0.5), (two, 2.0)]).state_dict()
    torch.testing.assert_close(both[key], bytes_before[key] + 2.5 * CHANGE, rtol=1e-5, atol=1e-6)
    again = patched(unet, "unet", [(one, 0.5), (two, 2.0)]).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in both.items())
    assert all(torch.equal(value, bytes_before[name]) for name, value in unet.state_dict().items())
    shared = [name for name, value in both.items() if value.data_ptr() == unet.state_dict()[name].data_ptr()]
    assert len(shared) == len(both) - 1


def test_text_encoder_names_of_both_trainers_are_read(tmp_path):
    model = small.our_text_encoder()
    up, down = noise(128, 4, seed=1), noise(4, 128, seed=2)
    for name in ("lora_te_text_model_encoder_layers_1_self_attn_q_proj", "lora_te1_text_model_encoder_layers_1_self_attn_q_proj"):
        file = describe(write(tmp_path, {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down})).lora()
        after = patched(model, "text_encoder", [(file, 1.0)]).state_dict()["encoder.layers.1.self_attn.q_proj.weight"]
        expected = model.state_dict()["encoder.layers.1.self_attn.q_proj.weight"] + up @ down
        torch.testing.assert_close(after, expected.half().float(), rtol=1e-3, atol=0)  # as ComfyUI rounds it
        assert torch.equal(after, after.half().float())
    file = describe(write(tmp_path, {"text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_linear_layer.up.weight": up,
        "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_linear_layer.down.weight": down})).lora()  # fmt: skip
    assert torch.equal(
        patched(model, "text_encoder", [(file, 1.0)]).state_dict()["encoder.layers.1.self_attn.q_proj.weight"], after
    )


def test_published_layout_matches_every_key():
    """kohya's file for Stable Diffusion 1.5: every tensor named, every module one of the network's."""
    layout = read_layout("lora-kohya-sd15")
    names = [parse_name(key) for key in layout]
    assert None not in names
    assert {name.part for name in names} == {"unet", "text_encoder"}
    assert {name.role for name in names} == {"up", "down", "alpha"}
    from nodegraph_diffusion.networks.unet import UNet, UNetConfig

    with torch.device("meta"):
        unet = UNet(UNetConfig())
    table = unet_modules(unet.config)
    theirs = {rename(key.removesuffix(".weight"), table).replace(".", "_") for key in unet.state_dict()}
    assert {name.module for name in names if name.part == "unet"} <= theirs


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{kohya('down_blocks.7.attentions.0.proj_in')}.diff": CHANGE}, "It was made for another family"),
        ({f"{kohya(THEIRS)}.lora_up.weight": UP, f"{kohya(THEIRS)}.lora_down.weight": noise(4, 96)}, "found one of 32x96"),
        ({f"{kohya(THEIRS)}.lora_up.weight": UP}, "expected a factor"),
        ({f"{kohya(THEIRS)}.diff_b": noise(32)}, "to_k' has: none, found one of 32"),
        ({f"{kohya(CONV_THEIRS)}.diff_b": noise(33)}, "conv1' has: one of 32, found one of 33"),
        ({f"{kohya(THEIRS)}.lora_up.weight": UP, f"{kohya(THEIRS)}.lora_down.weight": noise(5, 128)}, "that fit each other"),
        ({"model.diffusion_model.out.2.weight": CHANGE}, "a file of other tensors"),
        ({}, "a file of other tensors (no tensor, ...)"),
    ],
)
def test_mismatches_are_refused_before_any_change(tmp_path, tensors, message):
    with pytest.raises(CheckpointError, match=r"lora\.safetensors: expected ") as caught:
        unmatched(describe(write(tmp_path, tensors)).lora(), "unet", small.our_unet().config)
    assert message in str(caught.value)
