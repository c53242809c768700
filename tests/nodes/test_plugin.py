"""The node pack: its node types, registries, codecs and backend."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from nodegraph import PluginError
from nodegraph.node_types.spec import MISSING
from nodegraph.plugins.manager import load_plugins
from nodegraph_diffusion.guidance import GUIDANCE
from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_nodes.models.backend import TorchBackend
from nodegraph_nodes.types import (
    VAE,
    Conditioning,
    ControlNetModel,
    Denoiser,
    GligenLayers,
    Image,
    ImageEmbedding,
    ImageEncoder,
    Latent,
    Mask,
    Noise,
    Sigmas,
    TextEncoder,
    UNetModel,
    Upscaler,
)

NODES = {
    "LoadModel": ({"model", "prediction", "zero_snr", "kind"}, {"unet": UNetModel, "vae": VAE, "text_encoder": TextEncoder}),
    "LoadUNet": ({"unet", "prediction", "zero_snr"}, {"output": UNetModel}),
    "LoadVAE": ({"vae", "like", "scaling"}, {"output": VAE}),
    "LoadTextEncoder": ({"text_encoder", "text_encoder_2", "kind"}, {"output": TextEncoder}),
    "LoadLora": (
        {"unet", "text_encoder", "file", "strength_unet", "strength_text"},
        {"unet": UNetModel, "text_encoder": TextEncoder},
    ),
    "LoadEmbedding": ({"text_encoder", "file", "word"}, {"output": TextEncoder}),
    "LoadControlNet": ({"file", "unet", "global_pool"}, {"output": ControlNetModel}),
    "ApplyControlNet": ({"unet", "control_net", "image", "strength", "start", "end"}, {"output": UNetModel}),
    "LoadGligen": ({"file"}, {"output": GligenLayers}),
    "ApplyGligen": ({"unet", "gligen", "text_encoder", "text", "width", "height", "x", "y", "unit"}, {"output": UNetModel}),
    "LoadUpscaler": ({"file"}, {"output": Upscaler}),
    "Upscale": ({"image", "upscaler", "tile", "overlap"}, {"output": Image}),
    "LoadImageEncoder": ({"file"}, {"output": ImageEncoder}),
    "ImageEncode": ({"image_encoder", "image", "fit"}, {"output": ImageEmbedding}),
    "ImageCondition": ({"conditioning", "embedding", "strength", "noise", "seed"}, {"output": Conditioning}),
    "LabelCondition": ({"unet", "label", "left", "top", "right", "bottom", "others"}, {"output": Conditioning}),
    "NoCondition": ({"unet"}, {"output": Conditioning}),
    "ApplyMap": ({"unet", "image"}, {"output": UNetModel}),
    "ApplySmallPicture": ({"unet", "image", "noise", "seed"}, {"output": UNetModel}),
    "LoadImage": ({"path"}, {"image": Image, "mask": Mask}),
    "TextEncode": ({"text_encoder", "text", "clip_skip", "syntax", "text_2"}, {"output": Conditioning}),
    "CombineConditioning": ({"conditioning_1", "conditioning_2"}, {"output": Conditioning}),
    "ConcatConditioning": ({"conditioning_to", "conditioning_from"}, {"output": Conditioning}),
    "AverageConditioning": ({"conditioning_to", "conditioning_from", "conditioning_to_strength"}, {"output": Conditioning}),
    "SetArea": ({"conditioning", "width", "height", "x", "y", "unit", "strength"}, {"output": Conditioning}),
    "SetMask": ({"conditioning", "mask", "strength", "mask_bounds"}, {"output": Conditioning}),
    "SetRange": ({"conditioning", "start", "end"}, {"output": Conditioning}),
    "ZeroOut": ({"conditioning"}, {"output": Conditioning}),
    "SizeCondition": (
        {"conditioning", "width", "height", "crop_x", "crop_y", "target_width", "target_height", "aesthetic"},
        {"output": Conditioning},
    ),
    "ApplyInpaint": ({"unet", "vae", "image", "mask"}, {"output": UNetModel}),
    "ApplyPix2Pix": ({"unet", "latent"}, {"output": UNetModel}),
    "VAEEncode": ({"vae", "image", "fit", "sample", "seed"}, {"output": Latent}),
    "VAEDecode": ({"vae", "latent"}, {"output": Image}),
    "EmptyLatent": ({"vae", "width", "height", "batch", "like"}, {"output": Latent}),
    "Noise": ({"like", "seed", "draw"}, {"output": Noise}),
    "LoadImages": ({"path"}, {"images": list[Image], "masks": list[Mask], "names": list[str]}),
    "LoadTable": ({"path", "column"}, {"values": list[Any], "rows": list[Any], "columns": list[str]}),
    "FromList": ({"items", "index", "key"}, {"output": Any}),
    "TextTemplate": ({"text", "negative", "seed", "wildcards", "styles", "style"}, {"text": str, "negative": str}),
    "LoadLatent": ({"path", "vae"}, {"output": Latent}),
    "FromBatch": ({"latent", "index", "count"}, {"output": Latent}),
    "ImageFromBatch": ({"image", "index", "count"}, {"output": Image}),
    "ResizeLatent": ({"latent", "width", "height", "scale", "method", "crop"}, {"output": Latent}),
    "CompositeLatent": ({"latent", "original", "x", "y", "feather", "mask", "stretch"}, {"output": Latent}),
    "RepeatLatent": ({"latent", "times"}, {"output": Latent}),
    "RepeatImage": ({"image", "times"}, {"output": Image}),
    "JoinLatents": ({"latents"}, {"output": Latent}),
    "Rebatch": ({"latents", "count"}, {"output": list[Latent]}),
    "BatchNoise": ({"latent", "noise"}, {"output": Latent}),
    "Pad": ({"image", "left", "top", "right", "bottom", "feather"}, {"image": Image, "mask": Mask}),
    "HideMasked": ({"image", "mask", "grow", "multiple"}, {"image": Image, "mask": Mask}),
    "Canny": ({"image", "low", "high"}, {"output": Image}),
    "Mask": ({"path", "mask", "image", "channel", "invert", "threshold", "grow", "corners", "blur"}, {"output": Mask}),
    "UNetDenoise": ({"unet", "positive", "negative", "cfg"}, {"output": Denoiser}),
    "Resize": ({"image", "width", "height", "scale", "megapixels", "method", "crop", "antialias"}, {"output": Image}),
    "Label": ({"image", "text", "place", "size", "colour", "background"}, {"output": Image}),
    "Grid": ({"images", "columns", "gap", "background"}, {"output": Image}),
    "Guidance": ({"denoiser", "guidance", "options"}, {"output": Denoiser}),
    "PerpNeg": ({"unet", "positive", "negative", "empty", "cfg", "neg_scale"}, {"output": Denoiser}),
    "DualGuidance": (
        {"unet", "positive", "middle", "negative", "cfg", "cfg_middle", "nested", "unet_negative"},
        {"output": Denoiser},
    ),
    "Sampler": (
        {
            "denoiser",
            "latent",
            "noise",
            "mask",
            "sigmas",
            "sampler",
            "schedule",
            "steps",
            "start_step",
            "end_step",
            "finish",
            "strength",
            "soft_mask",
            "step_noise",
            "like",
            "options",
            "schedule_options",
        },
        {"output": Latent},
    ),
    "Schedule": (
        {"unet", "schedule", "steps", "start_step", "end_step", "finish", "strength", "schedule_options"},
        {"output": Sigmas},
    ),
    "Sigmas": ({"levels"}, {"output": Sigmas}),
    "SplitSigmas": ({"sigmas", "step"}, {"high": Sigmas, "low": Sigmas}),
    "FlipSigmas": ({"sigmas"}, {"output": Sigmas}),
    "FlipLatent": ({"latent", "direction"}, {"output": Latent}),
    "RotateLatent": ({"latent", "turns"}, {"output": Latent}),
    "CropLatent": ({"latent", "width", "height", "x", "y"}, {"output": Latent}),
    "AddLatents": ({"latent", "other"}, {"output": Latent}),
    "SubtractLatents": ({"latent", "other"}, {"output": Latent}),
    "MultiplyLatent": ({"latent", "factor"}, {"output": Latent}),
    "BlendLatents": ({"latent", "other", "share"}, {"output": Latent}),
    "InterpolateLatents": ({"latent", "other", "share"}, {"output": Latent}),
    "SolidMask": ({"width", "height", "value"}, {"output": Mask}),
    "CropMask": ({"mask", "width", "height", "x", "y"}, {"output": Mask}),
    "FeatherMask": ({"mask", "left", "top", "right", "bottom"}, {"output": Mask}),
    "CombineMasks": ({"mask", "other", "operation", "x", "y"}, {"output": Mask}),
    "ColourMask": ({"image", "colour"}, {"output": Mask}),
    "MaskToImage": ({"mask"}, {"output": Image}),
    "Composite": ({"image", "original", "mask"}, {"output": Image}),
    "Paste": ({"image", "original", "x", "y", "mask", "stretch"}, {"output": Image}),
    "Curve": ({"label", "figures", "x", "y", "at"}, {"output": dict[str, Any]}),
    "Plot": (
        {"curves", "title", "x_label", "y_label", "x_logarithmic", "y_logarithmic", "width", "height"},
        {"output": Image},
    ),
}
"""The names that workflows use: changing one breaks them."""


@pytest.mark.parametrize("name", NODES)
def test_node_types_have_the_documented_ports(plugins, name):
    entry = plugins.nodes.get(name)
    inputs, outputs = NODES[name]
    assert {port.name for port in entry.value.inputs} == inputs
    assert {port.name: port.type for port in entry.value.outputs} == outputs
    assert entry.value.doc
    assert entry.origin.plugin == "nodegraph_nodes"


def test_all_node_types_are_listed(plugins):
    assert {entry.name for entry in plugins.nodes.entries() if entry.origin.plugin == "nodegraph_nodes"} == set(NODES)


def test_nodes_that_run_networks_are_numeric(plugins):
    numeric = {entry.name for entry in plugins.nodes.entries() if entry.value.numeric}
    painting = {"TextEncode", "VAEEncode", "VAEDecode", "ApplyInpaint", "UNetDenoise", "PerpNeg", "DualGuidance", "Sampler"}
    painting |= {"ClassifierGuidance", "ClipGuidance", "Upscale", "ImageEncode", "ApplyGligen"}
    learning = {name for name in plugins.nodes.names() if name.startswith("Train")} - {"TrainingOptions"}
    assert numeric == painting | learning | {"Edges", "Evaluate", "EvaluateAutoencoder", "FrechetDistance", "ExportModel"}


def test_samplers_and_schedules_are_registered(plugins):
    assert plugins.registries["samplers"].names() == sorted(SAMPLERS)
    assert plugins.registries["schedules"].names() == sorted(SCHEDULES)
    assert plugins.registries["guidance"].names() == sorted(GUIDANCE)
    sampler = plugins.nodes.get("Sampler").value
    for port in sampler.inputs:
        if port.choice is not None:
            assert port.default in plugins.registries[port.choice.registry]
    assert sampler.input("latent").default is MISSING


NAMED = """
from nodegraph import hookimpl

