"""Checkpoints on disk: `describe` says what a path holds, without torch; `load_...` make networks; models can be written.

    found = describe("model.safetensors")
    unet = load_unet(found.unet(), "cpu", torch.float32)

Modules import only from those before them: errors, families, files, layouts, detect, load, write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodegraph_diffusion.checkpoint.errors import CheckpointError, Content, ExtraContent

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint.detect.controlnet import ControlNetFile
    from nodegraph_diffusion.checkpoint.detect.description import Description, describe, pair_text_encoders
    from nodegraph_diffusion.checkpoint.detect.embedding import EmbeddingFile
    from nodegraph_diffusion.checkpoint.detect.extra_networks.gligen import GligenFile
    from nodegraph_diffusion.checkpoint.detect.extra_networks.image_encoder import ImageEncoderFile
    from nodegraph_diffusion.checkpoint.detect.extra_networks.other_upscaler import OtherUpscalerFile
    from nodegraph_diffusion.checkpoint.detect.extra_networks.t2i_adapter import T2IAdapterFile
    from nodegraph_diffusion.checkpoint.detect.extra_networks.taesd import TAESDFile
    from nodegraph_diffusion.checkpoint.detect.extra_networks.upscaler import UpscalerFile
    from nodegraph_diffusion.checkpoint.detect.lora import LoraFile
    from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, TextEncoders, TextPart, UNetPart, VAEPart
    from nodegraph_diffusion.checkpoint.detect.sources import verify
    from nodegraph_diffusion.checkpoint.families import NAMES, Kind, Part
    from nodegraph_diffusion.checkpoint.load.networks import (
        load_controlnet,
        load_gligen,
        load_image_encoder,
        load_t2i_adapter,
        load_taesd,
        load_text_encoder,
        load_unet,
        load_upscaler,
        load_vae,
    )
    from nodegraph_diffusion.checkpoint.write.controlnet import save_controlnet
    from nodegraph_diffusion.checkpoint.write.diffusers_folder import save_diffusers
    from nodegraph_diffusion.checkpoint.write.safetensors_file import Conversion, convert
    from nodegraph_diffusion.checkpoint.write.single_file import save_single_file
    from nodegraph_diffusion.checkpoint.write.tuned_model import save_tuned

__all__ = [
    "NAMES",
    "Checkpoint",
    "CheckpointError",
    "Content",
    "ControlNetFile",
    "Conversion",
    "Description",
    "EmbeddingFile",
    "ExtraContent",
    "GligenFile",
    "ImageEncoderFile",
    "Kind",
    "LoraFile",
    "OtherUpscalerFile",
    "Part",
    "T2IAdapterFile",
    "TAESDFile",
    "TextEncoders",
    "TextPart",
    "UNetPart",
    "UpscalerFile",
    "VAEPart",
    "convert",
    "describe",
    "load_controlnet",
    "load_gligen",
    "load_image_encoder",
    "load_t2i_adapter",
    "load_taesd",
    "load_text_encoder",
    "load_unet",
    "load_upscaler",
    "load_vae",
    "pair_text_encoders",
    "save_controlnet",
    "save_diffusers",
    "save_single_file",
    "save_tuned",
    "verify",
]

_EXTRA = frozenset(("GligenFile", "ImageEncoderFile", "OtherUpscalerFile", "T2IAdapterFile", "TAESDFile", "UpscalerFile"))
_LOADERS = frozenset(name for name in __all__ if name.startswith("load_"))
_WRITERS = frozenset(("Conversion", "convert", "save_controlnet", "save_diffusers", "save_single_file", "save_tuned"))


def __getattr__(name: str) -> Any:
    """Names are imported on first use: whoever reads only an error or a variable needs no other module, and few need torch.

    The modules are written out: with a computed name, a plugin that imports this package would depend on all that is loaded.
    """
    if name in _LOADERS:
        from nodegraph_diffusion.checkpoint.load import networks

        return getattr(networks, name)
    if name in _WRITERS:
        from nodegraph_diffusion.checkpoint.write import controlnet, diffusers_folder, safetensors_file, single_file, tuned_model

        modules = (controlnet, diffusers_folder, safetensors_file, single_file, tuned_model)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
    if name in _EXTRA:
        from nodegraph_diffusion.checkpoint.detect.extra_networks import (
            gligen,
            image_encoder,
            other_upscaler,
            t2i_adapter,
            taesd,
            upscaler,
        )

        extra = (gligen, image_encoder, other_upscaler, t2i_adapter, taesd, upscaler)
        return next(getattr(module, name) for module in extra if hasattr(module, name))
    if name in __all__:
        from nodegraph_diffusion.checkpoint import families
        from nodegraph_diffusion.checkpoint.detect import controlnet as control
        from nodegraph_diffusion.checkpoint.detect import description, embedding, lora, model, sources

        described = (families, control, description, embedding, lora, model, sources)
        return next(getattr(module, name) for module in described if hasattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
