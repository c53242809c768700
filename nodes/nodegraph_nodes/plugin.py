"""The pack's hook implementations: an index to everything it registers.

Each hook imports what it registers, so that `nodegraph --help` imports none of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph import hookimpl
from nodegraph.plugin_api import did_you_mean
from nodegraph_nodes import forks, hookspecs, waiting
from nodegraph_nodes.models.backend import TorchBackend

if TYPE_CHECKING:
    import click
    import pluggy

    from nodegraph.plugin_api import Backend, Codec

__nodegraph_includes__ = ("nodegraph_diffusion",)
_EMBEDDED_MODEL = ("*.safetensors", "*.json", "merges.txt")  # a node that loads it has the digest of each file in its key
_NEVER_READ_BY_NODES = ("*.png", "*.yaml", "*.md", "*.py.txt", "*.md.txt", "*.toml.txt", "NOTICE", "py.typed")
__nodegraph_excludes__ = (*_EMBEDDED_MODEL, *_NEVER_READ_BY_NODES)


@hookimpl
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


@hookimpl
def register_nodes(register: Callable[[Callable[..., Any]], None]) -> None:
    from nodegraph_nodes.nodes import (
        adapters,
        batches,
        concat,
        conditioning,
        edges,
        gligen,
        grid,
        guidance,
        image,
        image_prompts,
        labels,
        latent,
        latent_edits,
        latents,
        lists,
        mask,
        mask_edits,
        plot,
        repaint,
        sampling,
        sigmas,
        template,
        text,
        upscale,
    )
    from nodegraph_nodes.nodes import models as load

    for function in (
        load.load_model,
        load.load_vae,
        load.load_unet,
        load.load_text_encoder,
        adapters.load_lora,
        adapters.load_embedding,
        adapters.load_control_net,
        adapters.apply_control_net,
        gligen.load_gligen,
        gligen.apply_gligen,
        image.load_image,
        lists.load_images,
        lists.load_table,
        lists.from_list,
        template.text_template,
        text.text_encode,
        conditioning.combine_conditioning,
        conditioning.concat_conditioning,
        conditioning.average_conditioning,
        conditioning.set_area,
        conditioning.set_mask,
        conditioning.set_range,
        conditioning.zero_out,
        conditioning.size_condition,
        labels.label_condition,
        labels.no_condition,
        image_prompts.load_image_encoder,
        image_prompts.image_encode,
        image_prompts.image_condition,
        latent.vae_encode,
        latent.vae_decode,
        latent.empty_latent,
        latent.noise,
        latents.load_latent,
        latents.resize_latent,
        latents.composite_latent,
        latent_edits.flip_latent,
        latent_edits.rotate_latent,
        latent_edits.crop_latent,
        latent_edits.add_latents,
        latent_edits.subtract_latents,
        latent_edits.multiply_latent,
        latent_edits.blend_latents,
        latent_edits.interpolate_latents,
        batches.from_batch,
        batches.image_from_batch,
        batches.repeat_latent,
        batches.repeat_image,
        batches.join_latents,
        batches.rebatch,
        batches.batch_noise,
        mask.mask,
        mask_edits.solid_mask,
        mask_edits.crop_mask,
        mask_edits.feather_mask,
        mask_edits.combine_masks,
        mask_edits.colour_mask,
        mask_edits.mask_to_image,
        repaint.pad,
        repaint.hide_masked,
        edges.canny,
        upscale.load_upscaler,
        upscale.upscale,
        concat.apply_inpaint,
        concat.apply_pix2pix,
        concat.apply_map,
        concat.apply_small_picture,
        sampling.unet_denoise,
        guidance.guidance,
        guidance.perp_neg,
        guidance.dual_guidance,
        sampling.sampler,
        sigmas.schedule,
        sigmas.sigmas,
        sigmas.split_sigmas,
        sigmas.flip_sigmas,
        image.composite,
        image.paste,
        grid.resize,
        grid.label,
        grid.grid,
        plot.curve,
        plot.plot,
    ):
        register(function)


@hookimpl
def register_codecs(register: Callable[[type, Codec], None]) -> None:
    from nodegraph_nodes.codecs import CODECS
    from nodegraph_nodes.trained.models import TRAINED_CODECS

    codecs: dict[type, Codec] = {**CODECS, **TRAINED_CODECS}
    for kind, codec in codecs.items():
        register(kind, codec)


@hookimpl
def register_backend(register: Callable[[Backend], None]) -> None:
    forks.prepare()
    waiting.wait_briefly()
    register(TorchBackend())


@hookimpl
def registered(kind: str, name: str, value: Any, declared: Mapping[str, Any]) -> Any:
    from nodegraph_diffusion.guidance import GuidanceSpec
    from nodegraph_diffusion.sampling import SamplerSpec
    from nodegraph_diffusion.schedules import ScheduleSpec

    specs: Mapping[str, Any] = {"samplers": SamplerSpec, "schedules": ScheduleSpec, "guidance": GuidanceSpec}
    spec = specs.get(kind)
    if spec is None or isinstance(value, spec):
        return None
    known = [
        parameter.name for parameter in inspect.signature(spec).parameters.values() if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for keyword in declared:
        if keyword not in known:
            hint = did_you_mean(keyword, known) or f"Expected {', '.join(known)}."
            raise ValueError(f"'{keyword}' cannot be declared. {hint}")
    return spec(value, **declared)


@hookimpl
def register_samplers(register: Callable[..., None]) -> None:
    from nodegraph_diffusion.sampling import SAMPLERS

    for name, sampler in SAMPLERS.items():
        register(name, sampler)


@hookimpl
def register_schedules(register: Callable[..., None]) -> None:
    from nodegraph_diffusion.schedules import SCHEDULES

    for name, schedule in SCHEDULES.items():
        register(name, schedule)


@hookimpl
def register_guidance(register: Callable[..., None]) -> None:
    from nodegraph_diffusion.guidance import GUIDANCE

    for name, spec in GUIDANCE.items():
        register(name, spec)


@hookimpl
def foreign_file(data: bytes) -> str | None:
    from nodegraph_nodes.pictures.foreign_files import describe_foreign_file

    return describe_foreign_file(data)


@hookimpl
def output_texts(nodes: Mapping[str, Mapping[str, Any]], node: str, data: bytes) -> Mapping[str, str]:
    from nodegraph_nodes.pictures.parameters import parameters

    text = parameters(nodes, node, data)
    return {} if text is None else {"parameters": text}


@hookimpl
def describe_output(data: bytes) -> Mapping[str, Any] | None:
    from nodegraph_nodes.pictures.foreign import describe_picture

    return describe_picture(data)


@hookimpl
def register_examples(register: Callable[[str, Path], None]) -> None:
    package = Path(__file__).parent
    folders = (package / "workflows", package.parents[1] / "workflows")  # in a wheel, and in a checkout
    folder = next(filter(Path.is_dir, folders), package)
    for path in sorted(folder.glob("*.yaml")):
        register(path.stem, path)


@hookimpl
def register_commands(cli: click.Group) -> None:
    from nodegraph_nodes.commands.convert import convert
    from nodegraph_nodes.commands.models import models
    from nodegraph_nodes.commands.new_plugin import new_plugin

    for command in (models, convert, new_plugin):
        cli.add_command(command)


@hookimpl
def register_options(register: Callable[..., None]) -> None:
    from nodegraph_nodes.commands.options import pickles_option, preview_decoder_option

    register(pickles_option(), "run", "check", "explain")
    register(preview_decoder_option(), "run")
