"""LoRA: a small change of chosen layers, which is trained while the network stays as it is (Hu et al. 2021)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from nodegraph_diffusion.checkpoint.families import Part
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet

Names = Literal["kohya", "peft"]

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
"""The layers of attention in UNets and text encoders: what trainers adapt by default."""

_KOHYA_PREFIXES: dict[Part, str] = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}


class LoraFactors(nn.Module):
    """The change of a linear layer or a convolution: alpha / rank * up(down(x)). It begins as no change, because `up` is 0."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        shape = layer.weight.shape
        self._convolution = {"stride": layer.stride, "padding": layer.padding} if isinstance(layer, nn.Conv2d) else None
        bound = 1 / math.sqrt(math.prod(shape[1:]))  # Kaiming's with a = sqrt(5), as PEFT and kohya begin
        down = torch.empty(rank, *shape[1:]).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(layer.weight.device))
        self.up = nn.Parameter(torch.zeros(shape[0], rank, *[1] * (len(shape) - 2), device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the layer's output."""
        scale, x = self.alpha / self.rank, x.to(self.down.dtype)
        if self._convolution is None:
            return F.linear(F.linear(x, self.down), self.up) * scale
        options: dict[str, Any] = self._convolution
        return F.conv2d(F.conv2d(x, self.down, **options), self.up) * scale


class Lora(nn.Module):
    """The factors of all adapted layers of a network, by the name of the layer. They work from now on, until `remove`.

    `targets` are ends of names of layers. Networks are adapted where they are; their own weights are frozen. `alpha` is
    `rank` if it is None. Raises ValueError if no layer has such a name, or the rank is below 1.
    """

    def __init__(
        self,
        network: UNet | CLIPTextModel,
        *,
        rank: int = 8,
        alpha: float | None = None,
        targets: Iterable[str] = ATTENTION,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"LoRA: expected a rank of at least 1, found {rank}")
        ends = tuple(f".{target}" for target in targets)
        layers = {
            name: layer
            for name, layer in network.named_modules()
            if f".{name}".endswith(ends) and isinstance(layer, nn.Linear | nn.Conv2d)
        }
        if not layers:
            raise ValueError(f"LoRA: expected layers whose names end in {', '.join(targets)}, found none in this network")
        network.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        self._names = {name.replace(".", "/"): name for name in layers}  # a module's name cannot have dots
        self.factors = nn.ModuleDict(
            {key: LoraFactors(layers[name], rank, rank if alpha is None else alpha, generator) for key, name in self._names.items()}
        )
        self._hooks = [layers[self._names[key]].register_forward_hook(_adding(self.factors[key])) for key in self._names]

    def remove(self) -> None:
        """Take the change away: the network is as it was before."""
        for hook in self._hooks:
            hook.remove()

    def by_layer(self) -> dict[str, LoraFactors]:
        """The factors, by our name of the layer."""
        found = {self._names[key]: factors for key, factors in self.factors.items()}
        return {name: factors for name, factors in found.items() if isinstance(factors, LoraFactors)}


def _adding(factors: nn.Module) -> Any:
    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed: Tensor = output + factors(inputs[0]).to(output.dtype)
        return changed

    return add


def save_lora(path: Path, adapted: Mapping[Part, tuple[UNet | CLIPTextModel, Lora]], names: Names = "kohya") -> None:
    """Write the factors of the parts of a model as a file, with kohya's names or with those of PEFT and diffusers.

    Both name layers as diffusers does. kohya's files hold alpha; in PEFT's names there is none, so `up` is multiplied by
    alpha / rank. Raises ValueError for other names.
    """
    if names not in ("kohya", "peft"):
        raise ValueError(f"LoRA: expected names kohya or peft, found {names!r}")
    xl = "text_encoder_2" in adapted or any(isinstance(each, UNet) and each.config.added_dim for each, _ in adapted.values())
    tensors: dict[str, Tensor] = {}
    for part, (network, lora) in adapted.items():
        for layer, factors in lora.by_layer().items():
            module = _published(network, layer)
            if names == "kohya":
                first = (
                    "lora_te1_" if part == "text_encoder" and xl else _KOHYA_PREFIXES[part]
                )  # kohya counts them if there are two
                prefix = f"{first}{module.replace('.', '_')}"
                tensors[f"{prefix}.lora_down.weight"], tensors[f"{prefix}.lora_up.weight"] = factors.down, factors.up
                tensors[f"{prefix}.alpha"] = torch.tensor(float(factors.alpha))
            else:
                prefix = f"{part}.{module}"
                tensors[f"{prefix}.lora_A.weight"] = factors.down
                tensors[f"{prefix}.lora_B.weight"] = factors.up * (factors.alpha / factors.rank)
    _write(path, tensors)


def save_peft(folder: Path, unet: UNet, lora: Lora) -> None:
    """Write the factors of a UNet as a folder that PEFT's `PeftModel.from_pretrained` loads onto diffusers' UNet.

    All layers have the same rank and alpha, so the config says each once.
    """
    layers = {_published(unet, layer): factors for layer, factors in lora.by_layer().items()}
    first = next(iter(layers.values()))
    config = {
        "peft_type": "LORA",
        "r": first.rank,
        "lora_alpha": first.alpha,
        "target_modules": sorted(layers),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    tensors: dict[str, Tensor] = {}
    for module, factors in layers.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = factors.down
        tensors[f"base_model.model.{module}.lora_B.weight"] = factors.up
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _write(folder / "adapter_model.safetensors", tensors)


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    plain = {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(f"{path.name}.partial")
    save_file(plain, partial, metadata={"format": "pt"})
    partial.replace(path)


def _published(network: UNet | CLIPTextModel, layer: str) -> str:
    """The name of a layer in diffusers or transformers."""
    if isinstance(network, UNet):
        return rename(layer, unet_modules(network.config))
    return f"text_model.{layer}"
