"""Adapters made by PEFT, and kohya's files as diffusers reads them, give the same results here as there."""

from __future__ import annotations

import json

import diffusers
import peft
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodegraph_diffusion.adapters.lora.match import unmatched
from nodegraph_diffusion.adapters.lora.patch import patched
from nodegraph_diffusion.checkpoint import CheckpointError, describe, load_text_encoder, load_unet
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.text.encode import Reader, read_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from tests.support import small_networks as small
from tests.support.families import FAMILIES
from tests.support.slow import slow_except
from tests.support.unet_configs import CONTEXT, TIMESTEPS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Adapter 'default'.*invalid shape"),  # PEFT warns about its own biases
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`"),
]

X = small.noise(2, 4, 8, 8)
LINEAR = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "time_emb_proj", "linear_1"]
CONVOLUTIONS = ["proj_in", "proj_out", "conv_in", "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv"]
EVERYWHERE = [*LINEAR, *CONVOLUTIONS]
TURNED = [*LINEAR, "proj_in", "proj_out", "conv_shortcut"]  # PEFT folds larger kernels in another way than it merges them
IA3 = ["to_k", "to_v", "ff.net.2", "conv1", "conv2", "proj_out", "linear_1"]

KINDS = {
    "lora": peft.LoraConfig(r=4, lora_alpha=6, target_modules=LINEAR),
    "lora of convolutions": peft.LoraConfig(r=4, lora_alpha=4, target_modules=EVERYWHERE),
    "lora with ranks and alphas of its own for some": peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=EVERYWHERE,
        rank_pattern={"to_q": 2, r"down_blocks\.0.*conv1": 3},
        alpha_pattern={"attn1.to_k": 1, r"^up_blocks.*conv1": 5},
    ),
    "rslora": peft.LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=EVERYWHERE),
    "dora": peft.LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=EVERYWHERE),
    "lora with biases": peft.LoraConfig(r=4, lora_alpha=6, lora_bias=True, target_modules=["to_out.0", "ff.net.2", "linear_1"]),
    "loha": peft.LoHaConfig(r=4, alpha=6, target_modules=EVERYWHERE),
    "loha with cores": peft.LoHaConfig(r=4, alpha=6, use_effective_conv2d=True, target_modules=EVERYWHERE),
    "lokr": peft.LoKrConfig(r=4, alpha=6, target_modules=EVERYWHERE),
    "lokr of two products": peft.LoKrConfig(r=2, alpha=6, decompose_both=True, decompose_factor=8, target_modules=EVERYWHERE),
    "lokr with cores": peft.LoKrConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=EVERYWHERE),
    "lokr of two whole factors": peft.LoKrConfig(r=64, alpha=32, target_modules=LINEAR),
    "lora with whole modules": peft.LoraConfig(r=4, target_modules=["to_q"], modules_to_save=["conv_in", "conv_norm_out"]),
    "lora with whole biases": peft.LoraConfig(r=4, target_modules=["to_q", "conv1"], bias="all"),
    "oft": peft.OFTConfig(oft_block_size=8, target_modules=TURNED),
    "oft with the inverse": peft.OFTConfig(oft_block_size=4, target_modules=TURNED, use_cayley_neumann=False),
    "oft with shared blocks": peft.OFTConfig(oft_block_size=8, target_modules=TURNED, block_share=True, num_cayley_neumann_terms=3),
    "oft with a limit": peft.OFTConfig(oft_block_size=8, target_modules=TURNED, coft=True, eps=0.7),
    "boft": peft.BOFTConfig(boft_block_size=4, target_modules=TURNED),
    "ia3": peft.IA3Config(target_modules=IA3, feedforward_modules=["ff.net.2", "conv2"]),
    "ia3 with a pattern": peft.IA3Config(target_modules=IA3, feedforward_modules=r".*(ff\.net\.2|proj_out|to_v)"),
}


def randomise(network: nn.Module) -> None:
    """Give an adapter's factors values other than 0, and DoRA's norms values other than those of the weights."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            trained = ("lora_", "hada_", "lokr_", "oft_", "ia3_", "modules_to_save", "bias")
            if not any(kind in name for kind in trained) or not parameter.requires_grad:
                continue
            drawn = torch.randn(parameter.shape, generator=generator)
            if any(kind in name for kind in ("magnitude", "ia3_", "boft_s", "modules_to_save")):
                parameter.mul_(1 + 0.1 * drawn)
            elif "oft_" in name or not any(kind in name for kind in trained[:3]):
                parameter.add_(0.15 * drawn)
            elif "lora_" in name:
                parameter.copy_(drawn * (0.3 if name.endswith("bias") else 0.6 * (parameter.shape[0] / parameter.numel()) ** 0.5))
            else:
                parameter.copy_(drawn * 0.4)


def ours_like(reference: diffusers.UNet2DConditionModel) -> UNet:
    unet = small.our_unet()
    weights, table = reference.state_dict(), unet_modules(small.UNET)
    unet.load_state_dict({key: weights[rename(key, table)].clone() for key in unet.state_dict()})
    return unet


@pytest.fixture(scope="module")
def plain() -> Tensor:
    """The network's result without an adapter."""
    return small.reference_unet()(X, TIMESTEPS, CONTEXT).sample


FAST = ("lora", "lokr", "oft")


@pytest.mark.parametrize("kind", slow_except(FAST, KINDS))
def test_peft_adapters_compute_the_same_here(tmp_path, kind, plain, monkeypatch):
    monkeypatch.setattr("peft.tuners.boft.layer._FBD_CUDA", False)  # otherwise PEFT tries to compile a kernel for each layer
    reference = small.reference_unet()
    unet = ours_like(reference)
    adapted = peft.get_peft_model(reference, KINDS[kind])
    randomise(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    expected = adapted(X, TIMESTEPS, CONTEXT).sample
    assert small.difference(expected, plain) > 0.05
    file = describe(tmp_path / "adapter").lora()
    assert unmatched(file, "unet", unet.config) == []
    assert small.difference(patched(unet, "unet", [(file, 1.0)])(X, TIMESTEPS, CONTEXT), expected) <= small.TOLERANCE
    assert describe(tmp_path / "adapter" / "adapter_model.safetensors").lora().options == file.options
    assert [one.name for one in file.files] == ["adapter_model.safetensors", "adapter_config.json"]


@pytest.mark.parametrize(
    "weights", [[0.5, -0.75], *(pytest.param(pair, marks=pytest.mark.slow) for pair in ([1.0, 1.0], [0.0, 1.3]))]
)
def test_several_weighted_adapters_equal_peft(tmp_path, weights):
    reference = small.reference_unet()
    unet = ours_like(reference)
    for name, config in (("one", KINDS["lora of convolutions"]), ("two", KINDS["rslora"])):
        reference.add_adapter(config, name)
    randomise(reference)
    for name in ("one", "two"):
        reference.save_lora_adapter(tmp_path / name, adapter_name=name)
    reference.set_adapters(["one", "two"], weights)
    expected = reference(X, TIMESTEPS, CONTEXT).sample
    files = [(describe(tmp_path / name).lora(), weight) for name, weight in zip(("one", "two"), weights, strict=True)]
    assert small.difference(patched(unet, "unet", files)(X, TIMESTEPS, CONTEXT), expected) <= small.TOLERANCE


def test_scale_in_the_header_is_used(tmp_path):
    reference = small.reference_unet()
    reference.add_adapter(KINDS["rslora"], "one")
    reference.save_lora_adapter(tmp_path, adapter_name="one")
    (file,) = tmp_path.iterdir()
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["lora_adapter_metadata"])["use_rslora"]
    assert {options.scale for options in describe(file).lora().options.values()} == {3 / 2}
    save_file(load_file(file), file)
    assert {options.scale for options in describe(file).lora().options.values()} == {None}


def test_parts_of_one_file_have_separate_scales(tmp_path):
    """As a pipeline's `save_lora_weights` packs the configs of its parts."""
    up, down = small.noise(32, 4), small.noise(4, 32)
    settings = {
        "unet.lora_alpha": 8,
        "unet.r": 4,
        "text_encoder.lora_alpha": 6,
        "text_encoder.r": 4,
        "text_encoder.use_rslora": True,
    }
    tensors = {
        f"{name}.lora_{role}.weight": tensor.clone()
        for name in ("unet.mid_block.attentions.0.proj_in", "text_encoder.text_model.encoder.layers.0.self_attn.q_proj")
        for role, tensor in (("B", up), ("A", down))
    }
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    scales = {part: options.scale for (part, _), options in describe(tmp_path / "a.safetensors").lora().options.items()}
    assert scales == {"unet": 2.0, "text_encoder": 3.0}


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[1]",
        '{"peft_type": "VERA"}',
        '{"peft_type": "OFT", "num_cayley_neumann_terms": 1000000000}',
        '{"peft_type": "IA3", "feedforward_modules": 5}',
        '{"peft_type": ["LORA"]}',
        '{"lora_alpha": "much", "r": 4}',
        '{"lora_alpha": 4, "r": 0}',
        '{"lora_alpha": 4, "r": -4, "use_rslora": true}',
        '{"lora_alpha": Infinity, "r": 4}',
        pytest.param('{"lora_alpha": 4, "r": 1%s}' % ("0" * 400), id="a rank beyond all numbers"),
        '{"rank_pattern": 3, "r": 1}',
        '{"alpha_pattern": {"(": 3}, "r": 1}',
    ],
)
def test_nonsensical_config_is_refused(tmp_path, config):
    factors = {f"mid_block.attentions.0.proj_in.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    save_file(factors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(CheckpointError, match="expected a config of PEFT"):
        describe(tmp_path).lora()


def test_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected adapter_model\.safetensors or pytorch_lora_weights"):
        describe(tmp_path).lora()


# --- kohya's names, through diffusers' own converter ---


def steps(*shape: int, unit: float) -> Tensor:
    """Random multiples of `unit`: float16, to which text encoders are rounded, holds sums of such weights exactly."""
    return (torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) / unit**0.5 / 4).round() * unit


def kohya(pipeline: diffusers.DiffusionPipeline, parts: dict[str, str], rank: int = 2) -> dict[str, Tensor]:
    """A file of kohya's kind with changes of all attentions and feed-forwards, and of some convolutions."""
    tensors = {}
    for part, prefix in parts.items():
        for name, module in getattr(pipeline, part).named_modules():
            in_text = part != "unet"
            wanted = name.endswith(("to_q", "to_out.0", "net.0.proj", "proj_in", "conv1", "q_proj", "out_proj", "fc1"))
            if not wanted or not isinstance(module, nn.Linear | nn.Conv2d):
                continue
            name = f"text_model.{name.removeprefix('text_model.')}" if in_text else name
            rows, columns, *kernel = module.weight.shape
            stem = f"{prefix}_{name.replace('.', '_')}"
            tensors[f"{stem}.lora_up.weight"] = steps(rows, rank, *[1] * len(kernel), unit=1 / 16)
            tensors[f"{stem}.lora_down.weight"] = steps(rank, columns, *kernel, unit=1 / 16)
            tensors[f"{stem}.alpha"] = torch.tensor(rank / 2)
    return tensors


def on_steps(encoder: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.dim() == 2 and "embedding" not in name:
                parameter.copy_((parameter * 512).round() / 512)


@pytest.mark.parametrize("family", ["sd2", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_kohya_names_are_read_as_by_diffusers(tmp_path, family):
    pipeline = FAMILIES[family](tmp_path)
    parts = {"unet": "lora_unet", "text_encoder": "lora_te"}
    if family == "sdxl":
        parts = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    for part in list(parts)[1:]:
        on_steps(getattr(pipeline, part))
    pipeline.save_pretrained(tmp_path / "model")
    tensors = kohya(pipeline, parts)
    save_file(tensors, tmp_path / "kohya.safetensors")
    pipeline.load_lora_weights(dict(tensors), adapter_name="kohya")
    pipeline.set_adapters(["kohya"], [0.5])

    found, file = describe(tmp_path / "model").model(), describe(tmp_path / "kohya.safetensors").lora()
    unet = load_unet(found.unet, "cpu", torch.float32)
    assert unmatched(file, "unet", unet.config) == []
    prompt = "a red house"
    if family == "sdxl":
        embedding, _, pooled, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        numbers = torch.tensor([[32.0, 32.0, 0.0, 0.0, 32.0, 32.0]])
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": numbers}}
    else:
        (embedding, _), pooled, more = pipeline.encode_prompt(prompt, "cpu", 1, False), None, {}
    plain, readers = [], []
    for name, part in zip(list(parts)[1:], found.text.parts, strict=True):
        encoder, tokenizer = load_text_encoder(part, "cpu", torch.float32), load_tokenizer(part.tokenizer)
        assert unmatched(file, name, encoder.config) == []
        plain.append(Reader(encoder, tokenizer))
        readers.append(Reader(patched(encoder, name, [(file, 0.5)]), tokenizer))
    ours = read_prompt(readers, prompt)
    assert small.difference(ours.embedding, embedding) <= small.TOLERANCE
    assert pooled is None or small.difference(ours.pooled, pooled) <= small.TOLERANCE
    assert small.difference(read_prompt(plain, prompt).embedding, embedding) > 0.02

    x, timestep, added = X[:1], TIMESTEPS[:1], None
    if pooled is not None:
        from nodegraph_diffusion.conditioning.sdxl_sizes import vector_conditioning

        added = vector_conditioning(ours, (32, 32), 6.0, unet.config.added_dim)
    expected = pipeline.unet(x, timestep, embedding, **more).sample
    assert small.difference(patched(unet, "unet", [(file, 0.5)])(x, timestep, ours.embedding, added), expected) <= small.TOLERANCE
    assert small.difference(unet(x, timestep, ours.embedding, added), expected) > 0.05
