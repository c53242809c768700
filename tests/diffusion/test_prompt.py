"""Prompts are weighted, chunked and encoded by ComfyUI's rules; test_reference.py compares them with its values."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from nodegraph_diffusion.text.encode import Reader, chunk_prompt, encode_prompt, parse_weights, read_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from tests.support import synthetic_checkpoints as synthetic

TOKENIZER = load_tokenizer()
SEVEN = "one two three four five six seven"  # seven tokens, a token a word
CONFIG = CLIPTextConfig(width=32, layers=3, heads=2, mlp_width=64)


@pytest.fixture(scope="module")
def model():
    text_encoder = CLIPTextModel(CONFIG).eval().requires_grad_(False)
    synthetic.fill(text_encoder)
    return text_encoder


@pytest.mark.parametrize(
    ("text", "stretches"),
    [
        ("", []),
        ("a red fox", [("a red fox", 1)]),
        ("a (red) fox", [("a ", 1), ("red", 1.1), (" fox", 1)]),
        ("((snow))", [("snow", 1.21)]),
        ("(((snow)))", [("snow", 1.331)]),
        ("(red fox:1.4)", [("red fox", 1.4)]),
        ("(red fox: 0.5 )", [("red fox", 0.5)]),
        ("(red:-1)(fox:0)", [("red", -1), ("fox", 0)]),
        ("((red:1.4) fox)", [("red", 1.4), (" fox", 1.1)]),
        ("((red) fox:2)", [("red", 2.2), (" fox", 2)]),
        ("(ratio 16:9)", [("ratio 16", 9)]),
        ("(a: b:1.2)", [("a: b", 1.2)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(:1.2)", [(":1.2", 1.1)]),
        ("(a:inf)(b:nan)", [("a:inf", 1.1), ("b:nan", 1.1)]),
        ("a:1.2", [("a:1.2", 1)]),
        ("[deep] {x|y}", [("[deep] {x|y}", 1)]),
        (r"\(detailed\)", [("(detailed)", 1)]),
        (r"(face \(smiling\):1.2)", [("face (smiling)", 1.2)]),
        (r"a \ b", [(r"a \ b", 1)]),
        ("()", []),
        ("a (b", [("a ", 1), ("(b", 1)]),
        ("a) b", [("a) b", 1)]),
        ("a) (b) c", [("a) (b) c", 1)]),
        ("(a (b) c", [("(a (b) c", 1)]),
        (r"(a\)", [("(a)", 1)]),
        ("(" * 3000 + "a", [("(" * 3000 + "a", 1)]),
        (
            r"a (red fox:1.4) in [deep] ((snow)), \(detailed\)",
            [("a ", 1), ("red fox", 1.4), (" in [deep] ", 1), ("snow", 1.21), (", (detailed)", 1)],
        ),
    ],
)
def test_weights_are_parsed(text, stretches):
    parsed = parse_weights(text)
    assert [part for part, _ in parsed] == [part for part, _ in stretches]
    assert [weight for _, weight in parsed] == pytest.approx([weight for _, weight in stretches])


def test_deep_nesting_does_not_recurse():
    text, weight = parse_weights("(" * 1001 + "a:0.5" + ")" * 1001)[0]
    assert (text, weight) == ("a", 0.5)


def contents(text, tokenizer=TOKENIZER):
    """The tokens between begin and end of each chunk, after checking its begin, end and padding."""
    bodies = []
    for chunk in chunk_prompt(tokenizer, text):
        tokens = [token for token, _ in chunk]
        end = tokens.index(tokenizer.eos)
        assert len(chunk) == tokenizer.max_length
        assert tokens[0] == tokenizer.bos
        assert set(tokens[end + 1 :]) <= {tokenizer.pad}
        assert all(weight == 1 for token, weight in (chunk[0], *chunk[end:]))
        bodies.append(chunk[1:end])
    return bodies


def test_short_prompt_is_one_chunk():
    assert contents("a (red:1.5) fox") == [[(320, 1.0), (736, 1.5), (3240, 1.0)]]
    assert contents("") == [[]]


@pytest.mark.parametrize(("words", "sizes"), [(75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])])
def test_long_prompt_is_cut_every_75_tokens(words, sizes):
    assert [len(body) for body in contents("fox " * words)] == sizes


@pytest.mark.parametrize(
    ("before", "stretch", "sizes"),
    [
        (68, SEVEN, [75]),
        (69, SEVEN, [69, 7]),  # fewer than 8 tokens of one weight stay together
        (69, f"{SEVEN} eight", [75, 2]),
        (75, SEVEN, [75, 7]),
        (75, f"{SEVEN} eight", [75, 8]),
    ],
)
def test_short_weighted_part_is_not_cut(before, stretch, sizes):
    assert [len(body) for body in contents("fox " * before + f"({stretch}:1.3)")] == sizes


def test_part_longer_than_a_chunk_is_cut():
    tiny = dataclasses.replace(TOKENIZER, max_length=5)
    assert [len(body) for body in contents("a (red blue green white black:1.2)", tiny)] == [3, 3]
    assert [len(body) for body in contents("a (red blue green:1.2)", tiny)] == [1, 3]


def test_padding_follows_the_tokenizer():
    assert chunk_prompt(dataclasses.replace(TOKENIZER, pad=0), "fox")[0][-1] == (0, 1.0)


def test_prompt_is_encoded_as_by_the_model(model):
    tokens = torch.tensor([[token for token, _ in chunk_prompt(TOKENIZER, "a red fox")[0]]])
    encoded = encode_prompt(model, TOKENIZER, "a red fox")
    assert encoded.shape == (1, 77, 32)
    assert torch.equal(encoded, model(tokens))
    assert torch.equal(encode_prompt(model, TOKENIZER, "a red fox", clip_skip=2), model(tokens, 2))


def test_long_prompt_is_encoded_chunk_by_chunk(model):
    encoded = encode_prompt(model, TOKENIZER, "fox " * 80)
    assert encoded.shape == (1, 2 * 77, 32)
    torch.testing.assert_close(encoded[:, :77], encode_prompt(model, TOKENIZER, "fox " * 75))
    torch.testing.assert_close(encoded[:, 77:], encode_prompt(model, TOKENIZER, "fox " * 5))


def test_weights_move_tokens_away_from_the_empty_prompt(model):
    plain, empty = (encode_prompt(model, TOKENIZER, text) for text in ("a red fox", ""))
    weighted = encode_prompt(model, TOKENIZER, "a (red:1.5) (fox:0)")
    torch.testing.assert_close(weighted[:, 2], empty[:, 2] + 1.5 * (plain[:, 2] - empty[:, 2]))
    torch.testing.assert_close(weighted[:, 3], empty[:, 3])
    untouched = [0, 1, *range(4, 77)]
    torch.testing.assert_close(weighted[:, untouched], plain[:, untouched])


def test_weights_apply_in_every_chunk(model):
    plain, empty = encode_prompt(model, TOKENIZER, "fox " * 75 + "red " * 8), encode_prompt(model, TOKENIZER, "")
    weighted = encode_prompt(model, TOKENIZER, "fox " * 75 + "(" + "red " * 8 + ":0.5)")
    torch.testing.assert_close(weighted[:, :78], plain[:, :78])
    torch.testing.assert_close(weighted[:, 78:86], (plain[:, 78:86] + empty[:, 1:9]) / 2)


def test_encodings_are_float32_without_gradients(model):
    encoder = CLIPTextModel(CONFIG).to(torch.bfloat16)
    encoded = encode_prompt(encoder, TOKENIZER, "a (red:1.5) fox")
    assert encoded.dtype == torch.float32
    assert not encoded.requires_grad


@pytest.mark.parametrize("change", [{"vocab_size": 1000}, {"max_length": 60}])
def test_tokenizer_of_another_model_is_refused(change):
    model = CLIPTextModel(dataclasses.replace(CONFIG, **change))
    with pytest.raises(ValueError, match=r"prompt: expected a tokenizer for a text encoder of .* found one of 49408 tokens"):
        encode_prompt(model, TOKENIZER, "a red fox")


def test_tokenizer_without_room_is_refused():
    with pytest.raises(ValueError, match="max_length of at least 3, found 2"):
        chunk_prompt(dataclasses.replace(TOKENIZER, max_length=2), "a")


# --- a text for each of two encoders


@pytest.fixture(scope="module")
def readers(model):
    second = CLIPTextModel(dataclasses.replace(CONFIG, width=48, activation="gelu", projection=16)).eval().requires_grad_(False)
    synthetic.fill(second)
    return Reader(model, TOKENIZER), Reader(second, load_tokenizer(pad=0))


def test_each_encoder_reads_its_own_text(readers):
    red, blue = (read_prompt(readers, text) for text in ("a (red:1.3) house", "blue"))
    both = read_prompt(readers, "a (red:1.3) house", text_2="blue")
    assert torch.equal(both.embedding, torch.cat([red.embedding[..., :32], blue.embedding[..., 32:]], dim=-1))
    assert torch.equal(both.pooled, blue.pooled)
    assert torch.equal(read_prompt(readers, "a (red:1.3) house", text_2="a (red:1.3) house").embedding, red.embedding)


@pytest.mark.parametrize(("text", "text_2"), [("blue", SEVEN * 12), (SEVEN * 12, "blue")])
def test_the_shorter_text_is_filled_up_with_empty_chunks(readers, text, text_2):
    both = read_prompt(readers, text, text_2=text_2).embedding
    parts = [read_prompt(readers, part).embedding for part in (text, text_2)]
    empty = read_prompt(readers, "").embedding
    assert both.shape[1] == max(part.shape[1] for part in parts) == 154
    filled = [torch.cat([part, empty], dim=1)[:, :154] if part.shape[1] == 77 else part for part in parts]
    assert torch.allclose(both, torch.cat([filled[0][..., :32], filled[1][..., 32:]], dim=-1), atol=1e-5)


def test_a_second_text_needs_a_second_encoder(readers):
    with pytest.raises(ValueError, match="text_2: expected a model with two text encoders, such as SDXL, found 1; leave it out"):
        read_prompt(readers[:1], "a", text_2="b")
