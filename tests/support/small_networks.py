"""Small networks of the references' classes and of ours, with the same synthetic values."""

from __future__ import annotations

import functools
import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import diffusers
import torch
import transformers
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet, UNetConfig
from nodegraph_diffusion.networks.vae import AutoencoderKL, VAEConfig
from tests.support import synthetic_checkpoints as synthetic

# An LDM file does not say how many groups and heads there are, so these have Stable Diffusion 1.x's: 32, 8, and 64 wide.
UNET = UNetConfig(model_channels=32, channel_mult=(1, 2, 3), transformer_depth=(1, 1, 0), context_dim=128)
VAE = VAEConfig(channels=32, channel_mult=(1, 2, 2))
TEXT = CLIPTextConfig(vocab_size=514, width=128, layers=3, heads=2, max_length=16, mlp_width=96, eos=513)

P = ParamSpec("P")
Network = TypeVar("Network", bound=nn.Module)

TOLERANCE = 1e-4  # of the reference's standard deviation, in float32


def difference(ours: Tensor, reference: Tensor) -> float:
    """The largest difference, in standard deviations of the reference."""
    return ((ours.float() - reference).abs().max() / reference.std()).item()


def half_tolerance(dtype: torch.dtype) -> float:
    """How far a network in `dtype` may be from float32, in standard deviations, on any processor.

    50 roundings of the largest kind: it is about 10 where sums are kept in float32, and 25 where they are kept in `dtype`, too.
    """
    return 50 * torch.finfo(dtype).eps


def copied(build: Callable[P, Network]) -> Callable[P, Network]:
    """Build each network once and return copies, which tests can change: copying one is a hundred times as fast as filling it."""
    built = functools.lru_cache(maxsize=32)(lambda *args, **kwargs: _Template(build(*args, **kwargs)))

    @functools.wraps(build)
    def copy_of(*args: P.args, **kwargs: P.kwargs) -> Network:
        return cast(Network, built(*args, **kwargs).copy())

    return copy_of


class _Template:
    """A network to copy: its modules as a pickle, which is some ten times as fast as `copy.deepcopy`, beside its tensors."""

    def __init__(self, network: nn.Module) -> None:
        self._tensors: list[Tensor] = []
        written = io.BytesIO()
        pickler = pickle.Pickler(written, protocol=5)
        pickler.persistent_id = self._keep  # type: ignore[method-assign]
        pickler.dump(network)
        self._modules = written.getvalue()

    def copy(self) -> nn.Module:
        tensors: dict[int, Tensor] = {}  # two modules may share one

        def tensor(index: int) -> Tensor:
            if index not in tensors:
                found = self._tensors[index]
                tensors[index] = found.detach().clone()
                if isinstance(found, nn.Parameter):
                    tensors[index] = nn.Parameter(tensors[index], requires_grad=found.requires_grad)
            return tensors[index]

        unpickler = pickle.Unpickler(io.BytesIO(self._modules))
        unpickler.persistent_load = tensor  # type: ignore[method-assign]
        return cast(nn.Module, unpickler.load())

    def _keep(self, value: object) -> int | None:
        """The index of a tensor; None for everything else, which is pickled."""
        if not isinstance(value, Tensor):
            return None
        for i, tensor in enumerate(self._tensors):
            if tensor is value:
                return i
        self._tensors.append(value)
        return len(self._tensors) - 1


@copied
def our_unet(config: UNetConfig = UNET) -> UNet:
    unet = UNet(config).eval().requires_grad_(False)
    synthetic.fill(unet)
    return unet


@copied
def our_vae(config: VAEConfig = VAE) -> AutoencoderKL:
    vae = AutoencoderKL(config).eval().requires_grad_(False)
    synthetic.fill(vae)
    return vae


@copied
def our_text_encoder(config: CLIPTextConfig = TEXT) -> CLIPTextModel:
    model = CLIPTextModel(config).eval().requires_grad_(False)
    synthetic.fill(model)
    return model


