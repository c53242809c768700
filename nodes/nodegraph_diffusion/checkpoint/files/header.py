"""The one door to files of tensors: which there are, of which dtypes and shapes, without torch and before any is read.

What a file is, its first bytes say, whatever its name is: a safetensors file, or a pickle as `torch.save` writes it, which
is opened only where that is allowed.
"""

from __future__ import annotations

import json
import stat
import struct
from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CHECK_PATH, NOT_A_CHECKPOINT, CheckpointError
from nodegraph_diffusion.checkpoint.files.pickle_permission import pickles_allowed
from nodegraph_diffusion.checkpoint.files.pickled import is_pickle, read_pickled
from nodegraph_diffusion.checkpoint.files.safetensors import read_safetensors
from nodegraph_diffusion.checkpoint.files.tensor_info import StoredTensor, TensorInfo

__all__ = ["TensorInfo", "read_floats", "read_header", "read_metadata", "read_stored"]

_FORMATS = {"F16": "<e", "F32": "<f"}


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of the file at `path`, by name. Raises CheckpointError as `read_stored` does."""
    return {name: tensor.info for name, tensor in read_stored(path).items()}


def read_stored(path: Path, pickles: bool | None = None) -> dict[str, StoredTensor]:
    """Where the tensors of the file at `path` lie, by name. `pickles`: whether it may be one; None: as the environment says.

    Raises CheckpointError for other files, for damaged ones, and for a pickle where none may be opened.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            found = "a folder" if path.is_dir() else "a pipe, a device or a socket"
            raise CheckpointError(path, expected="a file", found=found, hint=NOT_A_CHECKPOINT)
        with path.open("rb") as file:
            if not is_pickle(file.read(9)):
                return read_safetensors(path, file)
            if not (pickles_allowed() if pickles is None else pickles):
                raise CheckpointError(
                    path,
                    expected="a safetensors file",
                    found="a PyTorch pickle (such as .ckpt, .pt or .bin)",
                    hint="Pickles can run code, and none is opened unless you allow it: with --allow-pickles, or with "
                    "NODEGRAPH_ALLOW_PICKLES=1 in the environment. Or convert it once: nodegraph convert FILE NEW.safetensors",
                )
            return read_pickled(path, file)
    except FileNotFoundError as error:
        raise CheckpointError(path, expected="a readable file", found="nothing", hint=CHECK_PATH) from error
    except (OSError, ValueError) as error:  # a ValueError is of a path that no file can have
        found = f"one that is none: {error.strerror or type(error).__name__}" if isinstance(error, OSError) else str(error)
        raise CheckpointError(path, expected="a readable file", found=found, hint=NOT_A_CHECKPOINT) from error


def read_metadata(path: Path) -> dict[str, str]:
    """What the header of a file that `read_header` has read says besides its tensors; a pickle's says nothing."""
    with path.open("rb") as file:
        start = file.read(9)
        if is_pickle(start):
            return {}
        header = json.loads(start[8:] + file.read(int.from_bytes(start[:8], "little") - 1))
    metadata = header.get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}


def read_floats(path: Path, key: str) -> list[float]:
    """The numbers of one small tensor, in float16, bfloat16 or float32. Raises CheckpointError for other ones."""
    tensor = read_stored(path)[key]
    kind = tensor.info.dtype
    if kind not in ("BF16", *_FORMATS) or tensor.strides not in (None, (1,)):
        expected, hint = f"{key!r} in F16, BF16 or F32", "The file is damaged, or of another model."
        raise CheckpointError(path, expected=expected, found=kind, hint=hint)
    with path.open("rb") as file:
        file.seek(tensor.start)
        data = file.read(tensor.end - tensor.start)
    if kind == "BF16":  # the upper half of a float32
        data, kind = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2)), "F32"
    return [number for (number,) in struct.iter_unpack(_FORMATS[kind], data)]
