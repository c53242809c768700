"""A1111's rules, BREAK, embeddings and models with two text encoders."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers

from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from nodegraph_diffusion.text.encode import Reader, chunk_prompt, encode_prompt, read_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic

TOKENIZER = load_tokenizer()
CONFIG = CLIPTextConfig(width=32, layers=3, heads=2, mlp_width=64)
POOLING = CLIPTextConfig(width=48, layers=3, heads=2, mlp_width=64, activation="gelu", projection=24, layer=2, final_norm=False)
FOX, RED = 3240, 736


def encoder(config):
    model = CLIPTextModel(config).eval().requires_grad_(False)
    synthetic.fill(model)
    return model


@pytest.fixture(scope="module")
def model():
    return encoder(CONFIG)


def bodies(text, syntax="comfyui", **embeddings):
    """The tokens between begin and end of each chunk."""
    chunks = ([token for token, _ in chunk] for chunk in chunk_prompt(TOKENIZER, text, syntax, embeddings))
    return [chunk[1 : chunk.index(TOKENIZER.eos)] for chunk in chunks]


# --- chunks


@pytest.mark.parametrize("syntax", ["comfyui", "a1111"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fox BREAK red", [[FOX], [RED]]),
        ("(fox BREAK red:1.2)", [[FOX], [RED]]),
        ("fox\nBREAK\nred", [[FOX], [RED]]),
        ("fox BREAK", [[FOX]]),
        ("BREAK fox", [[], [FOX]]),
        ("fox BREAK BREAK red", [[FOX], [], [RED]]),
        ("BREAK", [[]]),
        ("fox BREAKS", [[FOX, *TOKENIZER.encode("breaks")]]),
        ("", [[]]),
    ],
)
def test_break_begins_a_chunk(text, expected, syntax):
    assert bodies(text, syntax) == expected


@pytest.mark.parametrize(
    ("before", "between", "sizes"),
    [
        (74, 0, [75]),  # the comma is the last that fits
        (54, 20, [75]),
        (54, 21, [75, 1]),  # the comma is 21 tokens from the end: too far
        (55, 20, [56, 20]),
        (70, 10, [71, 10]),
        (75, 3, [75, 4]),  # the comma itself begins the next chunk
    ],
)
def test_a1111_cuts_after_a_comma_near_the_end(before, between, sizes):
    text = "fox " * before + "," + " red" * between
    assert [len(body) for body in bodies(text, "a1111")] == sizes


def test_a1111_can_cut_weighted_parts():
    text = "fox " * 72 + "(red red red red red:1.2)"
    assert [len(body) for body in bodies(text, "a1111")] == [75, 2]
    assert [len(body) for body in bodies(text, "comfyui")] == [72, 5]


# --- A1111's mean


def test_a1111_weighs_encodings_and_restores_the_mean(model):
    plain = encode_prompt(model, TOKENIZER, "a red fox BREAK red")
    weighted = read_prompt([Reader(model, TOKENIZER)], "a (red:1.5) [fox] BREAK (red:0.5)", syntax="a1111").embedding
    weights = torch.ones(2, 77)
    weights[0, 2], weights[0, 3], weights[1, 1] = 1.5, 1 / 1.1, 0.5
    for k in range(2):
        chunk = plain[0, 77 * k : 77 * (k + 1)]
        scaled = chunk * weights[k][:, None]
        torch.testing.assert_close(weighted[0, 77 * k : 77 * (k + 1)], scaled * chunk.mean() / scaled.mean(), rtol=1e-4, atol=1e-5)
    assert torch.equal(read_prompt([Reader(model, TOKENIZER)], "a red fox", syntax="a1111").embedding, plain[:, :77])


# --- embeddings


def test_embedding_is_read_as_its_vectors(model):
    red = model.embeddings.token_embedding.weight[RED]
    reader = Reader(model, TOKENIZER, {"other": torch.ones(3, 32), "crimson": torch.stack([red, red])})
    for text in ("a embedding:crimson fox", "a embedding:crimson, fox", "a (embedding:crimson:1.2) fox"):
        like = text.replace("embedding:crimson", "red red")
        assert torch.equal(read_prompt([reader], text).embedding, encode_prompt(model, TOKENIZER, like))


def test_embedding_is_not_cut():
    rows = range(49408, 49412)
    assert bodies("fox " * 73 + "embedding:thing red", thing=rows) == [[FOX] * 73, [*rows, RED]]
    assert bodies("fox " * 73 + "embedding:thing red", "a1111", thing=rows) == [[FOX] * 73, [*rows, RED]]
    assert [len(body) for body in bodies("embedding:long", "a1111", long=range(49408, 49508))] == [75, 25]


def test_unknown_embedding_is_refused(model):
    reader = Reader(model, TOKENIZER, {"crimson": torch.ones(1, 32), "azure": None})
    with pytest.raises(ValueError, match=r"after 'embedding:', found 'scarlet'; it has azure, crimson\. Load it"):
        read_prompt([reader], "a embedding:scarlet fox")
    with pytest.raises(ValueError, match="it has none"):
        encode_prompt(model, TOKENIZER, "embedding:scarlet")
    assert torch.equal(read_prompt([reader], "a embedding:azure").embedding, encode_prompt(model, TOKENIZER, "a"))


# --- two encoders


@pytest.mark.parametrize("text", ["a (red:1.5) fox", "fox " * 80])
def test_two_encodings_are_joined(model, text):
    second = encoder(POOLING)
    padded = dataclasses.replace(TOKENIZER, pad=0)
    prompt = read_prompt([Reader(model, TOKENIZER), Reader(second, padded)], text)
    apart = [encode_prompt(model, TOKENIZER, text), encode_prompt(second, padded, text)]
    assert torch.equal(prompt.embedding, torch.cat(apart, dim=-1))
    first = torch.tensor([[token for token, _ in chunk_prompt(padded, text)[0]]])
    torch.testing.assert_close(prompt.pooled, second.encode(first)[1])  # without weights, of the first chunk
    assert prompt.pooled.shape == (1, 24)


def test_different_lengths_are_cut_to_the_shorter(model):
    readers = [Reader(model, TOKENIZER, {"long": torch.ones(90, 32)}), Reader(encoder(POOLING), TOKENIZER, {"long": None})]
    assert read_prompt(readers, "embedding:long").embedding.shape == (1, 77, 80)


@pytest.mark.parametrize("clip_skip", [None, 1, 3])
def test_pooled_encoding_equals_transformers(clip_skip):
    config = transformers.CLIPTextConfig(
        vocab_size=small.TEXT.vocab_size,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        hidden_act="gelu",
        projection_dim=24,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=0,
    )
    theirs = transformers.CLIPTextModelWithProjection(config).eval()
    ours = CLIPTextModel(dataclasses.replace(POOLING, vocab_size=514, max_length=16, eos=513)).eval().requires_grad_(False)
    synthetic.fill(ours)
    missing = theirs.load_state_dict(
        {key if key.startswith("text_projection") else f"text_model.{key}": value for key, value in ours.state_dict().items()},
        strict=False,
    )
    assert not missing.unexpected_keys
    tokens = torch.tensor([[512, 5, 7, 513, *[0] * 12], [512, 9, 513, *[513] * 13]])
    with torch.no_grad():
        expected = theirs(tokens, output_hidden_states=True)
    hidden, pooled = ours.encode(tokens, clip_skip)
    assert small.difference(pooled, expected.text_embeds) <= small.TOLERANCE
    assert small.difference(hidden, expected.hidden_states[-(clip_skip or 2)]) <= small.TOLERANCE
