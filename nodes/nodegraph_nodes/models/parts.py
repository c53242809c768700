"""Loading the networks of a model, with the changes that adapter nodes made. A run keeps what was loaded."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Literal, TypeVar

from nodegraph.plugin_api import AUTO
from nodegraph_nodes.model_files import OpenedPart, P, Patch
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.opened_files import require_unchanged
from nodegraph_nodes.models.patches import require_unchanged_patch
from nodegraph_nodes.types import VAE, UNetModel

if TYPE_CHECKING:
    import torch

    from nodegraph import Run
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.networks.unet import UNet
    from nodegraph_diffusion.networks.vae import AutoencoderKL

T = TypeVar("T")
N = TypeVar("N", "UNet", "CLIPTextModel")


def network_dtype(network: Literal["unet", "controlnet", "vae", "text_encoder"], run: Run) -> torch.dtype:
    """The dtype that a network computes in.

    UNets and ControlNets compute in the dtype of the run; `auto`, which a node receives only if it is called without an engine,
    means float32. The others always compute in float32: published autoencoders overflow in float16, and a text encoder runs once
    for a prompt.
    """
    import torch

    if network in ("vae", "text_encoder") or run.dtype == AUTO:
        return torch.float32
    dtype: torch.dtype = getattr(torch, run.dtype)
    return dtype


def load_unet_network(unet: UNetModel, run: Run) -> UNet:
    """The UNet with its patches, on the run's device. Raises ValueError if the files are damaged or were changed."""
    from nodegraph_diffusion.checkpoint import load_unet

    dtype = network_dtype("unet", run)
    network = load_once(unet.opened, run, "network", dtype=dtype, load=lambda: load_unet(unet.part, run.device, dtype))
    return apply_patches(network, unet.opened, unet.patches, run=run, dtype=dtype)


def load_vae_network(vae: VAE, run: Run) -> AutoencoderKL:
    """The autoencoder, on the run's device. Raises ValueError if the files are damaged or were changed."""
    from nodegraph_diffusion.checkpoint import load_vae

    dtype = network_dtype("vae", run)
    return load_once(vae.opened, run, "network", dtype=dtype, load=lambda: load_vae(vae.part, run.device, dtype))


def apply_patches(network: N, opened: OpenedPart[P], patches: tuple[Patch, ...], *, run: Run, dtype: torch.dtype) -> N:
    """The network of a part with the patches on it; `network` itself is not changed. Raises ValueError as `load_once` does."""
    if not patches:
        return network
    from nodegraph_diffusion.adapters.lora.patch import patched

    for patch in patches:
        require_unchanged_patch(patch)
    loras = [(patch.lora, patch.strength) for patch in patches]
    return load_once(
        opened, run, ("patched", *patches), dtype=dtype, load=lambda: patched(network, opened.part.weights.part, loras)
    )


def load_once(opened: OpenedPart[P], run: Run, what: Hashable, *, dtype: torch.dtype | None, load: Callable[[], T]) -> T:
    """The result of `load()`, which the run keeps for the next call with the same `opened`, `what` and `dtype`.

    Raises ValueError if the files are damaged or were changed since they were opened.
    """
    name = f"the model {opened.part.path}"

    def load_unchanged() -> T:
        value = load()
        require_unchanged(opened.files, name)  # if they changed while they were read, the value is not kept
        return value

    require_unchanged(opened.files, name)
    key = (what, opened.part.weights, opened.part.config, opened.files, run.device, str(dtype))
    with file_errors():
        return run.resident(key, load_unchanged)
