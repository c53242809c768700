"""Nodes with networks beside those of a model: Upscale, ImageEncode, ImageCondition, T2I-Adapters and GLIGEN."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from safetensors.torch import save_file

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.conditioning.image_prompts import alphas_cumprod
from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.networks.clip import CLIPVisionConfig, CLIPVisionModel
from nodegraph_diffusion.networks.config import GligenConfig, T2IAdapterConfig, UpscalerConfig
from nodegraph_diffusion.networks.gligen import Gligen
from nodegraph_diffusion.networks.rrdb import Upscaler
from nodegraph_diffusion.networks.shapes import transformer_widths
from nodegraph_diffusion.networks.t2i_adapter import T2IAdapter
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.models.control_nets import load_control
from nodegraph_nodes.models.text_encoders import load_text_network, load_text_tokenizer
from nodegraph_nodes.nodes.adapters import apply_control_net, load_control_net
from nodegraph_nodes.nodes.conditioning import average_conditioning, zero_out
from nodegraph_nodes.nodes.gligen import apply_gligen, load_gligen
from nodegraph_nodes.nodes.image_prompts import image_condition, image_encode, load_image_encoder
from nodegraph_nodes.nodes.latent import empty_latent, noise
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.nodes.upscale import load_upscaler, upscale
from nodegraph_nodes.types import Conditioning, Image, ImageEmbedding
from tests.support import synthetic_checkpoints as synthetic


def filled(network):
    synthetic.fill(network)
    return network.eval().requires_grad_(False)


def described(folder, state, name):
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return describe(path)


@pytest.fixture
def upscaler(tmp_path):
    return described(tmp_path, filled(Upscaler(UpscalerConfig(width=8, growth=4, blocks=1))).state_dict(), "upscaler")


def widths(model):
    config = model.unet.part.config
    return tuple(mult * config.model_channels for mult in config.channel_mult)


@pytest.fixture
def adapter(tmp_path, model):
    return described(tmp_path, filled(T2IAdapter(T2IAdapterConfig(channels=widths(model)))).state_dict(), "adapter")


@pytest.fixture
def gligen(tmp_path, model):
    blocks = tuple(transformer_widths(model.unet.part.config).items())
    network = filled(Gligen(GligenConfig(blocks=blocks, text_width=model.text_encoder.parts[0].config.width)))
    state = {}
    for key, value in network.state_dict().items():
        layers, _, rest = key.removeprefix("layers.").partition(".")
        name = key if key.startswith("position_net") else f"{layers.replace('/', '.')}.fuser.{rest}"
        state[name] = torch.tensor(0.9) if "alpha" in key else value
    return described(tmp_path, state, "gligen")


# --- Upscale


def test_pictures_are_enlarged_by_a_network(upscaler, run):
    opened = load_upscaler(upscaler.upscaler())
    image = Image(torch.rand(2, 90, 70, 3))
    whole = upscale(image, opened, run=run)
    assert whole.pixels.shape == (2, 360, 280, 3)
    assert 0 <= float(whole.pixels.min()) <= float(whole.pixels.max()) <= 1
    assert run.steps == [(1, 1)]
    tiles = upscale(image, opened, tile=64, overlap=32, run=run)
    assert run.steps[1:] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert float((tiles.pixels - whole.pixels).abs().mean()) < 0.01


# --- ImageEncode, ImageCondition


def encoder_file(tmp_path, projection=64):
    config = CLIPVisionConfig(
        size=28, patch=14, width=64, layers=1, heads=1, mlp_width=32, activation="gelu", projection=projection
    )
    network = filled(CLIPVisionModel(config))
    state = {key if key.startswith("visual_") else f"vision_model.{key}": value for key, value in network.state_dict().items()}
    return described(tmp_path, state, "encoder"), network


def test_pictures_are_encoded(tmp_path, run):
    found, network = encoder_file(tmp_path)
    encoder = load_image_encoder(found.image_encoder())
    square = Image((torch.rand(2, 28, 28, 3) * 255).round() / 255)
    embedding = image_encode(encoder, square, run=run)
    mean, deviation = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    expected = network(((square.pixels - mean) / deviation).movedim(-1, 1))
    assert torch.allclose(embedding.values, expected, atol=1e-5)
    wide = Image(torch.cat([torch.zeros(1, 28, 28, 3), torch.rand(1, 28, 28, 3), torch.zeros(1, 28, 28, 3)], dim=2))
    middle = image_encode(encoder, Image(wide.pixels[:, :, 28:56]), run=run)
    assert torch.allclose(image_encode(encoder, wide, run=run).values, middle.values, atol=1e-5)
    assert not torch.allclose(image_encode(encoder, wide, fit="stretch", run=run).values, middle.values, atol=1e-2)
    codec = CODECS[ImageEmbedding]
    assert torch.equal(codec.decode(codec.encode(embedding)).values, embedding.values)


def noised(embedding, level, seed):
    """One level of the cosine schedule, added up by hand, with the noise of ComfyUI's generator."""
    signal = 1.0
    for i in range(level + 1):
        alpha = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (i, i + 1)]
        signal *= 1 - min(1 - alpha[1] / alpha[0], 0.999)
    drawn = torch.randn(1, len(embedding), generator=torch.manual_seed(seed - 10))
    return signal**0.5 * embedding + (1 - signal) ** 0.5 * drawn


