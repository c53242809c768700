"""Textual inversion and clip skip read prompts as diffusers does."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodegraph_diffusion.checkpoint import Checkpoint, describe, load_text_encoder
from nodegraph_diffusion.text.encode import Reader, read_prompt
from nodegraph_diffusion.text.inversion import read_inversion
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from tests.support import small_networks as small
from tests.support.families import FAMILIES, encode


def sd1(folder: Path) -> diffusers.DiffusionPipeline:
    return small.pipeline(folder, diffusers.StableDiffusionPipeline, small.reference_unet(), small.scheduler())


@pytest.fixture
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[diffusers.DiffusionPipeline, Checkpoint]:
    pipeline = {"sd1": sd1, **FAMILIES}[request.param](tmp_path)
    pipeline.save_pretrained(tmp_path / "model")
    return pipeline, describe(tmp_path / "model").model()


def readers(checkpoint: Checkpoint, word: str = "", vectors: tuple[Tensor | None, ...] = ()) -> list[Reader]:
    return [
        Reader(load_text_encoder(part, "cpu", torch.float32), load_tokenizer(part.tokenizer), {word: vectors[i]} if word else {})
        for i, part in enumerate(checkpoint.text.parts)
    ]


@pytest.mark.parametrize("saved", ["sd1", "sd2", "sdxl"], indirect=True)
@pytest.mark.parametrize("count", [1, 3])
def test_textual_inversion_equals_diffusers(tmp_path, saved, count):
    pipeline, checkpoint = saved
    tensors = {
        name: small.noise(count, text.config.width).mul(0.05 * (i + 1))
        for i, (name, text) in enumerate(zip(("clip_l", "clip_g"), checkpoint.text.parts, strict=False))
    }
    if len(tensors) == 1:
        tensors = {"emb_params": tensors["clip_l"]}
    save_file(tensors, tmp_path / "style.safetensors")
    encoders = [(pipeline.text_encoder, pipeline.tokenizer)]
    if len(tensors) == 2:
        encoders.append((pipeline.text_encoder_2, pipeline.tokenizer_2))
    for (encoder, tokenizer), vectors in zip(encoders, tensors.values(), strict=True):
        pipeline.load_textual_inversion(vectors, token="<style>", text_encoder=encoder, tokenizer=tokenizer)
    style = describe(tmp_path / "style.safetensors").embedding()
    vectors = read_inversion(style, [text.config.width for text in checkpoint.text.parts])
    extended, plain = readers(checkpoint, "style", vectors), readers(checkpoint)
    for prompt in ("a {} house", "{}", "red {}"):
        expected, pooled = encode(pipeline, prompt.format("<style>"))
        ours = read_prompt(extended, prompt.format("embedding:style"))
        assert small.difference(ours.embedding, expected) <= small.TOLERANCE
        assert pooled is None or small.difference(ours.pooled, pooled) <= small.TOLERANCE
        assert small.difference(read_prompt(plain, prompt.format("").strip()).embedding, expected) > 0.1


@pytest.mark.parametrize(("saved", "trained"), [("sd1", 1), ("sd2", 1), ("sdxl", 2)], indirect=["saved"])
def test_clip_skip_equals_diffusers(saved, trained):
    """Ours is the number of the layer, counted from the last; diffusers' is how many more are skipped than in training."""
    pipeline, checkpoint = saved
    encoder = pipeline.text_encoder
    if not hasattr(encoder, "text_model"):  # diffusers 0.42 reaches below it for what transformers 5.6 has in place
        object.__setattr__(encoder, "text_model", encoder)
    ours = readers(checkpoint)
    for skipped in (None, 1, 2):
        if checkpoint.kind == "sdxl":
            options = {"do_classifier_free_guidance": False, "clip_skip": skipped}
            expected, _, pooled, _ = pipeline.encode_prompt("a red house", device="cpu", **options)
        else:
            expected, pooled = pipeline.encode_prompt("a red house", "cpu", 1, False, clip_skip=skipped)[0], None
        read = read_prompt(ours, "a red house", None if skipped is None else trained + skipped)
        assert small.difference(read.embedding, expected) <= small.TOLERANCE
        assert pooled is None or small.difference(read.pooled, pooled) <= small.TOLERANCE
        assert torch.equal(read.embedding, read_prompt(ours, "a red house", trained + (skipped or 0)).embedding)


@pytest.mark.parametrize("saved", ["sd1"], indirect=True)
def test_missing_embedding_error_lists_the_loaded_ones(saved):
    known = (torch.zeros(1, small.TEXT.width),)
    with pytest.raises(ValueError, match=r"after 'embedding:', found 'stile'; it has style\. Load it under this name first"):
        read_prompt(readers(saved[1], "style", known), "a embedding:stile house")
