"""LoRA, textual inversion and ControlNet: what is trained here loads here and in diffusers with PEFT, with the same output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import peft
import pytest
import torch
from torch import Tensor, nn

from nodegraph_diffusion.adapters.lora.match import unmatched
from nodegraph_diffusion.adapters.lora.patch import patched
from nodegraph_diffusion.checkpoint import describe, load_controlnet, save_controlnet
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.text.inversion import read_inversion
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_diffusion.training.loop.trainer import Trainer
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.tasks.conditions import EncodedCondition, TextCondition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents, DenoiserTask
from nodegraph_diffusion.training.tuning.controlnet import ControlNetTask, HintedLatents, controlnet_of
from nodegraph_diffusion.training.tuning.inversion import InversionCondition, save_inversion
from nodegraph_diffusion.training.tuning.lora import Lora, save_lora, save_peft
from tests.support import small_networks as small
from tests.support.training_tasks import Fixed

pytestmark = pytest.mark.slow

LATENTS = torch.randn(6, 4, 8, 8, generator=generator_for(0, "latents"))
CONTEXTS = torch.randn(6, 5, small.UNET.context_dim, generator=generator_for(0, "contexts"))
STEPS = torch.tensor([3.0, 500.0, 900.0, 20.0, 700.0, 999.0])
EVERYWHERE = ("to_q", "to_v", "to_out.0", "in_layers.2", "proj_in", "op", "emb_layers.1")


def train(task: DenoiserTask, examples: ConditionedLatents, **options: Any) -> Trainer[ConditionedLatents]:
    trainer = Trainer(task, Fixed(examples), TrainingOptions(**{"steps": 4, "batch": 3, "learning_rate": 1e-2, **options}))
    trainer.run()
    return trainer


def state_of(*modules: nn.Module) -> list[Tensor]:
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def test_whole_network_with_a_vector_conditioning_is_tuned() -> None:
    """As in Stable Diffusion XL: the layers of the vector learn, too."""
    unet = small.our_unet(replace(small.UNET, added_dim=6)).requires_grad_(True)
    before = {name: parameter.detach().clone() for name, parameter in unet.named_parameters()}
    task = DenoiserTask(unet, EncodedCondition(torch.zeros(5, small.UNET.context_dim)), Objective())
    train(task, ConditionedLatents(latent=LATENTS, condition=CONTEXTS, added=torch.randn(6, 6)), steps=1, weight_decay=0.0)
    assert [name for name, parameter in unet.named_parameters() if torch.equal(parameter, before[name])] == []


def test_lora_changes_nothing_until_it_is_trained_and_nothing_after_it_is_removed() -> None:
    unet = small.our_unet()
    before, weights = unet(LATENTS, STEPS, CONTEXTS), state_of(unet)
    lora = Lora(unet, rank=2, targets=EVERYWHERE)
    assert torch.equal(unet(LATENTS, STEPS, CONTEXTS), before)
    assert not any(parameter.requires_grad for parameter in unet.parameters())
    task = DenoiserTask(unet, EncodedCondition(torch.zeros(5, small.UNET.context_dim)), Objective(), adapter=lora)
    train(task, ConditionedLatents(latent=LATENTS, condition=CONTEXTS))
    assert (unet(LATENTS, STEPS, CONTEXTS) - before).abs().max() > 1e-3
    lora.remove()
    assert torch.equal(unet(LATENTS, STEPS, CONTEXTS), before)
    assert all(torch.equal(a, b) for a, b in zip(weights, state_of(unet), strict=True))


def ours_like(reference: diffusers.UNet2DConditionModel) -> UNet:
    unet = small.our_unet()
    weights, table = reference.state_dict(), unet_modules(small.UNET)
    unet.load_state_dict({key: weights[rename(key, table)].clone() for key in unet.state_dict()})
    return unet


@torch.no_grad()
def randomise(lora: Lora) -> None:
    """Factors as large as after a long training."""
    for parameter in lora.parameters():
        parameter.normal_(std=0.1, generator=generator_for(0, parameter.numel()))


@pytest.mark.parametrize("names", ["kohya", "peft"])
def test_trained_lora_paints_the_same_here_and_in_diffusers(names, tmp_path: Path) -> None:
    reference = small.reference_unet()
    unet = ours_like(reference)
    lora = Lora(unet, rank=3, alpha=2.0, targets=EVERYWHERE)
    randomise(lora)
    trained = unet(LATENTS, STEPS, CONTEXTS)
    lora.remove()
    assert small.difference(unet(LATENTS, STEPS, CONTEXTS), trained) > 0.01
    path = tmp_path / "lora.safetensors"
    save_lora(path, {"unet": (unet, lora)}, names)
    file = describe(path).lora()
    assert unmatched(file, "unet", unet.config) == []
    assert small.difference(patched(unet, "unet", [(file, 1.0)])(LATENTS, STEPS, CONTEXTS), trained) < small.TOLERANCE
    state, alphas = diffusers.loaders.StableDiffusionLoraLoaderMixin.lora_state_dict(path, unet_config=reference.config)
    diffusers.loaders.StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, alphas, reference)
    assert any(isinstance(module, peft.tuners.lora.LoraLayer) for module in reference.modules())
    with torch.no_grad():
        expected = reference(LATENTS, STEPS, CONTEXTS).sample
    assert small.difference(trained, expected) < small.TOLERANCE


def test_lora_loads_in_peft_alone(tmp_path: Path) -> None:
    """A folder with PEFT's own names and config."""
    reference = small.reference_unet()
    unet = ours_like(reference)
    lora = Lora(unet, rank=3, alpha=2.0, targets=EVERYWHERE)
    randomise(lora)
    trained = unet(LATENTS, STEPS, CONTEXTS)
    lora.remove()
    save_peft(tmp_path / "lora", unet, lora)
    adapted = peft.PeftModel.from_pretrained(reference, str(tmp_path / "lora"))
    with torch.no_grad():
        expected = adapted(LATENTS, STEPS, CONTEXTS).sample
    assert small.difference(trained, expected) < small.TOLERANCE
    file = describe(tmp_path / "lora").lora()
    assert small.difference(patched(unet, "unet", [(file, 1.0)])(LATENTS, STEPS, CONTEXTS), trained) < small.TOLERANCE


