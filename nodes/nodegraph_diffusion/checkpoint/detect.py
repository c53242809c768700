"""Finding out what lies at a path, from names, headers and configs alone."""

from __future__ import annotations

from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.folder import detect_folder
from nodegraph_diffusion.checkpoint.header import read_header
from nodegraph_diffusion.checkpoint.ldm import detect_ldm
from nodegraph_diffusion.checkpoint.model import Checkpoint


def detect(path: str | Path) -> Checkpoint:
    """The checkpoint at `path`: a file in the LDM layout or a diffusers folder.

    Reads headers only, and imports no torch. Raises CheckpointError for anything that is not a whole, undamaged model
    of a supported kind. Names and shapes of all tensors are checked by `verify`, and when a part is loaded.
    """
    path = Path(path)
    if path.is_dir():
        checkpoint = detect_folder(path)
        for part in checkpoint.weights.values():
            for file in part:
                read_header(file)
        return checkpoint
    if not path.exists():
        hint = "Check the path; relative ones start from the workflow's folder or, with --set, from the current one."
        raise CheckpointError(path, expected="a .safetensors file or a diffusers folder", found="nothing", hint=hint)
    return detect_ldm(path, read_header(path))