def xl_prompt(images=None):
    return Conditioning((Prompt(torch.randn(1, 7, 16), pooled=torch.randn(1, 64)),))


@pytest.mark.parametrize("seed", [0, 3, 12345, 2**63])
def test_one_picture_replaces_the_pooled_encoding(seed):
    text, embedding = xl_prompt(), ImageEmbedding(torch.randn(1, 64))
    (prompt,) = image_condition(text, embedding, strength=0.75, noise=0.2, seed=seed).prompts
    assert torch.allclose(prompt.pooled, 0.75 * noised(embedding.values[0], round(999 * 0.2), seed), atol=1e-5)
    assert torch.equal(prompt.embedding, text.prompts[0].embedding)
    assert image_condition(text, embedding, strength=0) is text
    assert float(alphas_cumprod()[-1]) < 1e-6


def test_several_pictures_are_added_and_stored():
    text, first, both = xl_prompt(), ImageEmbedding(torch.randn(1, 64)), ImageEmbedding(torch.randn(2, 64))
    chained = image_condition(image_condition(text, first, strength=0.75, seed=5), both, strength=0.5, noise=1.0, seed=5)
    parts = [0.75 * noised(first.values[0], 0, 5), *(0.5 * noised(one, 999, 5) for one in both.values)]
    expected = noised(sum(parts)[0], 0, 5)
    assert torch.allclose(chained.prompts[0].pooled, expected, atol=1e-5)
    codec = CODECS[Conditioning]
    loaded = codec.decode(codec.encode(chained)).prompts[0]
    assert torch.equal(loaded.images, chained.prompts[0].images)
    assert torch.equal(zero_out(chained).prompts[0].pooled, chained.prompts[0].pooled)  # pictures stay
    averaged = average_conditioning(chained, xl_prompt(), conditioning_to_strength=0.3)
    assert torch.equal(averaged.prompts[0].pooled, chained.prompts[0].pooled)
    zeroed = image_condition(zero_out(text), first)
    assert not bool(zeroed.prompts[0].embedding.any())


def test_pictures_of_another_encoder_are_refused():
    with pytest.raises(ValueError, match="a pooled encoding of 32 numbers, as the pictures have, found one of 64"):
        image_condition(xl_prompt(), ImageEmbedding(torch.randn(1, 32)))
    plain = Conditioning((Prompt(torch.randn(1, 7, 16)),))
    with pytest.raises(ValueError, match="found none"):
        image_condition(plain, ImageEmbedding(torch.randn(1, 32)))


# --- T2I-Adapters and GLIGEN


def painted(model, unet, run):
    latent = empty_latent(model.vae, 32, 32)
    prompt = text_encode(model.text_encoder, "a house", run=run)
    denoiser = unet_denoise(unet, prompt, prompt, run=run)
    return sampler(denoiser, latent, noise(latent, 1), sampler="euler", steps=2, run=run).samples


def test_a_t2i_adapter_guides_like_a_controlnet(model, adapter, run):
    opened = load_control_net(adapter.t2i_adapter())
    image = Image(torch.rand(1, 40, 32, 3))
    guided = apply_control_net(model.unet, opened, image, 0.5)
    maps = load_control(guided.controls[0], run)(torch.zeros(2, 4, 8, 8), torch.zeros(2), torch.zeros(2, 1, 32), None).maps
    blocks = model.unet.part.config.num_res_blocks
    assert [one is not None for one in maps] == [i % (blocks + 1) == blocks for i in range(len(maps))]
    assert not torch.equal(painted(model, guided, run), painted(model, model.unet, run))
    assert apply_control_net(model.unet, opened, image, 0.0) is model.unet
    with pytest.raises(ValueError, match="global_pool: expected nothing for a T2I-Adapter"):
        load_control_net(adapter.t2i_adapter(), global_pool=True)
    wide = dataclasses.replace(adapter.t2i_adapter(), config=T2IAdapterConfig())
    with pytest.raises(ValueError, match="found one for 320, 640, 1280, 1280"):
        apply_control_net(model.unet, load_control_net(wide), image)


