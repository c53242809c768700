"""GLIGEN's layers for texts in boxes, as they are published: without the UNet that they belong to."""

from __future__ import annotations

import re

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_refusal
from nodegraph_diffusion.checkpoint.detect.extra_networks.file import NetworkFile, damage_of, network_file
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes, multiple
from nodegraph_diffusion.checkpoint.files.header import Header
from nodegraph_diffusion.networks.config import GligenConfig
from nodegraph_diffusion.networks.shapes import gligen_shapes

_FUSER = re.compile(r"(?:model\.diffusion_model\.)?((?:input_blocks|middle_block|output_blocks)\..+)\.fuser\.(.+)")
_POSITION = re.compile(r"(?:.+\.)?(position_net\..+)")
_TEXT_WIDTH = "position_net.null_positive_feature"
_NOT_ONE = "Give GLIGEN's layers for texts in boxes, such as gligen_sd14_textbox_pruned."


class GligenFile(NetworkFile[GligenConfig]):
    """A file with GLIGEN's layers."""


def file_gligen(header: Header, contents: Contents) -> GligenFile:
    """GLIGEN's layers in a file, beside which the UNet may be. Raises CheckpointError for other files."""
    names = {key: name for key in header.tensors if (name := _our_name(key)) is not None}
    fusers = [match for key in header.tensors if (match := _FUSER.fullmatch(key)) and match[2] == "linear.weight"]
    if not fusers or contents.other_family:
        raise file_refusal("gligen", header.path, header.tensors, found=contents, hint=_NOT_ONE)
    shapes = Shapes(Header(header.path, {name: header.tensors[key] for key, name in names.items()}))
    with damage_of(header.path, "GLIGEN's layers"):
        widths = [shapes.get(f"layers.{match[1].replace('.', '/')}.linear.weight", 2) for match in fusers]
        config = GligenConfig(
            blocks=tuple((match[1], width[0]) for match, width in zip(fusers, widths, strict=True)),
            token_width=widths[0][1],
            text_width=shapes.get(_TEXT_WIDTH, 1)[0],
            frequencies=multiple(shapes.get("position_net.null_position_feature", 1)[0], 8),
        )
    return network_file(GligenFile, header, config, gligen_shapes(config), name="GLIGEN", rename=names.get)


def _our_name(key: str) -> str | None:
    """Our name of a tensor; None for one that is not GLIGEN's."""
    if match := _FUSER.fullmatch(key):
        return f"layers.{match[1].replace('.', '/')}.{match[2]}"
    match = _POSITION.fullmatch(key)
    return None if match is None else match[1]
