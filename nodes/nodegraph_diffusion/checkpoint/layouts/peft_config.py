"""PEFT's config of an adapter: what it says about each module beside the tensors.

Diffusers writes the configs of several parts into one, each key after the name of the part.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodegraph_diffusion.checkpoint.layouts.lora import LoraName

Config = Mapping[str, Any]

_MOST_TERMS = 100
_KINDS = ("LORA", "LOHA", "LOKR", "OFT", "BOFT", "IA3")


@dataclass(frozen=True, kw_only=True)
class ModuleOptions:
    """The settings in a trainer's config for the change of one module.

    `scale` replaces alpha / rank if there is no alpha. `on_input`: an IA3 scales the module's input; None: its shape shows it.
    Of an OFT: how many terms of Neumann's series replace the inverse (None: the inverse itself), and the largest norm of all blocks
    (Qiu et al. 2023, sec. 3.3, COFT), None for no limit.
    """

    scale: float | None = None
    on_input: bool | None = None
    neumann_terms: int | None = 5
    largest_norm: float | None = None


def parse_config(text: str | bytes) -> Config:
    """The config. Raises ValueError or TypeError if the text is not a JSON object."""
    try:
        config = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(config, dict):
        raise TypeError(type(config).__name__)
    return config


def module_options(config: Config, name: LoraName) -> ModuleOptions:
    """The options of the module that a tensor of this name changes.

    Raises ValueError, TypeError, AttributeError, OverflowError or re.error if the config has values that PEFT does not write.
    """
    part = f"{name.part}."
    settings = {key.removeprefix(part): value for key, value in config.items() if key.startswith(part)} or config
    kind = settings.get("peft_type", _KINDS[0])
    if kind not in _KINDS:
        raise ValueError(f"peft_type {kind!r}, not one of {', '.join(_KINDS)}")
    if kind == "OFT":
        terms = int(settings.get("num_cayley_neumann_terms", 5)) if settings.get("use_cayley_neumann", True) else None
        if terms is not None and not 1 <= terms <= _MOST_TERMS:
            raise ValueError(f"num_cayley_neumann_terms {terms}, not 1 to {_MOST_TERMS}")
        return ModuleOptions(neumann_terms=terms, largest_norm=float(settings.get("eps", 6e-5)) if settings.get("coft") else None)
    if kind == "IA3":
        return ModuleOptions(on_input=_is_feedforward(settings.get("feedforward_modules"), name.written))
    return ModuleOptions(scale=None if kind == "BOFT" else _scale(settings, name.written))


def _is_feedforward(modules: Any, module: str) -> bool | None:
    """Whether PEFT's pattern or list of feedforward modules names the module; None if there is none."""
    if modules is None:
        return None
    if isinstance(modules, str):
        return bool(re.fullmatch(modules, module))
    return any(module.endswith(name) for name in modules)


def _scale(settings: Config, module: str) -> float | None:
    """alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023, rsLoRA, eq. 4). None if the config gives no scale."""
    alpha = _value_for_module(settings, "alpha_pattern", module, settings.get("lora_alpha", settings.get("alpha")))
    rank = _value_for_module(settings, "rank_pattern", module, settings.get("r"))
    if alpha is None or rank is None:
        return None
    scale = float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else float(rank)) if float(rank) > 0 else math.nan
    if not math.isfinite(scale):
        raise ValueError(f"alpha {alpha} and rank {rank} for {module!r}")
    return scale


def _value_for_module(config: Config, pattern: str, module: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of the module's name, as PEFT matches them; or the default."""
    patterns = config.get(pattern) or {}
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)