@pytest.mark.parametrize("names", ["kohya", "peft"])
def test_lora_of_a_text_encoder_reads_the_same_here_and_in_diffusers(names, tmp_path: Path) -> None:
    reference = small.reference_text_encoder()
    encoder = CLIPTextModel(small.TEXT)
    encoder.load_state_dict({name.removeprefix("text_model."): value for name, value in reference.state_dict().items()})
    tokens = torch.tensor([[512, 5, 9, 513]])
    lora = Lora(encoder, rank=2, alpha=3.0)
    randomise(lora)
    trained = encoder(tokens).detach()
    lora.remove()
    assert small.difference(encoder(tokens), trained) > 0.01
    path = tmp_path / "lora.safetensors"
    save_lora(path, {"text_encoder": (encoder, lora)}, names)
    file = describe(path).lora()
    found = patched(encoder, "text_encoder", [(file, 1.0)])(tokens)
    assert small.difference(found, trained) < 0.01  # weights of text encoders are rounded to float16
    loader = diffusers.loaders.StableDiffusionLoraLoaderMixin
    state, alphas = loader.lora_state_dict(path)
    loader.load_lora_into_text_encoder(state, alphas, reference, prefix="text_encoder")
    assert any(isinstance(module, peft.tuners.lora.LoraLayer) for module in reference.modules())
    with torch.no_grad():
        assert small.difference(trained, reference(tokens).last_hidden_state) < small.TOLERANCE


def test_wrong_loras_are_refused(tmp_path: Path) -> None:
    unet = small.our_unet()
    with pytest.raises(ValueError, match="a rank of at least 1, found 0"):
        Lora(unet, rank=0)
    with pytest.raises(ValueError, match="layers whose names end in nothing, found none"):
        Lora(unet, targets=["nothing"])
    with pytest.raises(ValueError, match="names kohya or peft, found 'other'"):
        save_lora(tmp_path / "x", {}, "other")  # type: ignore[arg-type]


def test_inversion_trains_its_vectors_only_and_its_file_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, unet = CLIPTextModel(small.TEXT), small.our_unet().requires_grad_(False)
    vocabulary = small.TEXT.vocab_size
    empty = torch.tensor([512, 513, 513, 513, 513])
    condition = InversionCondition(encoder, empty, start=(7,), count=2)
    assert torch.equal(condition.vectors[1], encoder.embeddings.token_embedding.weight[7])
    tokens = torch.tensor([[512, 5, vocabulary, vocabulary + 1, 513]]).repeat(6, 1)
    frozen, before = state_of(encoder, unet), condition.vectors.detach().clone()
    trainer = train(DenoiserTask(unet, condition, Objective()), ConditionedLatents(latent=LATENTS, condition=tokens))
    assert list(trainer.networks["denoiser"].parameters) == ["condition.vectors"]
    assert (condition.vectors - before).abs().sum(1).min() > 0
    assert all(torch.equal(a, b) for a, b in zip(frozen, state_of(encoder, unet), strict=True))
    save_inversion(tmp_path / "word.safetensors", condition.vectors)
    (vectors,) = read_inversion(describe(tmp_path / "word.safetensors").embedding(), [small.TEXT.width])
    assert torch.equal(vectors, condition.vectors.detach())
    undropped = torch.zeros(6, dtype=torch.bool)
    torch.testing.assert_close(condition(tokens, undropped), encoder.encode(tokens, inserted=vectors)[0])
    without = torch.tensor([[512, 5, 9, 8, 513]]).repeat(6, 1)
    torch.testing.assert_close(condition(without, undropped), TextCondition(encoder, empty)(without, undropped))


