"""What the outputs of ComfyUI's nodes are here. Some of them carry more than one link, such as a latent with its noise mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from nodegraph.plugin_api import dataclass
from nodegraph_comfyui.building.steps import Ref


@dataclass(frozen=True)
class Value:
    """A value that is one link here, such as an IMAGE. `kind` is ComfyUI's name of its type."""

    kind: str
    link: Ref


@dataclass(frozen=True, kw_only=True)
class Model:
    """A MODEL: the UNet, the VAE and the text encoders of its checkpoint, and what goes around its denoiser.

    `guidance` are names and options of guidance, the innermost first. `empty` is the prompt of PerpNeg and its scale. `loader` are
    the type and the inputs of the node that opened it, as long as nothing has changed it.
    """

    unet: Ref
    vae: Ref | None = None
    encoder: Ref | None = None
    guidance: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    empty: tuple[Cond, Any] | None = None
    differential: bool = False
    loader: tuple[str, Mapping[str, Any]] | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A CLIP: the text encoders, and the layer to read."""

    encoder: Ref
    skip: int | None = None


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What a prompt brings with it for the UNet, such as a ControlNet: the node that applies it, the name of that, and its inputs.

    `spreads`: if only the positive prompt has it, ComfyUI applies it to the others, too.
    """

    type: str
    name: str
    inputs: tuple[tuple[str, Any], ...]
    spreads: bool = field(default=True, compare=False)


@dataclass(frozen=True, kw_only=True)
class Cond:
    """A CONDITIONING: the prompt, and what it brings with it for the UNet.

    `area` are the inputs of the node that set its area: None if none did, and "mixed" for joined prompts with different ones.
    """

    link: Ref
    guides: tuple[Guide, ...] = ()
    area: Mapping[str, Any] | Literal["mixed"] | None = None


@dataclass(frozen=True, kw_only=True)
class Latents:
    """A LATENT, with its noise mask."""

    link: Ref
    mask: Ref | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """A SAMPLER: its name and options."""

    name: Any
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Start:
    """A NOISE: a seed, and how noise is drawn from it."""

    seed: Any
    draw: str = "sequential"


@dataclass(frozen=True, kw_only=True)
class Guider:
    """A GUIDER: the denoiser, and whether grey parts of a mask are times to begin."""

    denoiser: Ref
    differential: bool = False


@dataclass(frozen=True, kw_only=True)
class Levels:
    """SIGMAS. `whole`: they end at 0. `steps` is how many steps they make, if that is known."""

    link: Ref
    whole: bool = True
    steps: int | None = None


@dataclass(frozen=True)
class Refused:
    """An output that does not exist here: an error for nodes that use it."""

    why: str