def test_texts_are_painted_in_boxes(model, gligen, run):
    opened = load_gligen(gligen.gligen())
    once = apply_gligen(model.unet, opened, model.text_encoder, "a cat", width=16, height=8, run=run)
    twice = apply_gligen(once, opened, model.text_encoder, "a dog", width=0.5, height=0.5, x=0.5, y=0.25, unit="fraction", run=run)
    assert [len(unet.controls) for unet in (once, twice)] == [1, 1]
    grounding = twice.controls[0]
    cell = model.unet.part.latent.factor
    corners = [box.corners((8, 8), cell).tolist() for box in grounding.boxes]
    assert corners == [[0, 0, 16 / cell / 8, 8 / cell / 8], [0.5, 0.25, 1.0, 0.75]]
    pictures = [painted(model, unet, run) for unet in (model.unet, once, twice)]
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[1], pictures[2])

    network, tokenizer = load_text_network(model.text_encoder, run), load_text_tokenizer(model.text_encoder, run)
    words = [tokenizer.bos, *tokenizer.encode("a cat"), tokenizer.eos]
    tokens = torch.tensor([words + [tokenizer.pad] * (tokenizer.max_length - len(words))])
    expected = network.encode(tokens, 1)[0][:, len(words) - 1]
    assert torch.equal(grounding.boxes[0].embedding, expected)


def test_layers_of_another_family_are_refused(model, gligen, run):
    found = gligen.gligen()
    other = dataclasses.replace(found, config=dataclasses.replace(found.config, blocks=(("middle_block.1.x", 8),)))
    with pytest.raises(ValueError, match=r"found 1 that fit none, such as middle_block\.1\.x"):
        apply_gligen(model.unet, load_gligen(other), model.text_encoder, "a cat", width=16, height=16, run=run)
    wide = dataclasses.replace(found, config=dataclasses.replace(found.config, text_width=768))
    with pytest.raises(ValueError, match="expected one of width 768, whose texts GLIGEN's layers read"):
        apply_gligen(model.unet, load_gligen(wide), model.text_encoder, "a cat", width=16, height=16, run=run)


class Brighter:
    """What a plugin's node could append to a UNet: it changes the tokens of the middle block."""

    start, end = 0.0, 1.0

    def load(self, run):
        return self

    def __call__(self, x, timesteps, context, added):
        return lambda block, tokens: tokens * 1.1 if block.startswith("middle_block") else tokens


def test_a_plugin_may_guide_a_unet(model, run):
    guided = dataclasses.replace(model.unet, controls=(Brighter(),))
    assert not torch.equal(painted(model, guided, run), painted(model, model.unet, run))


# --- check


def test_check_knows_wrong_files_before_any_weight_is_read(tmp_path, model_folder, upscaler, adapter, gligen):
    def problems(build):
        workflow = Workflow("w")
        build(workflow, workflow.add("LoadModel", model=str(model_folder)))
        with pytest.raises(WorkflowError) as error:
            Engine(None).check(workflow)
        return " ".join(problem.message for problem in error.value.problems)

    file = {name: str(tmp_path / f"{name}.safetensors") for name in ("upscaler", "adapter", "gligen")}
    assert "found an upscaling network, which LoadUpscaler takes" in problems(
        lambda w, model: w.output("x", w.add("LoadControlNet", file=file["upscaler"]))
    )
    assert "found a T2I-Adapter, which LoadControlNet takes" in problems(
        lambda w, model: w.output("x", w.add("LoadUpscaler", file=file["adapter"]))
    )
    assert "found GLIGEN's layers, which LoadGligen takes" in problems(
        lambda w, model: w.output("x", w.add("LoadImageEncoder", file=file["gligen"]))
    )
    wide = described(tmp_path, T2IAdapter(T2IAdapterConfig(channels=(8, 16))).state_dict(), "wide")
    picture = tmp_path / "picture.png"
    Image(torch.zeros(1, 8, 8, 3)).to_pil().save(picture)

    def apply_wide(w, model):
        image = w.add("LoadImage", path=str(picture)).image
        net = w.add("LoadControlNet", file=str(wide.path))
        w.output("x", w.add("ApplyControlNet", unet=model.unet, control_net=net, image=image))

    assert "expected a T2I-Adapter for a UNet of" in problems(apply_wide)
    blocks = (("middle_block.1.transformer_blocks.0", 48),)
    state = {
        "middle_block.1.transformer_blocks.0.fuser." + key.partition(".")[2].partition(".")[2]
        if key.startswith("layers")
        else key: value
        for key, value in Gligen(GligenConfig(blocks=blocks)).state_dict().items()
    }
    other = described(tmp_path, state, "other")

    def apply_other(w, model):
        layers = w.add("LoadGligen", file=str(other.path))
        applied = w.add(
            "ApplyGligen", unet=model.unet, gligen=layers, text_encoder=model.text_encoder, text="a cat", width=16.0, height=16.0
        )
        w.output("x", applied)

    message = problems(apply_other)
    assert "found 1 that fit none" in message
    assert "expected one of width 768" in message
