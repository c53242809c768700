"""Upscalers, image encoders, T2I-Adapters and GLIGEN: equal to references, read from each layout, known by their headers."""

from __future__ import annotations

import re

import diffusers
import pytest
import torch
import torch.nn.functional as F
import transformers
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.embeddings import GLIGENTextBoundingboxProjection
from safetensors.torch import save_file

from nodegraph_diffusion.checkpoint import (
    CheckpointError,
    describe,
    load_gligen,
    load_image_encoder,
    load_t2i_adapter,
    load_upscaler,
)
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.networks.clip import CLIPVisionConfig, CLIPVisionModel, clip_pixels
from nodegraph_diffusion.networks.config import GligenConfig, T2IAdapterConfig, UpscalerConfig
from nodegraph_diffusion.networks.gligen import Gligen, GligenGuide, TextBox
from nodegraph_diffusion.networks.rrdb import Upscaler
from nodegraph_diffusion.networks.shapes import (
    gligen_shapes,
    t2i_adapter_shapes,
    transformer_widths,
    upscaler_shapes,
    vision_shapes,
)
from nodegraph_diffusion.networks.t2i_adapter import T2IAdapter, T2IAdapterGuide
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.tiles import tiled
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic
from tests.support.spandrel_library import import_spandrel

X = small.noise(2, 4, 8, 8)
WIDTHS = (32, 64, 96)  # of the small UNet's levels


def written(folder, state, name="network"):
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def filled(network):
    synthetic.fill(network)
    return network.eval().requires_grad_(False)


# --- upscalers


