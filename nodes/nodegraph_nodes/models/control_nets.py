"""Loading ControlNets and joining them with their pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.opened_files import Digest, open_files, require_unchanged
from nodegraph_nodes.models.parts import network_dtype, unet_on_demand
from nodegraph_nodes.types import Control, ControlNetModel, UNetModel

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph.plugin_api import OnDemand
    from nodegraph_diffusion.checkpoint import ControlNetFile
    from nodegraph_diffusion.networks.controlnet import ControlNet, ControlNetGuide


def open_control_net(file: ControlNetFile, digest: Digest, base: UNetModel | None = None) -> ControlNetModel:
    """A ControlNet with its files as they are now. Raises OSError if a file does not exist."""
    return ControlNetModel(file, open_files(file.files, digest), base)


def control_network_on_demand(control_net: ControlNetModel, run: Run) -> OnDemand[ControlNet]:
    """The network, on the run's device. This, and loading, raise ValueError if the files are damaged or were changed."""
    from nodegraph_diffusion.checkpoint import load_controlnet
    from nodegraph_diffusion.networks.shapes import controlnet_shapes, count_numbers

    file, files, name = control_net.file, control_net.files, f"the ControlNet {control_net.file.path}"
    device, dtype, digest, unet = run.device, network_dtype("controlnet", run), run.digest, control_net.base
    base = None if unet is None else unet_on_demand(unet, run)

    def load() -> ControlNet:
        require_unchanged(files, name, digest)
        with file_errors():
            network = load_controlnet(file, device, dtype, None if base is None else base.get())
        require_unchanged(files, name, digest)  # if they changed while they were read, the network is not kept
        return network

    require_unchanged(files, name, digest)
    base_key = None if unet is None else (unet.part.weights, unet.opened.files, unet.patches)
    size = count_numbers(controlnet_shapes(file.config, file.hint_widths)) * dtype.itemsize
    return run.on_demand(("control", files, device, str(dtype), base_key), load, size=size)


def load_control(control: Control, run: Run) -> ControlNetGuide:
    """The function that guides a UNet, on the run's device. Raises ValueError as `control_network_on_demand` does."""
    from nodegraph_diffusion.networks.controlnet import ControlNetGuide

    network = control_network_on_demand(control.control_net, run)
    return ControlNetGuide(
        network,
        control.image.pixels,
        control.strength,
        start=control.start,
        end=control.end,
        global_pool=control.control_net.file.global_pool,
    )
