"""Loading ControlNets, T2I-Adapters and GLIGEN's layers, and joining them with what they guide a UNet by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodegraph_diffusion.checkpoint import T2IAdapterFile
from nodegraph_nodes.models.opened_files import Digest, open_files
from nodegraph_nodes.models.parts import extra_network_on_demand, network_dtype, unet_on_demand
from nodegraph_nodes.types import Control, ControlNetModel, GligenLayers, Grounding, Guide, UNetModel

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph.plugin_api import OnDemand
    from nodegraph_diffusion.checkpoint import ControlNetFile
    from nodegraph_diffusion.denoising.unet_denoiser import Control as ControlFunction
    from nodegraph_diffusion.networks.controlnet import ControlNet
    from nodegraph_diffusion.networks.gligen import Gligen, TextBox
    from nodegraph_diffusion.networks.t2i_adapter import T2IAdapter


def open_control_net(file: ControlNetFile | T2IAdapterFile, digest: Digest, base: UNetModel | None = None) -> ControlNetModel:
    """A ControlNet with its files as they are now. Raises OSError if a file does not exist."""
    return ControlNetModel(file, open_files(file.files, digest), base)


def control_network_on_demand(control_net: ControlNetModel, run: Run) -> OnDemand[ControlNet]:
    """The network, on the run's device. This, and loading, raise ValueError if the files are damaged or were changed."""
    from nodegraph_diffusion.checkpoint import load_controlnet
    from nodegraph_diffusion.networks.shapes import controlnet_shapes, count_numbers

    file, device, dtype, unet = control_net.file, run.device, network_dtype("controlnet", run), control_net.base
    assert not isinstance(file, T2IAdapterFile)
    base = None if unet is None else unet_on_demand(unet, run)
    return extra_network_on_demand(
        file,
        control_net.files,
        run,
        lambda: load_controlnet(file, device, dtype, None if base is None else base.get()),
        dtype=dtype,
        size=count_numbers(controlnet_shapes(file.config, file.hint_widths)),
        key=None if unet is None else (unet.part.weights, unet.opened.files, unet.patches),
    )


def _adapter_on_demand(control_net: ControlNetModel, file: T2IAdapterFile, run: Run) -> OnDemand[T2IAdapter]:
    from nodegraph_diffusion.checkpoint import load_t2i_adapter
    from nodegraph_diffusion.networks.shapes import count_numbers, t2i_adapter_shapes

    device, dtype = run.device, network_dtype("controlnet", run)
    size = count_numbers(t2i_adapter_shapes(file.config))
    return extra_network_on_demand(
        file, control_net.files, run, lambda: load_t2i_adapter(file, device, dtype), dtype=dtype, size=size
    )


def _gligen_on_demand(gligen: GligenLayers, run: Run) -> OnDemand[Gligen]:
    from nodegraph_diffusion.checkpoint import load_gligen
    from nodegraph_diffusion.networks.shapes import count_numbers, gligen_shapes

    file, device, dtype = gligen.file, run.device, network_dtype("controlnet", run)
    size = count_numbers(gligen_shapes(file.config))
    return extra_network_on_demand(file, gligen.files, run, lambda: load_gligen(file, device, dtype), dtype=dtype, size=size)


def ground(unet: UNetModel, gligen: GligenLayers, box: TextBox) -> UNetModel:
    """The UNet with one more box: beside the boxes of the same layers, since these see all boxes together."""
    controls, boxes = list(unet.controls), [box]
    for control in unet.controls:
        if isinstance(control, Grounding) and control.gligen.files == gligen.files:
            boxes = [*control.boxes, box]
            controls.remove(control)
    grounding = Grounding(gligen, tuple(boxes), unet.part.latent.factor)
    return replace(unet, controls=(*controls, grounding))


def load_control(control: Control | Grounding | Guide, run: Run) -> ControlFunction:
    """The function that guides a UNet, on the run's device. Raises ValueError as `control_network_on_demand` does."""
    if isinstance(control, Grounding):
        from nodegraph_diffusion.networks.gligen import GligenGuide

        return GligenGuide(_gligen_on_demand(control.gligen, run), control.boxes, control.cell)
    if not isinstance(control, Control):
        return control.load(run)
    file, pixels, strength = control.control_net.file, control.image.pixels, control.strength
    start, end = control.start, control.end
    if isinstance(file, T2IAdapterFile):
        from nodegraph_diffusion.networks.t2i_adapter import T2IAdapterGuide

        adapter = _adapter_on_demand(control.control_net, file, run)
        return T2IAdapterGuide(adapter, pixels, strength, start=start, end=end, blocks=control.blocks)
    from nodegraph_diffusion.networks.controlnet import ControlNetGuide

    network = control_network_on_demand(control.control_net, run)
    return ControlNetGuide(network, pixels, strength, start=start, end=end, global_pool=file.global_pool)