def enlarged(state, pixels, unshuffle, doublings):
    """Real-ESRGAN written down from its papers, with functions only."""

    def convolved(name, x):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def dense(name, x):
        maps = [x]
        for i in range(1, 5):
            maps.append(F.leaky_relu(convolved(f"{name}.conv{i}", torch.cat(maps, 1)), 0.2))
        return x + 0.2 * convolved(f"{name}.conv5", torch.cat(maps, 1))

    x = F.pixel_unshuffle(pixels, unshuffle) if unshuffle > 1 else pixels
    x = first = convolved("conv_first", x)
    for i in range(2):
        block = x
        for k in (1, 2, 3):
            block = dense(f"body.{i}.rdb{k}", block)
        x = x + 0.2 * block
    x = first + convolved("conv_body", x)
    for i in range(1, doublings + 1):
        x = F.leaky_relu(convolved(f"conv_up{i}", x.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
    return convolved("conv_last", F.leaky_relu(convolved("conv_hr", x), 0.2))


def old_names(key, blocks, doublings):
    """ESRGAN's names, which count the layers of the program that trained it."""
    fixed = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    fixed |= {f"conv_up{i}": f"model.{3 * i}" for i in range(1, doublings + 1)}
    fixed |= {"conv_hr": f"model.{3 * doublings + 2}", "conv_last": f"model.{3 * doublings + 4}"}
    module, _, kind = key.rpartition(".")
    if module in fixed:
        return f"{fixed[module]}.{kind}"
    block, dense, convolution = re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)", module).groups()
    return f"model.1.sub.{block}.RDB{dense}.conv{convolution}.0.{kind}"


def bsrgan_names(key, blocks, doublings):
    for ours, theirs in ((r"body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB"), ("conv_body", "trunk_conv"), ("conv_hr", "HRconv")):
        key = re.sub(f"^{ours}", theirs, key)
    return re.sub(r"^conv_up", "upconv", key)


SLOW_NAMES = (lambda key, *_: key, lambda key, *_: f"params_ema.{key}", bsrgan_names)


@pytest.mark.parametrize("names", [old_names, *(pytest.param(names, marks=pytest.mark.slow) for names in SLOW_NAMES)])
@pytest.mark.parametrize(("doublings", "unshuffle"), [(2, 1), (1, 1), (2, 2), (2, 4), (3, 1), (0, 1)])
def test_upscalers_equal_their_formula_in_each_layout(tmp_path, names, doublings, unshuffle):
    config = UpscalerConfig(width=8, growth=4, blocks=2, doublings=doublings, unshuffle=unshuffle)
    network = filled(Upscaler(config))
    state = network.state_dict()
    file = written(tmp_path, {names(key, 2, doublings): value for key, value in state.items()})
    description = describe(file)
    assert description.content == "upscaler"
    found = description.upscaler()
    assert (found.config, found.config.scale) == (config, 2**doublings // unshuffle)
    pixels = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    expected = enlarged(state, pixels, unshuffle, doublings)
    assert torch.allclose(load_upscaler(found, "cpu", torch.float32)(pixels), expected, atol=1e-6)
    assert {key: tuple(value.shape) for key, value in state.items()} == upscaler_shapes(config)


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_upscalers_equal_spandrel(monkeypatch, unshuffle):
    spandrel = import_spandrel(monkeypatch)
    config = UpscalerConfig(width=8, blocks=2, unshuffle=unshuffle)  # spandrel expects a growth of 32
    network = filled(Upscaler(config))
    reference = spandrel.ModelLoader().load_from_state_dict(dict(network.state_dict()))
    pixels = torch.rand(1, 3, 10, 7)
    assert (reference.architecture.id, reference.scale) == ("ESRGAN", config.scale)
    expected = reference(pixels)
    assert float(expected.std()) > 0.02
    assert torch.allclose(network(pixels).clamp(0, 1), expected, atol=1e-6)


def test_sides_that_are_not_divided_are_mirrored():
    network = filled(Upscaler(UpscalerConfig(width=8, growth=4, blocks=2, unshuffle=4)))
    pixels = torch.rand(1, 3, 9, 6)
    padded = F.pad(pixels, (0, 2, 0, 3), mode="reflect")
    assert torch.equal(network(pixels), network(padded)[..., :9, :6])


@pytest.mark.parametrize(("height", "width"), [(10, 10), (64, 40), (100, 130)])
def test_tiles_are_blended_to_the_whole(height, width):
    planes = torch.rand(2, 3, height, width)
    done = []
    result = tiled(
        lambda part: part.repeat_interleave(2, 2).repeat_interleave(2, 3) + 1,
        planes,
        64,
        16,
        scale=2,
        on_tile=lambda i, n: done.append((i, n)),
    )
    assert torch.allclose(result, planes.repeat_interleave(2, 2).repeat_interleave(2, 3) + 1, atol=1e-5)
    assert done == [(i + 1, len(done)) for i in range(len(done))]


def test_tiles_fade_into_each_other():
    tiles = iter((0.0, 1.0))
    result = tiled(lambda part: torch.full_like(part, next(tiles)), torch.zeros(1, 3, 8, 28), 16, 4, scale=1)
    ramp = torch.arange(1, 5) / 4
    expected = torch.cat([torch.zeros(12), ramp / (ramp + ramp.flip(0)), torch.ones(12)])
    assert torch.allclose(result[0, 0, 0], expected)
    with pytest.raises(ValueError, match="overlap: expected less than a tile's side of 16 pixels, found 16"):
        tiled(lambda part: part, torch.zeros(1, 3, 8, 28), 16, 16, scale=1)


# --- image encoders

VISION = CLIPVisionConfig(size=28, patch=14, width=128, layers=2, heads=2, mlp_width=96, projection=64)


def reference_encoder(activation="quick_gelu"):
    config = transformers.CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=64,
        hidden_act=activation,
    )
    return filled(transformers.CLIPVisionModelWithProjection(config))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_image_encoders_equal_transformers(tmp_path, activation):
    reference = reference_encoder(activation)
    reference.save_pretrained(tmp_path / "encoder")
    found = describe(tmp_path / "encoder").image_encoder()
    assert found.config.activation == activation
    pixels = small.noise(2, 3, 28, 28)
    expected = reference(pixels).image_embeds
    assert small.difference(load_image_encoder(found, "cpu", torch.float32)(pixels), expected) <= small.TOLERANCE
    assert {key: tuple(value.shape) for key, value in CLIPVisionModel(VISION).state_dict().items()} == vision_shapes(VISION)


def openclip(state):
    """The tensors of our image encoder with OpenCLIP's names."""
    renamed = {
        "visual.class_embedding": state["embeddings.class_embedding"],
        "visual.positional_embedding": state["embeddings.position_embedding.weight"],
        "visual.conv1.weight": state["embeddings.patch_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
    }
    inside = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for kind in ("weight", "bias"):
        renamed |= {
            f"visual.ln_pre.{kind}": state[f"pre_layrnorm.{kind}"],
            f"visual.ln_post.{kind}": state[f"post_layernorm.{kind}"],
        }
        for i in range(VISION.layers):
            ours, theirs = f"encoder.layers.{i}", f"visual.transformer.resblocks.{i}"
            renamed |= {f"{theirs}.{b}.{kind}": state[f"{ours}.{a}.{kind}"] for a, b in inside.items()}
            renamed[f"{theirs}.attn.out_proj.{kind}"] = state[f"{ours}.self_attn.out_proj.{kind}"]
            renamed[f"{theirs}.attn.in_proj_{kind}"] = torch.cat([state[f"{ours}.self_attn.{p}_proj.{kind}"] for p in "qkv"])
    return renamed


def test_image_encoders_open_from_single_files_in_each_layout(tmp_path):
    network = filled(CLIPVisionModel(CLIPVisionConfig(**{**vars(VISION), "activation": "gelu"})))
    state = network.state_dict()
    single = {key if key.startswith("visual_") else f"vision_model.{key}": value for key, value in state.items()}
    with_text = single | {"text_model.embeddings.token_embedding.weight": torch.zeros(9, 8), "logit_scale": torch.zeros(())}
    single["vision_model.embeddings.position_ids"] = torch.arange(5)
    pixels = small.noise(1, 3, 28, 28)
    for name, tensors in (("single", single), ("whole", with_text), ("openclip", openclip(state))):
        description = describe(written(tmp_path, tensors, name))
        assert description.content == ("text_encoder" if name == "whole" else "image_encoder")
        loaded = load_image_encoder(description.image_encoder(), "cpu", torch.float32)
        assert torch.allclose(loaded(pixels), network(pixels), atol=1e-6)


@pytest.mark.parametrize("size", [(224, 224), (300, 240), (112, 336)])
def test_pixels_are_prepared_as_by_transformers(size):
    from transformers.models.clip import CLIPImageProcessorPil

    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    pixels = (F.interpolate(coarse, size=size, mode="bilinear") * 255).round() / 255
    prepared = clip_pixels(pixels, 224, crop=True)
    processor = CLIPImageProcessorPil()
    picture = (pixels[0].movedim(0, -1) * 255).byte().numpy()
    expected = torch.as_tensor(processor(picture, return_tensors="np")["pixel_values"])
    assert prepared.shape == (1, 3, 224, 224)
    assert float((prepared - expected).abs().max()) < 3 / 255 / 0.26  # Pillow rounds between its two passes
    assert clip_pixels(pixels, 224, crop=False).shape == (1, 3, 224, 224)


# --- T2I-Adapters


def reference_adapter(in_channels):
    return filled(
        diffusers.T2IAdapter(
            in_channels=in_channels, channels=list(WIDTHS), num_res_blocks=2, downscale_factor=8, adapter_type="full_adapter"
        )
    )


@pytest.mark.parametrize("in_channels", [1, 3])
def test_t2i_adapters_equal_diffusers(tmp_path, in_channels):
    reference = reference_adapter(in_channels)
    reference.save_pretrained(tmp_path / "adapter")
    hint = torch.rand(2, in_channels, 64, 64)
    expected = reference(hint)
    single = tmp_path / "adapter/diffusion_pytorch_model.safetensors"
    for path in (tmp_path / "adapter", single):
        description = describe(path)
        assert description.content == "t2i_adapter"
        network = load_t2i_adapter(description.t2i_adapter(), "cpu", torch.float32)
        maps = network(hint)
        assert all(small.difference(ours, theirs) <= small.TOLERANCE for ours, theirs in zip(maps, expected, strict=True))
    authors = describe(written(tmp_path, network.state_dict())).t2i_adapter()
    assert authors.config == T2IAdapterConfig(in_channels=in_channels, channels=WIDTHS)
    assert all(torch.equal(a, b) for a, b in zip(load_t2i_adapter(authors, "cpu", torch.float32)(hint), maps, strict=True))
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == t2i_adapter_shapes(authors.config)


def test_a_unet_with_an_adapter_equals_diffusers():
    unet, reference = small.our_unet(), small.reference_unet()
    weights, table = reference.state_dict(), unet_modules(small.UNET)
    unet.load_state_dict({key: weights[rename(key, table)] for key in unet.state_dict()})
    adapter = filled(T2IAdapter(T2IAdapterConfig(channels=WIDTHS)))
    hint, context, sigma = torch.rand(1, 64, 64, 3), small.noise(1, 5, 128), 3.0
    guide = T2IAdapterGuide(adapter, hint, 0.7)
    schedule = NoiseSchedule()
    denoised = UNetDenoiser(unet, schedule, context, controls=[guide])(X, sigma)
    maps = [0.7 * one for one in adapter(hint.movedim(-1, 1))]
    step = torch.full((2,), float(schedule.nearest_step(sigma)))
    scaled = X / (1 + sigma**2) ** 0.5
    predicted = reference(
        scaled,
        step,
        context.expand(2, -1, -1),
        down_intrablock_additional_residuals=[one.expand(2, -1, -1, -1).clone() for one in maps],
    ).sample
    assert small.difference(denoised, X - sigma * predicted) <= small.TOLERANCE
    assert not torch.allclose(denoised, UNetDenoiser(unet, schedule, context)(X, sigma))
    off = UNetDenoiser(unet, schedule, context, controls=[T2IAdapterGuide(adapter, hint, 0.7, end=0.0)])
    assert torch.equal(off(X, sigma), UNetDenoiser(unet, schedule, context)(X, sigma))


def test_an_adapter_of_sdxl_is_refused(tmp_path):
    state = T2IAdapter(T2IAdapterConfig(channels=WIDTHS, unshuffle=16)).state_dict()
    with pytest.raises(CheckpointError, match="768 input channels, not those of an adapter for Stable Diffusion 1"):
        describe(written(tmp_path, state)).t2i_adapter()


# --- GLIGEN

BLOCKS = tuple(transformer_widths(small.UNET).items())
GLIGEN = GligenConfig(blocks=BLOCKS, token_width=768, text_width=128)


def our_gligen():
    network = filled(Gligen(GLIGEN))
    for name, parameter in network.named_parameters():
        if "alpha" in name:
            parameter.copy_(torch.tensor(0.8))
    return network


def published(network):
    """The tensors with the names of the published file."""
    state = network.state_dict()
    return {re.sub(r"^layers\.([^.]+)\.", lambda m: m[1].replace("/", ".") + ".fuser.", key): value for key, value in state.items()}


BOXES = [
    TextBox(embedding=small.noise(1, 128), left=8, top=16, width=24, height=40),
    TextBox(embedding=small.noise(1, 128) * 2, left=0.25, top=0, width=0.5, height=1, fraction=True),
]
CORNERS = torch.tensor([[1 / 8, 2 / 8, 4 / 8, 7 / 8], [0.25, 0, 0.75, 1]])


def test_tokens_of_boxes_equal_diffusers():
    network = our_gligen()
    reference = GLIGENTextBoundingboxProjection(positive_len=128, out_dim=768)
    reference.load_state_dict(network.position_net.state_dict())
    boxes, present, texts = torch.zeros(1, 30, 4), torch.zeros(1, 30), torch.zeros(1, 30, 128)
    boxes[0, :2], present[0, :2], texts[0, :2] = CORNERS, 1, torch.cat([box.embedding for box in BOXES])
    expected = reference(boxes, present, positive_embeddings=texts)
    assert small.difference(network.tokens(BOXES, (8, 8)), expected) <= small.TOLERANCE
    with pytest.raises(ValueError, match="expected at most 30, found 31"):
        network.tokens(BOXES[:1] * 31, (8, 8))


def test_gated_layers_equal_diffusers():
    network = our_gligen()
    name, channels = BLOCKS[0]
    ours = network.layers[name.replace(".", "/")]
    reference = GatedSelfAttentionDense(channels, 768, 8, channels // 8)
    reference.load_state_dict(ours.state_dict())
    x, tokens = small.noise(2, 64, channels), small.noise(2, 30, 768)
    assert small.difference(ours(x, tokens), reference(x, tokens)) <= small.TOLERANCE


def test_gligen_opens_from_the_published_layout_and_changes_each_block(tmp_path):
    network = our_gligen()
    description = describe(written(tmp_path, published(network)))
    assert description.content == "gligen"
    found = description.gligen()
    assert (sorted(found.config.blocks), found.config.token_width, found.config.text_width) == (sorted(BLOCKS), 768, 128)
    loaded = load_gligen(found, "cpu", torch.float32)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == gligen_shapes(GLIGEN)

    seen = []
    hook = GligenGuide(network, BOXES)(X, torch.zeros(2), torch.zeros(2, 5, 128), None)
    unet, context = small.our_unet(), small.noise(2, 5, 128)

    def recorded(block, tokens):
        changed = hook(block, tokens)
        expected = network.layers[block.replace(".", "/")](tokens, network.tokens(BOXES, (8, 8)).expand(2, -1, -1))
        seen.append(block)
        assert torch.equal(changed, expected)
        return changed

    plain, step = unet(X, torch.full((2,), 500.0), context), torch.full((2,), 500.0)
    changed = unet(X, step, context, token_hooks=[recorded])
    assert seen == [name for name, _ in BLOCKS]
    assert not torch.allclose(plain, changed)
    denoise = UNetDenoiser(unet, NoiseSchedule(), context[:1], controls=[GligenGuide(network, BOXES)])
    assert not torch.allclose(denoise(X, 3.0), UNetDenoiser(unet, NoiseSchedule(), context[:1])(X, 3.0))


# --- wrong files


def test_a_file_of_another_kind_is_named(tmp_path):
    upscaler = describe(written(tmp_path, Upscaler(UpscalerConfig(width=8, growth=4, blocks=1)).state_dict(), "a"))
    with pytest.raises(CheckpointError, match="expected a ControlNet, found an upscaling network"):
        upscaler.controlnet()
    with pytest.raises(CheckpointError, match="expected CLIP's image encoder, found an upscaling network"):
        upscaler.image_encoder()
    gligen = describe(written(tmp_path, published(our_gligen()), "b"))
    with pytest.raises(CheckpointError, match="expected an upscaling network of the ESRGAN kind, found GLIGEN's layers"):
        gligen.upscaler()
    broken = Upscaler(UpscalerConfig(width=8, growth=4, blocks=1)).state_dict()
    broken["conv_last.weight"] = torch.zeros(5, 8, 3, 3)
    with pytest.raises(CheckpointError, match="3 input channels and 5 output channels"):
        describe(written(tmp_path, broken, "c")).upscaler()
    del broken["conv_last.weight"]
    with pytest.raises(CheckpointError, match=r"a tensor 'conv_last\.weight' of 4 dimensions, found none"):
        describe(written(tmp_path, broken, "d")).upscaler()