def test_trained_word_is_read_the_same_in_diffusers(tmp_path: Path) -> None:
    """From the file that `save_inversion` writes, by a pipeline."""
    scheduler = small.scheduler()
    pipeline = small.pipeline(tmp_path, diffusers.StableDiffusionPipeline, small.reference_unet(), scheduler)
    reference = pipeline.text_encoder
    encoder = CLIPTextModel(small.TEXT)
    encoder.load_state_dict({name.removeprefix("text_model."): value for name, value in reference.state_dict().items()})
    tokenizer = pipeline.tokenizer
    empty = torch.tensor(tokenizer("", padding="max_length").input_ids)
    condition = InversionCondition(encoder, empty, start=(7,), count=2)
    vocabulary = small.TEXT.vocab_size
    tokens = empty.clone()
    tokens[1:4] = torch.tensor([tokenizer("a", add_special_tokens=False).input_ids[0], vocabulary, vocabulary + 1])
    unet = small.our_unet().requires_grad_(False)
    examples = ConditionedLatents(latent=LATENTS, condition=tokens.repeat(6, 1))
    train(DenoiserTask(unet, condition, Objective()), examples, steps=3, learning_rate=0.1)
    save_inversion(tmp_path / "word.safetensors", condition.vectors)
    pipeline.load_textual_inversion(str(tmp_path / "word.safetensors"), token="<word>")
    with torch.no_grad():
        expected = pipeline.encode_prompt("a <word>", "cpu", 1, False)[0]
        found = condition(tokens[None], torch.zeros(1, dtype=torch.bool))
        plain = pipeline.encode_prompt("a", "cpu", 1, False)[0]
    assert small.difference(found, expected) < small.TOLERANCE
    assert small.difference(plain, expected) > 0.1


@pytest.mark.parametrize("layout", ["folder", "single file"])
def test_trained_controlnet_paints_the_same_here_and_in_diffusers(layout, tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = small.our_unet()
    control, hint = controlnet_of(unet, hint_scale=8), torch.rand(6, 3, 64, 64)
    task = ControlNetTask(unet, control, EncodedCondition(torch.zeros(5, small.UNET.context_dim)), Objective())
    train(task, HintedLatents(latent=LATENTS, condition=CONTEXTS, hint=hint), steps=2)
    path = tmp_path / ("control" if layout == "folder" else "control.safetensors")
    save_controlnet(path, control, dtype=torch.float32)
    with torch.no_grad():
        residuals = control(LATENTS, hint, STEPS, CONTEXTS)
        trained = unet(LATENTS, STEPS, CONTEXTS, controls=residuals)
    ours = load_controlnet(describe(path).controlnet(), "cpu", torch.float32)
    again = unet(LATENTS, STEPS, CONTEXTS, controls=ours(LATENTS, hint, STEPS, CONTEXTS))
    assert small.difference(again, trained) < small.TOLERANCE
    assert small.difference(unet(LATENTS, STEPS, CONTEXTS), trained) > 0.001
    if layout == "folder":
        theirs = diffusers.ControlNetModel.from_pretrained(path)
    else:
        save_controlnet(tmp_path / "sizes", control)  # a single file says no sizes, and diffusers looks for them on the hub
        theirs = diffusers.ControlNetModel.from_single_file(str(path), config=str(tmp_path / "sizes"), local_files_only=True)
    with torch.no_grad():
        skips, middle = theirs(LATENTS, STEPS, CONTEXTS, controlnet_cond=hint, return_dict=False)
    for found, expected in zip((*residuals[0], residuals[1]), (*skips, middle), strict=True):
        assert small.difference(found, expected) < small.TOLERANCE


def test_controlnet_begins_as_the_encoder_and_learns_while_the_unet_does_not() -> None:
    torch.manual_seed(0)
    unet = small.our_unet()
    control = controlnet_of(unet, hint_scale=4)
    assert control.hint_scale == 4
    ours = control.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in unet.state_dict().items() if name in ours)
    hint = torch.rand(6, 3, 32, 32)
    skips, middle = control(LATENTS, hint, STEPS, CONTEXTS)
    assert all(residual.abs().max() == 0 for residual in (*skips, middle))
    frozen = state_of(unet)
    task = ControlNetTask(unet, control, EncodedCondition(torch.zeros(5, small.UNET.context_dim)), Objective())
    train(task, HintedLatents(latent=LATENTS, condition=CONTEXTS, hint=hint))
    skips, middle = control(LATENTS, hint, STEPS, CONTEXTS)
    assert all(residual.abs().max() > 0 for residual in (*skips, middle))
    assert all(torch.equal(a, b) for a, b in zip(frozen, state_of(unet), strict=True))
    with pytest.raises(ValueError, match="hint_scale of 1, 2, 4 or 8, found 3"):
        controlnet_of(unet, hint_scale=3)
