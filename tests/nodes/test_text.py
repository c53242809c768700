"""The TextEncode node."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.text.encode import encode_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from nodegraph_nodes.models.text_encoders import load_text_network
from nodegraph_nodes.nodes import text as text_module
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Conditioning
from tests.support.small_model import UNET

LONG = "a red house at night a blue boat " * 3  # 24 words, each one token


def test_encoding_equals_the_library(model, model_folder, run):
    encoded = text_encode(model.text_encoder, "a (red:1.3) house", run=run)
    network, tokenizer = load_text_network(model.text_encoder, run), load_tokenizer(model_folder / "tokenizer")
    expected = encode_prompt(network, tokenizer, "a (red:1.3) house")
    assert isinstance(encoded, Conditioning)
    assert encoded.prompts[0].embedding.dtype == torch.float32
    assert encoded.prompts[0].embedding.shape == (1, 16, UNET.context_dim)
    assert torch.equal(encoded.prompts[0].embedding, expected)
    assert run.notices == []


def test_empty_prompt_is_encoded(model, run):
    assert text_encode(model.text_encoder, "", run=run).prompts[0].embedding.shape == (1, 16, UNET.context_dim)
    assert run.notices == []


def test_long_prompt_is_chunked_with_a_notice(model, run):
    assert text_encode(model.text_encoder, LONG, run=run).prompts[0].embedding.shape == (1, 32, UNET.context_dim)
    (notice,) = run.notices
    assert notice.startswith("the prompt is longer than the 14 tokens that the model reads at once: it is read in 2 chunks")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red hut", "does not contain 'hut'; such a word has little effect"),
        ("a hut, a cat", "does not contain 'hut' and 'cat'; such a word has little effect"),
        (" ".join(f"z{'ab'[i % 2] * i}" for i in range(1, 11)), "and 2 more; such a word has little effect"),
    ],
)
def test_unknown_words_give_a_notice(model, run, text, message):
    text_encode(model.text_encoder, text, run=run)
    assert message in run.notices[0]


def test_clip_skip_reads_an_earlier_layer(model, run):
    last, earlier = (text_encode(model.text_encoder, "a red boat", clip_skip=skip, run=run).prompts[0].embedding for skip in (1, 2))
    assert not torch.allclose(last, earlier)


def test_clip_skip_beyond_the_first_layer_is_refused(model, run):
    with pytest.raises(ValueError, match="clip_skip: expected at most 2, the number of layers of this text encoder, found 3"):
        text_encode(model.text_encoder, "a red boat", clip_skip=3, run=run)
    assert not run.residents


def test_network_and_tokenizer_are_loaded_once(model, run):
    for text in ("a", "red", "boat"):
        text_encode(model.text_encoder, text, run=run)
    assert len(run.residents) == 2


@pytest.mark.parametrize(
    ("part", "advice"),
    [
        ("<lora:film:0.8>", "a LoRA is a node: LoadLora"),
        ("{red|blue}", "let a TextTemplate node draw one"),
        ("__colours__", "let a TextTemplate node draw one"),
        ("[a:red:0.5]", "syntax: a1111"),
        ("[red|blue]", "syntax: a1111"),
        ("AND", "syntax: a1111"),
        ("$params.style", "a param is a whole value"),
        ("a,embedding:film", "put a space before"),
    ],
)
def test_syntax_of_other_programs_gets_one_note(model, run, part, advice):
    text_encode(model.text_encoder, f"a red {part} house {part}", run=run)
    (note,) = [notice for notice in run.notices if "syntax of other programs" in notice]
    assert note.count(f"'{part}'") == 1
    assert advice in note


@pytest.mark.parametrize(
    "text", [r"a \[red|blue\] house", "a (red:1.2) house", "a snake_case word", "$5 and $words", "BREAK a [house]"]
)
def test_plain_text_gets_no_note(model, run, text):
    text_encode(model.text_encoder, text, run=run)
    assert not [notice for notice in run.notices if "syntax of other programs" in notice]


def test_a1111_prompts_are_encoded_for_their_steps(model, run):
    encoded = text_encode(model.text_encoder, "a [red:blue:0.5] house AND a boat :0.5", syntax="a1111", run=run)
    assert not [notice for notice in run.notices if "syntax of other programs" in notice]
    assert [(prompt.term, prompt.term_weight) for prompt in encoded.prompts] == [(0, 1.0), (0, 1.0), (1, 0.5)]
    assert [[prompt.applies(step, 4) for step in range(4)] for prompt in encoded.prompts] == [
        [True, True, False, False],
        [False, False, True, True],
        [True] * 4,
    ]
    second = text_encode(model.text_encoder, "a blue house ", syntax="a1111", run=run)
    assert torch.equal(encoded.prompts[1].embedding, second.prompts[0].embedding)


def test_second_text_reaches_the_second_encoder(model, run, monkeypatch):
    """The small model has one encoder; here it stands for both of SDXL's."""
    (reader,) = text_module.load_readers(model.text_encoder, run)
    monkeypatch.setattr(text_module, "load_readers", lambda encoder, run, clip_skip: (reader, reader))
    both = text_encode(model.text_encoder, "a red house", text_2="night", run=run).prompts[0].embedding
    red, night = (text_encode(model.text_encoder, text, run=run).prompts[0].embedding for text in ("a red house", "night"))
    width = UNET.context_dim
    assert torch.equal(both, torch.cat([red[..., :width], night[..., width:]], dim=-1))
    with pytest.raises(ValueError, match=r"text_2: expected a prompt without \[a:b:0\.5\]"):
        text_encode(model.text_encoder, "a", text_2="[red|blue]", syntax="a1111", run=run)


def test_second_text_is_refused_for_one_encoder(model, run):
    with pytest.raises(ValueError, match="text_2: expected a model with two text encoders, such as SDXL, found 1"):
        text_encode(model.text_encoder, "a", text_2="b", run=run)
