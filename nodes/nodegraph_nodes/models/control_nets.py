"""Loading ControlNets and joining them with their pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.opened_files import open_files, require_unchanged
from nodegraph_nodes.models.parts import load_unet_network, network_dtype
from nodegraph_nodes.types import Control, ControlNetModel, UNetModel

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.checkpoint import ControlNetFile
    from nodegraph_diffusion.networks.controlnet import ControlNet, ControlNetGuide


def open_control_net(file: ControlNetFile, base: UNetModel | None = None) -> ControlNetModel:
    """A ControlNet with its files in their current state. Raises OSError if a file does not exist."""
    return ControlNetModel(file, open_files(file.files), base)


def load_control_network(control_net: ControlNetModel, run: Run) -> ControlNet:
    """The network, on the run's device. Raises ValueError if the files are damaged or were changed."""
    from nodegraph_diffusion.checkpoint import load_controlnet

    require_unchanged(control_net.files, f"the ControlNet {control_net.file.path}")
    dtype, unet = network_dtype("controlnet", run), control_net.base
    base = None if unet is None else load_unet_network(unet, run)
    base_key = None if unet is None else (unet.part.weights, unet.opened.files, unet.patches)
    key = ("control", control_net.files, run.device, str(dtype), base_key)
    with file_errors():
        return run.resident(key, lambda: load_controlnet(control_net.file, run.device, dtype, base))


def load_control(control: Control, run: Run) -> ControlNetGuide:
    """The function that guides a UNet, on the run's device. Raises ValueError as `load_control_network` does."""
    from nodegraph_diffusion.networks.controlnet import ControlNetGuide

    network = load_control_network(control.control_net, run)
    return ControlNetGuide(network, control.image.pixels, control.strength, start=control.start, end=control.end)