def sample_mine(denoise, x, sigmas, *, noise, on_step{more}):
    return x

@hookimpl
def register_samplers(register):
    register("mine", sample_mine{declared})
"""


@pytest.mark.parametrize(
    ("more", "declared", "message"),
    [
        ("", ", order=2", None),
        (", strength", "", r"samplers 'mine': expected a function sampler\(denoise, x, sigmas, \*, noise, on_step, \*\*options\)"),
        ("", ", nois='brownian'", "'nois' cannot be declared. Did you mean 'noise'"),
        ("", ", noise='pink'", "expected noise 'independent' or 'brownian', found 'pink'"),
        ("", ", aliases=('Euler',)", "two plugins register the sampler 'Euler': 'nodegraph_nodes' .* and 'mine'"),
    ],
)
def test_invalid_sampler_is_refused_at_registration(tmp_path, more, declared, message):
    (tmp_path / "mine.py").write_text(NAMED.format(more=more, declared=declared))
    plugins = load_plugins([tmp_path])
    if message is None:
        plugins.require_sound()
        assert plugins.registries["samplers"].get("mine").value.order == 2
        return
    with pytest.raises(PluginError, match=message):
        plugins.require_sound()


def test_only_values_without_models_are_stored(plugins):
    for kind in (Image, Mask, Latent, Noise, Sigmas):
        assert plugins.codecs.for_type(kind).name == kind.__name__.lower()
    assert plugins.codecs.for_type(Conditioning).name == "prompts"
    for kind in (UNetModel, VAE, TextEncoder, Denoiser):
        assert plugins.codecs.for_type(kind) is None


def test_pack_registers_its_backend(plugins):
    assert isinstance(plugins.backend, TorchBackend)
    assert "torch" in plugins.backend.fingerprint()
    assert plugins.backend.resolve("cpu", "float32").device == "cpu"
    plugins.backend.free_memory()


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised_by_its_message(error, short):
    assert TorchBackend().is_out_of_memory(error) is short


def test_out_of_memory_check_imports_no_torch():
    code = (
        "import sys; from nodegraph_nodes.models.backend import TorchBackend; backend = TorchBackend(); backend.free_memory(); "
        "backend.is_out_of_memory(RuntimeError('x')); "
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "False"), ran.stderr
