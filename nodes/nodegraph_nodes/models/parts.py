"""The networks of a model, with the changes that adapter nodes made. They are loaded when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Literal, TypeVar

from nodegraph.plugin_api import AUTO
from nodegraph_nodes.model_files import OpenedFile, OpenedPart, P, Patch
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.opened_files import require_unchanged
from nodegraph_nodes.models.patches import require_unchanged_patch
from nodegraph_nodes.types import VAE, UNetModel

if TYPE_CHECKING:
    import torch

    from nodegraph import Run
    from nodegraph.plugin_api import OnDemand
    from nodegraph_diffusion.checkpoint import ControlNetFile
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.networks.unet import UNet
    from nodegraph_diffusion.networks.vae import AutoencoderKL
    from nodegraph_nodes.models.find import NetworkFile

T = TypeVar("T")
N = TypeVar("N", "UNet", "CLIPTextModel")


def network_dtype(
    network: Literal["unet", "controlnet", "vae", "text_encoder", "upscaler", "image_encoder"], run: Run
) -> torch.dtype:
    """The dtype that a network computes in.

    UNets and ControlNets compute in the dtype of the run; `auto`, which a node receives only if it is called without an engine,
    means float32. The others always compute in float32: published autoencoders overflow in float16, and a text encoder runs once
    for a prompt.
    """
    import torch

    if network not in ("unet", "controlnet") or run.dtype == AUTO:
        return torch.float32
    dtype: torch.dtype = getattr(torch, run.dtype)
    return dtype


def unet_on_demand(unet: UNetModel, run: Run) -> OnDemand[UNet]:
    """The UNet with its patches, on the run's device. Raises ValueError as `part_on_demand` does."""
    from nodegraph_diffusion.checkpoint import load_unet

    device, dtype = run.device, network_dtype("unet", run)
    network = network_on_demand(unet.opened, run, dtype, lambda: load_unet(unet.part, device, dtype))
    return patched_on_demand(network, unet.opened, unet.patches, run=run, dtype=dtype)


def load_unet_network(unet: UNetModel, run: Run) -> UNet:
    """The network of `unet_on_demand`, for as long as a node runs."""
    return unet_on_demand(unet, run).get()


def load_vae_network(vae: VAE, run: Run) -> AutoencoderKL:
    """The autoencoder, on the run's device. Raises ValueError if the files are damaged or were changed."""
    from nodegraph_diffusion.checkpoint import load_vae

    device, dtype = run.device, network_dtype("vae", run)
    return network_on_demand(vae.opened, run, dtype, lambda: load_vae(vae.part, device, dtype)).get()


def network_on_demand(opened: OpenedPart[P], run: Run, dtype: torch.dtype, load: Callable[[], T]) -> OnDemand[T]:
    """The network of a part, without patches, that `load()` returns in `dtype`. Raises ValueError as `part_on_demand` does."""
    from nodegraph_diffusion.checkpoint.detect.sources import part_shapes
    from nodegraph_diffusion.networks.shapes import count_numbers

    size = count_numbers(part_shapes(opened.part)) * dtype.itemsize
    return part_on_demand(opened, run, "network", dtype=dtype, load=load, size=size)


def patched_on_demand(
    network: OnDemand[N], opened: OpenedPart[P], patches: tuple[Patch, ...], *, run: Run, dtype: torch.dtype
) -> OnDemand[N]:
    """The network of a part with the patches on it; `network` stays the same. Raises ValueError as `part_on_demand` does."""
    if not patches:
        return network
    part, digest = opened.part.weights.part, run.digest

    def load() -> N:
        from nodegraph_diffusion.adapters.lora.patch import patch_in_place, patched

        for patch in patches:
            require_unchanged_patch(patch, digest)
        unpatched, may_change = network.take()
        apply = patch_in_place if may_change else patched
        changed = apply(unpatched, part, [(patch.lora, patch.strength) for patch in patches])
        for patch in patches:
            require_unchanged_patch(patch, digest)
        return changed

    for patch in patches:
        require_unchanged_patch(patch, digest)
    return part_on_demand(opened, run, ("patched", *patches), dtype=dtype, load=load)


def extra_network_on_demand(
    file: ControlNetFile | NetworkFile,
    files: tuple[OpenedFile, ...],
    run: Run,
    load: Callable[[], T],
    *,
    dtype: torch.dtype,
    size: int,
    key: Hashable = None,
) -> OnDemand[T]:
    """The result of `load()`, a network beside those of a model; `key` says what else than its files it depends on.

    `size` is how many numbers it has. This, and loading, raise ValueError if the files are damaged or were changed.
    """
    name, digest = f"the network {file.path}", run.digest

    def load_unchanged() -> T:
        require_unchanged(files, name, digest)
        with file_errors():
            network = load()
        require_unchanged(files, name, digest)  # if they changed while they were read, the network is not kept
        return network

    require_unchanged(files, name, digest)
    return run.on_demand((type(file).__name__, files, run.device, str(dtype), key), load_unchanged, size=size * dtype.itemsize)


def part_on_demand(
    opened: OpenedPart[P], run: Run, what: Hashable, *, dtype: torch.dtype | None, load: Callable[[], T], size: int = 0
) -> OnDemand[T]:
    """The result of `load()`, which is kept in memory under `opened`, `what` and `dtype`. `load` holds nothing large.

    `size` is how many bytes the result takes, if that is known.

    This, and loading, raise ValueError if the files are damaged or were changed since they were opened.
    """
    name, files, digest = f"the model {opened.part.path}", opened.files, run.digest

    def load_unchanged() -> T:
        require_unchanged(files, name, digest)
        with file_errors():
            value = load()
        require_unchanged(files, name, digest)  # if they changed while they were read, the value is not kept
        return value

    require_unchanged(files, name, digest)
    key = (what, opened.part.weights, opened.part.config, files, run.device, str(dtype))
    return run.on_demand(key, load_unchanged, size=size)
