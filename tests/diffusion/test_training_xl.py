"""Tuning of Stable Diffusion XL, as a small model: its vector conditioning, and its two text encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from nodegraph_diffusion.adapters.lora.match import unmatched
from nodegraph_diffusion.checkpoint import Checkpoint, describe, load_text_encoder, load_unet
from nodegraph_diffusion.checkpoint.families import TEXT_PARTS
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.text.inversion import read_inversion
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_diffusion.training.loop.trainer import Trainer
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.tasks.conditions import PairedTextCondition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents, DenoiserTask
from nodegraph_diffusion.training.tuning.inversion import PairedInversionCondition, save_inversion
from nodegraph_diffusion.training.tuning.lora import Lora, save_lora
from tests.support import small_networks as small
from tests.support.families import encode, sdxl
from tests.support.training_tasks import COUNT, Fixed

Saved = tuple[diffusers.DiffusionPipeline, Checkpoint]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("sdxl")
    pipeline = sdxl(folder)
    pipeline.save_pretrained(folder / "model")
    return pipeline, describe(folder / "model").model()


def encoders(model: Checkpoint) -> list[CLIPTextModel]:
    return [load_text_encoder(part, "cpu", torch.float32) for part in model.text.parts]


def tokens_of(pipeline: Any, text: str) -> Tensor:
    """(2, L) for both text encoders, which fill up with different tokens."""
    ids = [each(text, padding="max_length").input_ids for each in (pipeline.tokenizer, pipeline.tokenizer_2)]
    return torch.tensor(ids)


def train(model: Checkpoint, condition: PairedTextCondition, tokens: Tensor) -> None:
    unet = load_unet(model.unet, "cpu", torch.float32)
    assert unet.config.added_dim is not None
    latent = torch.randn(COUNT, 4, 8, 8, generator=generator_for(0))
    added = torch.randn(COUNT, unet.config.added_dim, generator=generator_for(1))
    examples = ConditionedLatents(latent=latent, condition=tokens.repeat(COUNT, 1, 1), added=added)
    task = DenoiserTask(unet, condition, Objective.of(model.noise_schedule), dropout=0.0)
    Trainer(task, Fixed(examples), TrainingOptions(steps=1, batch=2, learning_rate=0.1)).run()


def test_texts_are_encoded_as_in_diffusers_and_their_vector_is_replaced(saved) -> None:
    pipeline, model = saved
    condition = PairedTextCondition(encoders(model), tokens_of(pipeline, ""))
    tokens = torch.stack([tokens_of(pipeline, "a red house")] * 2)
    sizes = torch.randn(2, 1600)
    context, added = condition.inputs(tokens, torch.tensor([False, True]), sizes)
    assert added is not None
    for index, text in enumerate(("a red house", "")):
        expected, pooled = encode(pipeline, text)
        assert small.difference(context[index : index + 1], expected) < small.TOLERANCE
        assert small.difference(added[index : index + 1, :64], pooled) < small.TOLERANCE
    assert torch.equal(added[:, 64:], sizes[:, 64:])


def test_word_for_both_text_encoders_is_read_the_same_in_diffusers(saved, tmp_path: Path) -> None:
    pipeline, model = saved
    condition = PairedInversionCondition(encoders(model), tokens_of(pipeline, ""), start=((7,), (9, 3)), count=2)
    before = [vectors.detach().clone() for vectors in condition.vectors]
    vocabulary, tokens = small.TEXT.vocab_size, tokens_of(pipeline, "a b b")
    tokens[:, 2:4] = torch.tensor([vocabulary, vocabulary + 1])
    train(model, condition, tokens)
    assert all((now - then).abs().sum(1).min() > 0 for now, then in zip(condition.vectors, before, strict=True))
    path = tmp_path / "word.safetensors"
    save_inversion(path, list(condition.vectors))
    read = read_inversion(describe(path).embedding(), [part.config.width for part in model.text.parts])
    assert all(torch.equal(found, wanted) for found, wanted in zip(read, condition.vectors, strict=True))
    theirs = [(pipeline.text_encoder, pipeline.tokenizer), (pipeline.text_encoder_2, pipeline.tokenizer_2)]
    for vectors, (encoder, tokenizer) in zip(read, theirs, strict=True):
        pipeline.load_textual_inversion(vectors, token="<word>", text_encoder=encoder, tokenizer=tokenizer)
    expected, pooled = encode(pipeline, "a <word>")
    with torch.no_grad():
        context, added = condition.inputs(tokens[None], torch.zeros(1, dtype=torch.bool), torch.zeros(1, 1600))
    assert added is not None
    assert small.difference(context, expected) < small.TOLERANCE
    assert small.difference(added[:, :64], pooled) < small.TOLERANCE
    with pytest.raises(ValueError, match="for one text encoder, or for two, found 3"):
        save_inversion(path, [torch.zeros(1, 1)] * 3)


def test_loras_of_both_text_encoders_have_the_names_of_kohya(saved, tmp_path: Path) -> None:
    adapted = {name: (encoder, Lora(encoder, rank=2)) for name, encoder in zip(TEXT_PARTS, encoders(saved[1]), strict=True)}
    path = tmp_path / "lora.safetensors"
    save_lora(path, adapted)
    with safe_open(path, "pt") as file:
        assert {name.split("_text_model")[0] for name in file.keys()} == {"lora_te1", "lora_te2"}  # noqa: SIM118
    state, _ = diffusers.loaders.StableDiffusionXLLoraLoaderMixin.lora_state_dict(path)
    assert {name.split(".")[0] for name in state} == {*TEXT_PARTS}
    for name, (encoder, lora) in adapted.items():
        lora.remove()
        assert unmatched(describe(path).lora(), name, encoder.config) == []