@copied
def reference_unet(config: UNetConfig = UNET) -> diffusers.UNet2DConditionModel:
    widths = [mult * config.model_channels for mult in config.channel_mult]
    added = {}
    if config.added_dim is not None:
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": config.added_dim,
        }
    unet = diffusers.UNet2DConditionModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=widths,
        down_block_types=["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in config.transformer_depth],
        up_block_types=["CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(config.transformer_depth)],
        layers_per_block=config.num_res_blocks,
        cross_attention_dim=config.context_dim,
        attention_head_dim=config.num_heads or [width // config.head_channels for width in widths],
        transformer_layers_per_block=_depths(config),
        use_linear_projection=config.linear_projection,
        norm_num_groups=config.norm_groups,
        time_cond_proj_dim=config.guidance_dim,
        mid_block_type={0: None, 1: "UNetMidBlock2D", 2: "UNetMidBlock2DCrossAttn"}[config.middle_blocks],
        reverse_transformer_layers_per_block=_reversed_depths(config),
        **added,
    )
    synthetic.fill(unet)
    return unet.eval().requires_grad_(False)


def _depths(config: UNetConfig) -> list[int]:
    """In diffusers, the middle has the depth of the last level."""
    depths = [depth or 1 for depth in config.transformer_depth]
    return [*depths[:-1], config.middle_depth] if config.middle_blocks == 2 else depths


def _reversed_depths(config: UNetConfig) -> list[list[int]] | None:
    if config.up_depth is None:
        return None
    return [[depth or 1 for depth in level] for level in reversed(config.up_depth)]


@copied
def reference_vae(config: VAEConfig = VAE) -> diffusers.AutoencoderKL:
    levels = len(config.channel_mult)
    vae = diffusers.AutoencoderKL(
        block_out_channels=[mult * config.channels for mult in config.channel_mult],
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=config.num_res_blocks,
        norm_num_groups=config.norm_groups,
        mid_block_add_attention=config.mid_attention,
    )
    synthetic.fill(vae)
    return vae.eval().requires_grad_(False)


@copied
def reference_text_encoder(config: CLIPTextConfig = TEXT, projected: bool = False) -> transformers.PreTrainedModel:
    sizes = transformers.CLIPTextConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.mlp_width,
        max_position_embeddings=config.max_length,
        hidden_act=config.activation,
        projection_dim=config.projection or config.width,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    model = (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(sizes)
    synthetic.fill(model)
    return model.eval().requires_grad_(False)


def openclip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A text encoder's values as OpenCLIP stores them: other names, joint queries, keys and values, a transposed projection."""
    table = (
        ("embeddings.token_embedding.weight", "token_embedding.weight"),
        ("embeddings.position_embedding.weight", "positional_embedding"),
        ("final_layer_norm", "ln_final"),
        ("encoder.layers", "transformer.resblocks"),
        ("layer_norm", "ln_"),
        ("self_attn.out_proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    )
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("text_model.")
        for theirs, ours in table:
            name = name.replace(theirs, ours)
        named[name.removesuffix(".weight") if "text_projection" in name else name] = value.T if "text_projection" in name else value
    for first in [name for name in named if ".self_attn.q_proj." in name]:
        names = [first.replace("q_proj", f"{part}_proj") for part in "qkv"]
        fused = first.replace("self_attn.q_proj.", "attn.in_proj_")
        named[fused] = torch.cat([named.pop(name) for name in names])
    return named


def write_tokenizer(folder: Path) -> Path:
    """A tokenizer in CLIP's format that knows every byte and nothing else; returns its folder."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = [*letters, *(letter + "</w>" for letter in letters), start, end]
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TEXT.max_length, **special}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def scheduler(kind: type[diffusers.SchedulerMixin] = diffusers.EulerDiscreteScheduler, **more: Any) -> diffusers.SchedulerMixin:
    """A scheduler of diffusers with the noise levels of Stable Diffusion."""
    return kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, **more)


def pipeline(
    folder: Path,
    kind: type[diffusers.DiffusionPipeline],
    unet: diffusers.UNet2DConditionModel,
    scheduler: diffusers.SchedulerMixin,
    **more: Any,
) -> diffusers.DiffusionPipeline:
    """A small Stable Diffusion 1 as a pipeline of this kind, with a tokenizer below `folder`."""
    parts = {
        "unet": unet,
        "vae": reference_vae(),
        "text_encoder": reference_text_encoder(),
        "tokenizer": transformers.CLIPTokenizer.from_pretrained(write_tokenizer(folder / "vocabulary")),
        "scheduler": scheduler,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    made = kind(**parts | more)
    made.set_progress_bar_config(disable=True)
    return made


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))
