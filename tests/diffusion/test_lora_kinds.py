"""Kinds of adapters that are not sums of factors, against their formulas written out, and files with odd numbers in them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.adapters.lora.match import unmatched
from nodegraph_diffusion.adapters.lora.patch import patched
from nodegraph_diffusion.checkpoint import CheckpointError, describe
from tests.support import small_networks as small
from tests.support.lora_files import CHANGE, CONV, CONV_THEIRS, DOWN, OURS, THEIRS, UP, apply, kohya, noise, shared_unet, write
from tests.support.slow import slow_except

LINEAR, CONVOLUTION = kohya(THEIRS), kohya(CONV_THEIRS)  # (32, 128) and (32, 32, 3, 3)


def weight(module: str = OURS) -> Tensor:
    return shared_unet().state_dict()[f"{module}.weight"].clone()


def after(folder, tensors: dict[str, Tensor], strength: float = 1.0, module: str = OURS) -> Tensor:
    return weight(module) + apply(folder, tensors, strength, module)


def cayley(blocks: Tensor) -> Tensor:
    """(I + Q)(I - Q)^-1 of Q = B - B^T."""
    skew, identity = blocks - blocks.mT, torch.eye(blocks.shape[-1])
    return (identity + skew) @ torch.linalg.inv(identity - skew)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["lora_unet_", "oft_unet_", "lycoris_"])
@pytest.mark.parametrize("strength", slow_except([0.3], [1.0, 0.3]))
def test_an_oft_turns_blocks_of_rows(tmp_path, prefix, strength):
    blocks, name = 0.2 * noise(8, 4, 4, seed=1), LINEAR.replace("lora_unet_", prefix)
    turn = torch.block_diag(*cayley(blocks)).T
    expected = weight() + strength * (turn @ weight() - weight())
    assert_close(after(tmp_path, {f"{name}.oft_blocks": blocks, f"{name}.alpha": torch.tensor(0.0)}, strength), expected)
    assert_close(after(tmp_path, {f"{name}.oft_blocks": blocks}, strength), expected)


def test_the_alpha_of_an_oft_limits_its_norm_and_rescale_scales_rows(tmp_path):
    blocks, scales = noise(8, 4, 4, seed=1), 1 + noise(32, 1, 1, 1, seed=2)
    norm = (blocks - blocks.mT).norm()
    for alpha in (float(norm) / 64, float(norm) / 16):  # half of the norm, and twice
        limited = blocks * min(alpha * 32 / float(norm), 1)
        expected = scales * (torch.block_diag(*cayley(limited)).T @ weight(CONV).flatten(1)).reshape(32, 32, 3, 3)
        name = CONVOLUTION
        tensors = {f"{name}.oft_blocks": blocks, f"{name}.alpha": torch.tensor(alpha), f"{name}.rescale": scales}
        assert_close(after(tmp_path, tensors, module=CONV), expected)


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_a_boft_of_lycoris_turns_pairs_of_rows_further_apart_each_time(tmp_path, strength):
    """Factor i pairs row j of each group of 2^i b with row j + 2^i b / 2; its blocks hold b / 2 such pairs."""
    blocks = 0.3 * noise(3, 8, 4, 4, seed=1)
    expected = weight()
    for i, turns in enumerate(torch.eye(4) + strength * (cayley(blocks) - torch.eye(4))):
        half = 2**i * 2
        order = [group + side * half + j for group in range(0, 32, 2 * half) for j in range(half) for side in (0, 1)]
        turned = torch.empty_like(expected)
        turned[order] = torch.block_diag(*turns) @ expected[order]
        expected = turned
    tensors = {f"{LINEAR}.oft_blocks": blocks, f"{LINEAR}.alpha": torch.tensor(0.0)}
    assert_close(after(tmp_path, tensors, strength), expected)


def test_a_boft_of_peft_uses_its_permutations(tmp_path):
    """PEFT computes several factors on CUDA only; its permutations and their use are public."""
    from peft.tuners.boft.layer import BOFTLayer

    blocks, scales = 0.5 * noise(3, 32, 4, 4, seed=1), 1 + noise(32, 1, seed=2)
    rotation = torch.eye(128)
    for i in range(3):
        permutation = torch.eye(128)[BOFTLayer.block_butterfly_perm(None, 128, 32 // 2**i, 2, 2)]
        turns = BOFTLayer.cayley_batch(None, blocks[i])
        rotation = permutation @ torch.block_diag(*turns) @ permutation.T @ rotation
    name = f"base_model.model.{THEIRS}"
    expected = (rotation @ weight().T).T * scales
    assert_close(after(tmp_path, {f"{name}.boft_R": blocks, f"{name}.boft_s": scales}), expected)


@pytest.mark.parametrize("old", [False, True])
def test_a_glora_multiplies_the_weight_and_adds(tmp_path, old):
    a1, a2, b1, b2 = noise(128, 4, seed=1), noise(4, 128, seed=2), noise(32, 4, seed=3), noise(4, 128, seed=4)
    factors = {"a1": a2, "a2": a1, "b1": b2, "b2": b1} if old else {"a1": a1, "a2": a2, "b1": b1, "b2": b2}
    tensors = {f"{LINEAR}.{name}.weight": factor for name, factor in factors.items()} | {f"{LINEAR}.alpha": torch.tensor(2.0)}
    assert_close(apply(tmp_path, tensors, 0.7), 0.7 * (weight() @ a1 @ a2 + b1 @ b2) * 2 / 4)


def test_a_glora_of_a_convolution_multiplies_its_input_channels(tmp_path):
    shapes = {"a1": (32, 4, 1, 1), "a2": (4, 32, 1, 1), "b1": (32, 4, 1, 1), "bm": (4, 4, 3, 3), "b2": (4, 32, 1, 1)}
    factors = {name: noise(*shape, seed=i) / 3 for i, (name, shape) in enumerate(shapes.items())}
    a1, a2, b1, core, b2 = (factor.squeeze() for factor in factors.values())
    expected = torch.einsum("oikl,im->omkl", weight(CONV), a1 @ a2) + torch.einsum("or,rskl,si->oikl", b1, core, b2)
    tensors = {f"{CONVOLUTION}.{name}.weight": factor for name, factor in factors.items()}
    assert_close(apply(tmp_path, tensors, module=CONV), expected)


@pytest.mark.parametrize(("on_input", "dtype"), [(False, torch.int64), (True, torch.float32)])
def test_an_ia3_of_lycoris_scales_rows_or_columns(tmp_path, on_input, dtype):
    scales = noise(128 if on_input else 32, seed=1)
    tensors = {f"{LINEAR}.weight": scales, f"{LINEAR}.on_input": torch.tensor(int(on_input), dtype=dtype)}
    assert_close(after(tmp_path, tensors, 0.5), weight() * (1 + scales / 2 if on_input else (1 + scales / 2)[:, None]))
    if not on_input:
        tensors = {f"{CONVOLUTION}.weight": scales.reshape(1, 32, 1, 1), f"{CONVOLUTION}.on_input": torch.tensor(0)}
        assert_close(after(tmp_path, tensors, module=CONV), weight(CONV) * (1 + scales).reshape(32, 1, 1, 1))


def test_whole_weights_replace_at_full_strength_and_mix_below(tmp_path):
    value = noise(32, 128, seed=3)
    for name in (f"{LINEAR}.set_weight", f"base_model.model.{THEIRS}.weight", f"base_model.model.{THEIRS}.modules_to_save.weight"):
        assert_close(after(tmp_path, {name: value}), value)
        assert_close(after(tmp_path, {name: value}, 0.25), 0.75 * weight() + 0.25 * value)


def test_a_scalar_multiplies_and_may_have_any_shape_of_one_number(tmp_path):
    tensors = {f"{LINEAR}.lora_up.weight": UP, f"{LINEAR}.lora_down.weight": DOWN}
    for shape in ((), (1,), (1, 1)):
        numbers = {f"{LINEAR}.scalar": torch.full(shape, 0.5), f"{LINEAR}.alpha": torch.full(shape, 2.0)}
        assert_close(apply(tmp_path, tensors | numbers), CHANGE / 4)


def test_an_integer_alpha_counts_as_its_number(tmp_path):
    tensors = {f"{LINEAR}.lora_up.weight": UP, f"{LINEAR}.lora_down.weight": DOWN}
    assert_close(apply(tmp_path, {**tensors, f"{LINEAR}.alpha": torch.tensor(2)}), CHANGE / 2)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_factors_of_eight_bits_are_widened(tmp_path, dtype):
    up, down = UP.to(dtype), DOWN.to(dtype)
    tensors = {f"{LINEAR}.lora_up.weight": up, f"{LINEAR}.lora_down.weight": down}
    assert_close(apply(tmp_path, tensors), up.float() @ down.float())


def test_a_row_of_zeros_stays_zero_under_a_dora(tmp_path):
    change = torch.zeros(32, 128)
    change[3] = -weight()[3]
    found = after(tmp_path, {f"{LINEAR}.diff": change, f"{LINEAR}.dora_scale": torch.ones(32, 1)})
    assert torch.equal(found[3], torch.zeros(128))
    assert_close(found.norm(dim=1), torch.tensor([0.0 if row == 3 else 1.0 for row in range(32)]))


def test_an_embedding_of_a_text_encoder_has_factors_of_its_own(tmp_path):
    model = small.our_text_encoder()
    before = model.state_dict()["embeddings.token_embedding.weight"]
    tokens, width = before.shape
    a, b = noise(4, tokens, seed=1), noise(width, 4, seed=2)
    name = "base_model.model.text_model.embeddings.token_embedding.lora_embedding"
    file = describe(write(tmp_path, {f"{name}_A": a, f"{name}_B": b})).lora()
    changed = patched(model, "text_encoder", [(file, 1.0)]).state_dict()["embeddings.token_embedding.weight"]
    torch.testing.assert_close(changed, before + (b @ a).T, rtol=1e-3, atol=1e-3)


TEXT = "text_model.encoder.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (f"text_encoders.clip_l.transformer.{TEXT}", "text_encoder"),
        (f"text_encoders.clip_g.transformer.{TEXT}", "text_encoder_2"),
        (f"text_encoders.clip_h.transformer.{TEXT}", "text_encoder"),
        (f"clip_l.{TEXT}", "text_encoder"),
        (f"clip_l.transformer.{TEXT}", "text_encoder"),
        (f"clip_g.{TEXT}", "text_encoder_2"),
        (f"lora_te_{TEXT.replace('.', '_')}", "text_encoder"),
        (f"lora_te1_{TEXT.replace('.', '_')}", "text_encoder"),
        (f"lora_te2_{TEXT.replace('.', '_')}", "text_encoder_2"),
        (f"text_encoder.{TEXT}", "text_encoder"),
        (f"text_encoder_2.{TEXT}", "text_encoder_2"),
    ],
)
def test_names_of_text_encoders_are_known(tmp_path, name, part):
    up, down = noise(128, 4, seed=1), noise(4, 128, seed=2)
    file = describe(write(tmp_path, {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down})).lora()
    assert {part: list(modules) for part, modules in file.changes.items()} == {part: ["encoder_layers_1_self_attn_q_proj"]}
    assert unmatched(file, part, small.our_text_encoder().config) == []


GOOD = {f"{LINEAR}.lora_up.weight": UP, f"{LINEAR}.lora_down.weight": DOWN, f"{LINEAR}.alpha": torch.tensor(4.0)}
OTHER = kohya(THEIRS.replace("to_k", "to_v"))


@pytest.mark.parametrize(
    ("tensors", "reason", "count"),
    [
        ({f"{OTHER}.alpha": torch.tensor(1.0)}, "alphas and scales without a change", 1),
        ({f"{OTHER}.alpha": torch.tensor(1.0), f"{OTHER}.dora_scale": torch.ones(32, 1)}, "alphas and scales", 2),
        ({f"{OTHER}.lora_up.weight": torch.ones(32, 0), f"{OTHER}.lora_down.weight": torch.ones(0, 128)}, "rank is 0", 2),
        ({"flower_attn1.lora_up.weight": UP.clone(), "flower_attn1.lora_down.weight": DOWN.clone()}, "names are unknown", 2),
        ({"some.number": torch.ones(1)}, "names are unknown", 1),
        ({"lora_te3_encoder.lora_up.weight": UP.clone()}, "another family", 1),
    ],
)
def test_tensors_that_change_nothing_are_listed(tmp_path, tensors, reason, count):
    file = describe(write(tmp_path, GOOD | tensors)).lora()
    (unused,) = file.unused
    assert reason in unused.reason
    assert len(unused.names) == count
    used = [key for modules in file.changes.values() for roles in modules.values() for key in roles.values()]
    assert sorted((*used, *unused.names)) == sorted(file.tensors)
    assert_close(apply(tmp_path, GOOD | tensors), CHANGE)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{OTHER}.hra_u": noise(128, 8)}, "1 tensor of another kind (lora_unet_"),
        ({f"unet.{THEIRS}.hra_u": noise(128, 8)}, "1 tensor of another kind (unet."),
        ({f"base_model.model.{THEIRS}.vera_lambda_b": noise(8)}, "1 tensor of another kind (base_model."),
        ({f"base_model.model.{THEIRS}.lora_E.weight": noise(8)}, "1 tensor of another kind (base_model."),
        ({f"{OTHER}.lora_up.weight": UP.clone()}, "expected a factor 'down' of LoRA beside up, found none"),
        (
            {f"{OTHER}.a1.weight": UP.clone(), f"{OTHER}.b1.weight": UP.clone()},
            "expected a factor 'a2' of GLoRA beside a1, b1, found none",
        ),
        ({f"{OTHER}.lora_mid.weight": noise(4, 4, 3, 3)}, "expected the factors of a change beside mid, found none"),
        ({f"{OTHER}.diff_b": noise(32), f"{OTHER}.dora_scale": noise(32, 1)}, "expected the factors of a change beside dora_scale"),
        ({f"{LINEAR}.diff": CHANGE}, "expected one kind of change, found LoRA and difference"),
        ({f"{OTHER}.oft_blocks": noise(8, 4, 4), f"{OTHER}.dora_scale": noise(32, 1)}, "found 'dora_scale' beside"),
        ({f"unet.{THEIRS}.lora_A.weight": DOWN.clone()}, "expected one tensor for each factor"),
        ({f"{LINEAR}.scalar": torch.ones(2)}, f"expected one number as '{LINEAR}.scalar', found a tensor of shape [2]"),
        ({f"{OTHER}.diff": torch.ones(32, 128, dtype=torch.int8)}, f"expected '{OTHER}.diff' in F16, BF16"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path, tensors, message):
    with pytest.raises(CheckpointError) as caught:
        describe(write(tmp_path, GOOD | tensors)).lora()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{OTHER}.alpha": torch.tensor(1.0)}, "1 tensor without effect: they are alphas and scales"),
        ({"flower_attn1.lora_up.weight": UP}, "1 tensor without effect: their names are unknown (flower_attn1"),
        ({"transformer.blocks.0.lora_A.weight": UP}, "It was made for another family"),
        ({f"{OTHER}.hra_u": noise(128, 8)}, "of another kind"),
    ],
)
def test_a_file_that_changes_nothing_is_refused(tmp_path, tensors, message):
    with pytest.raises(CheckpointError) as caught:
        describe(write(tmp_path, tensors)).lora()
    assert message in str(caught.value)
    assert ("family" in str(caught.value)) is ("family" in message)


@pytest.mark.parametrize(
    "tensors",
    [
        {f"{LINEAR}.oft_blocks": noise(8, 5, 5)},
        {f"{LINEAR}.oft_blocks": noise(8, 4, 3)},
        {f"{LINEAR}.oft_blocks": noise(4)},
        {f"{LINEAR}.oft_blocks": noise(3, 32, 1, 1)},
        {f"{LINEAR}.oft_blocks": noise(8, 4, 4), f"{LINEAR}.rescale": noise(31)},
        {f"unet.{THEIRS}.oft_R.weight": noise(16, 27)},
        {f"unet.{THEIRS}.oft_R.weight": noise(17, 28)},
        {f"unet.{THEIRS}.boft_R": noise(1, 31, 4, 4), f"unet.{THEIRS}.boft_s": noise(32)},
        {f"unet.{THEIRS}.ia3_l": noise(33, 1)},
        {f"{LINEAR}.weight": noise(33), f"{LINEAR}.on_input": torch.tensor(0)},
        {f"{LINEAR}.set_weight": noise(32, 127)},
        {**GOOD, f"{LINEAR}.dora_scale": noise(31, 1)},
        {f"{LINEAR}.lora_up.weight": noise(32), f"{LINEAR}.lora_down.weight": noise(128)},
        {f"{LINEAR}.lokr_w1": noise(4), f"{LINEAR}.lokr_w2": noise(8, 16)},
        {f"{LINEAR}.hada_w{i}_{side}": noise(3, 3, 3) for i in (1, 2) for side in "ab"},
        {f"{LINEAR}.{name}.weight": noise(4, 5) for name in ("a1", "a2", "b1", "b2")},
    ],
)
def test_factors_of_wrong_shapes_are_refused_before_any_change(tmp_path, tensors):
    with pytest.raises(CheckpointError, match=r"expected .* at '.*attn2") as caught:
        unmatched(describe(write(tmp_path, tensors)).lora(), "unet", small.our_unet().config)
    assert "F32" not in str(caught.value)  # the dtype is not the cause


@pytest.mark.parametrize(
    "tensors",
    [
        {"lora_up.weight": noise(32, 4), "lora_down.weight": noise(5, 128)},
        {"lora_up.weight": noise(32, 4), "lora_down.weight": noise(4, 128), "lora_mid.weight": noise(3, 4, 1, 1)},
        {"hada_w1_a": noise(32, 4), "hada_w1_b": noise(4, 128), "hada_w2_a": noise(32, 4), "hada_w2_b": noise(4, 64)},
        {"lokr_w1": noise(4, 4), "lokr_w2_a": noise(8, 2), "lokr_w2_b": noise(3, 32)},
        {"oft_blocks": noise(8, 4, 3)},
        {"oft_R.weight": noise(16, 27)},
        {"boft_R": noise(1, 16, 4, 3), "boft_s": noise(32)},
    ],
    ids=lambda tensors: next(iter(tensors)),
)
def test_factors_that_do_not_fit_each_other_are_refused_when_the_file_is_described(tmp_path, tensors):
    """Then `check` finds them: no weight is needed to know it."""
    with pytest.raises(CheckpointError, match=r"expected factors that fit each other at '.*attn2.*', found \w+ \["):
        describe(write(tmp_path, {f"{LINEAR}.{name}": tensor for name, tensor in tensors.items()})).lora()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{LINEAR}.alpha": torch.tensor(float("nan"))}, f"expected a finite number as '{LINEAR}.alpha', found nan"),
        ({f"{LINEAR}.scalar": torch.tensor(float("inf"))}, "found inf"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_when_the_file_is_described(tmp_path, tensors, message):
    with pytest.raises(CheckpointError) as caught:
        describe(write(tmp_path, GOOD | tensors)).lora()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "dtype",
    ["float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"]
    + [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)],
)
def test_alphas_of_every_dtype_are_read_without_torch(tmp_path, dtype):
    alpha = torch.tensor([[6]], dtype=getattr(torch, dtype))
    file = describe(write(tmp_path, GOOD | {f"{LINEAR}.alpha": alpha})).lora()
    assert file.numbers == {f"{LINEAR}.alpha": 6.0}


def test_numbers_that_are_not_used_are_not_read(tmp_path):
    unused = f"{LINEAR.replace('to_k', 'to_q')}.alpha"
    file = describe(write(tmp_path, GOOD | {unused: torch.tensor(float("nan"))})).lora()
    assert file.numbers == {f"{LINEAR}.alpha": 4.0}
    assert file.notes == (f"1 of 4 tensors are not used: they are alphas and scales without a change ({unused})",)


def test_an_ia3_with_the_wrong_side_is_refused_when_it_is_applied(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected 32 factors at 'lora_unet_.*, found 128"):
        apply(tmp_path, {f"{LINEAR}.weight": noise(128), f"{LINEAR}.on_input": torch.tensor(0)})


def test_bundled_embeddings_are_listed_by_word(tmp_path):
    vectors = {"bundle_emb.my style.string_to_param.*": noise(2, 128), "bundle_emb.other.clip_l": noise(1, 128)}
    save_file(GOOD | vectors, tmp_path / "lora.safetensors")
    file = describe(tmp_path / "lora.safetensors").lora()
    assert file.embeddings == {
        "my_style": {"emb_params": "bundle_emb.my style.string_to_param.*"},
        "other": {"clip_l": "bundle_emb.other.clip_l"},
    }
    assert file.unused == ()
