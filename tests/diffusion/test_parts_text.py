"""Single text encoders: whatever their key names, they compute what transformers' do, as the family reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import CheckpointError, describe, load_text_encoder, pair_text_encoders, verify
from nodegraph_diffusion.networks.config import CLIPTextConfig
from tests.support import small_networks as small
from tests.support.tensor_files import below, write

State = dict[str, Tensor]

TOKENS = torch.tensor([[512, 5, 6, 7, 513, *[513] * 11]])
BIG = CLIPTextConfig(
    vocab_size=514,
    width=192,
    layers=3,
    heads=3,
    max_length=16,
    mlp_width=96,
    activation="gelu",
    projection=64,
    layer=2,
    final_norm=False,
    eos=513,
)


def bare(state: Mapping[str, Tensor]) -> State:
    return {key.removeprefix("text_model."): value for key, value in state.items()}


POSITIONS = {"text_model.embeddings.position_ids": torch.arange(16)[None]}
FIRSTS: dict[str, Callable[[State], State]] = {
    "text_model": lambda state: below("text_model.", bare(state)),
    "bare": bare,
    "position ids": lambda state: below("text_model.", bare(state)) | POSITIONS,
    "ldm": lambda state: below("cond_stage_model.transformer.text_model.", bare(state)),
    "ldm, bare": lambda state: below("cond_stage_model.transformer.", bare(state)),
    "with the half that sees pictures": lambda state: (
        below("text_model.", bare(state))
        | {"vision_model.x.weight": torch.ones(2), "visual_projection.weight": torch.ones(2, 2), "logit_scale": torch.ones(())}
        | {"text_projection.weight": torch.ones(128, 128)}
    ),
}


@pytest.mark.parametrize("layout", [name for name in FIRSTS if name != "with the half that sees pictures"])
def test_text_encoder_alone_is_read(tmp_path, layout):
    reference = small.reference_text_encoder(small.TEXT)
    file = write(tmp_path, FIRSTS[layout](reference.state_dict()))
    found = describe(file).text_encoders()
    verify(found)
    assert (found.kind, [part.config for part in found.parts], found.files) == ("sd1", [small.TEXT], (file,))
    ours = load_text_encoder(found.parts[0], "cpu", torch.float32)(TOKENS)
    assert small.difference(ours, reference(TOKENS).last_hidden_state) <= small.TOLERANCE
    assert describe(file).model_or_part() == found


def test_vision_half_of_clip_is_ignored(tmp_path):
    file = write(tmp_path, FIRSTS["with the half that sees pictures"](small.reference_text_encoder(small.TEXT).state_dict()))
    found = describe(file).text_encoders("sd1")
    verify(found)
    assert found.parts[0].config == small.TEXT


@pytest.mark.parametrize("origin", ["folder", "file"])
def test_text_encoder_uses_the_config_beside_it(tmp_path, origin):
    config = dataclasses.replace(small.TEXT, activation="gelu", heads=4)  # which shapes cannot show
    reference = small.reference_text_encoder(config)
    reference.save_pretrained(tmp_path)
    found = describe(tmp_path if origin == "folder" else tmp_path / "model.safetensors").text_encoders()
    assert (found.kind, found.parts[0].config, found.parts[0].tokenizer) == ("sd2", config, None)
    assert set(found.files) == {tmp_path / "config.json", tmp_path / "model.safetensors"}
    ours = load_text_encoder(found.parts[0], "cpu", torch.float32)(TOKENS)
    assert small.difference(ours, reference(TOKENS).last_hidden_state) <= small.TOLERANCE


@pytest.mark.parametrize(
    ("naming", "prefix"),
    [
        ("transformers", ""),
        ("openclip", ""),
        ("openclip", "conditioner.embedders.0.model."),
        ("openclip", "conditioner.embedders.1.model."),
    ],
)
def test_text_encoder_with_a_projection_is_read(tmp_path, naming, prefix):
    reference = small.reference_text_encoder(BIG, projected=True)
    state = reference.state_dict()
    file = write(
        tmp_path, below(prefix, small.openclip_names(state) | {"logit_scale": torch.ones(())} if naming == "openclip" else state)
    )
    found = describe(file).text_encoders()
    verify(found)
    assert (found.kind, found.parts[0].weights.part, found.parts[0].config) == ("sdxl-refiner", "text_encoder_2", BIG)
    hidden, pooled = load_text_encoder(found.parts[0], "cpu", torch.float32).encode(TOKENS)
    expected = reference(TOKENS, output_hidden_states=True)
    assert small.difference(hidden, expected.hidden_states[-2]) <= small.TOLERANCE
    assert small.difference(pooled, expected.text_embeds) <= small.TOLERANCE


@pytest.mark.parametrize("prefix", ["", "cond_stage_model.model."])
def test_openclip_text_encoder_of_sd2_is_read(tmp_path, prefix):
    """Its last layer exists but is not read."""
    config = dataclasses.replace(small.TEXT, activation="gelu", layer=2)
    reference = small.reference_text_encoder(config)
    found = describe(write(tmp_path, below(prefix, small.openclip_names(reference.state_dict())))).text_encoders()
    assert (found.kind, found.parts[0].config) == ("sd2", config)
    ours = load_text_encoder(found.parts[0], "cpu", torch.float32).encode(TOKENS)[0]
    before_last = reference(TOKENS, output_hidden_states=True).hidden_states[-2]
    normed = getattr(reference, "text_model", reference).final_layer_norm(before_last)
    assert small.difference(ours, normed) <= small.TOLERANCE


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Small versions of CLIP-L and bigG, in one file each."""
    first = write(tmp_path, small.reference_text_encoder(small.TEXT).state_dict(), "clip_l.safetensors")
    return first, write(tmp_path, small.reference_text_encoder(BIG, projected=True).state_dict(), "clip_g.safetensors")


def test_two_files_are_the_text_encoders_of_sdxl(pair):
    found = pair_text_encoders(*map(describe, pair))
    verify(found)
    assert (found.kind, found.width, found.files) == ("sdxl", small.TEXT.width + BIG.width, pair)
    assert [part.config for part in found.parts] == [dataclasses.replace(small.TEXT, layer=2, final_norm=False), BIG]


def test_swapped_files_are_an_error(pair):
    with pytest.raises(CheckpointError, match=r"expected a text encoder with a projection.*CLIP-L is its first"):
        pair_text_encoders(*map(describe, reversed(pair)))
    projected = load_file(pair[0]) | {"text_projection.weight": torch.ones(128, 128)}
    with pytest.raises(CheckpointError, match="Swap text_encoder and text_encoder_2"):
        pair_text_encoders(describe(pair[1]), describe(write(pair[0].parent, projected)))


def test_one_file_is_not_enough_for_sdxl(pair):
    with pytest.raises(CheckpointError, match="expected the two text encoders of Stable Diffusion XL, found one"):
        describe(pair[0]).text_encoders("sdxl")
