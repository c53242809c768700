"""The text encoder equals transformers' in every dtype, and can be trained."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from tests.support import small_networks as small
from tests.support.synthetic_checkpoints import read_layout

TOKENS = torch.randint(0, 98, (2, 16), generator=torch.Generator().manual_seed(7))


def test_default_has_the_published_names_and_shapes():
    with torch.device("meta"):
        model = CLIPTextModel(CLIPTextConfig())
    ours = {f"cond_stage_model.transformer.text_model.{k}": list(v.shape) for k, v in model.state_dict().items()}
    published = {key: shape for key, shape in read_layout("sd15-ldm").items() if key.startswith("cond_stage")}
    del published["cond_stage_model.transformer.text_model.embeddings.position_ids"]
    assert ours == published


@pytest.mark.parametrize("changes", [{}, {"activation": "gelu"}, {"heads": 4, "layers": 2}])
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_text_encoder_equals_transformers(changes, clip_skip):
    config = dataclasses.replace(small.TEXT, **changes)
    reference, model = small.reference_text_encoder(config), CLIPTextModel(config)
    model.load_state_dict({key.removeprefix("text_model."): value for key, value in reference.state_dict().items()})

    hidden = reference(TOKENS, output_hidden_states=True).hidden_states[-clip_skip]
    assert small.difference(model(TOKENS, clip_skip), model.final_layer_norm(hidden)) <= small.TOLERANCE


def test_tokens_see_only_earlier_tokens():
    model, changed = small.our_text_encoder(), TOKENS.clone()
    changed[:, 9] += 1
    before, after = model(TOKENS), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert (before[:, 9:] != after[:, 9:]).any(dim=-1).all()


def test_encoder_like_berts_equals_torchs():
    """Not causal, GELU, norms before each layer and at the end: that of the latent diffusion paper."""
    torch.manual_seed(0)
    config = dataclasses.replace(small.TEXT, causal=False, activation="gelu")
    layer = nn.TransformerEncoderLayer(
        config.width, config.heads, config.mlp_width, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    reference = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(config.width), enable_nested_tensor=False)
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.2)
    model = CLIPTextModel(config).requires_grad_(False)
    names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "linear1": "mlp.fc1", "linear2": "mlp.fc2"}
    state = {f"final_layer_norm.{name}": value for name, value in reference.norm.state_dict().items()}  # type: ignore[union-attr]
    for index, theirs in enumerate(reference.layers):
        prefix = f"encoder.layers.{index}"
        for name, ours in names.items():
            state |= {f"{prefix}.{ours}.{key}": value for key, value in theirs.get_submodule(name).state_dict().items()}
        for kind in ("weight", "bias"):
            parts = theirs.get_parameter(f"self_attn.in_proj_{kind}").chunk(3)
            state |= {f"{prefix}.self_attn.{name}_proj.{kind}": part for name, part in zip("qkv", parts, strict=True)}
            state[f"{prefix}.self_attn.out_proj.{kind}"] = theirs.get_parameter(f"self_attn.out_proj.{kind}")
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(name.startswith("embeddings.") for name in missing)
    assert small.difference(model(TOKENS), reference(model.embeddings(TOKENS))) <= small.TOLERANCE
    changed = TOKENS.clone()
    changed[:, 9] += 1
    assert (model(TOKENS)[:, :9] != model(changed)[:, :9]).any(dim=-1).all()  # earlier tokens see it, too


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype):
    model = small.our_text_encoder()
    expected = model(TOKENS)
    half = model.to(dtype)(TOKENS)
    assert half.dtype == dtype
    assert small.difference(half, expected) < small.half_tolerance(dtype)


def test_gradients_reach_every_parameter():
    model = small.our_text_encoder().requires_grad_(True)
    model(TOKENS).pow(3).mean().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize("clip_skip", [0, 4])
def test_clip_skip_must_name_a_layer(clip_skip):
    with pytest.raises(ValueError, match=f"between 1 and 3, .* got {clip_skip}"):
        small.our_text_encoder()(TOKENS, clip_skip)


def test_too_many_tokens_are_refused():
    with pytest.raises(ValueError, match="at most 16 tokens fit the text encoder, got 17"):
        small.our_text_encoder()(torch.zeros(1, 17, dtype=torch.int64))
