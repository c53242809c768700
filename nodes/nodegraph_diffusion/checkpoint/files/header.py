"""The only way to open files of tensors: the names, dtypes and shapes of a file's tensors, without torch and without reading them.

The first bytes of a file say what it is, whatever its name is: a safetensors file, or a pickle written by `torch.save`, which
is opened only if pickles are allowed.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CHECK_PATH, NOT_A_CHECKPOINT, CheckpointError
from nodegraph_diffusion.checkpoint.files.pickle_permission import pickles_allowed
from nodegraph_diffusion.checkpoint.files.safetensors import read_safetensors
from nodegraph_diffusion.checkpoint.files.tensor_info import TensorInfo

_FORMATS = {"F16": "<e", "F32": "<f"}
_PICKLES = (b"PK\x03\x04", *(bytes([0x80, version]) for version in range(2, 6)))  # how pickles begin: in an archive, or alone


@dataclass(frozen=True, eq=False)
class Header:
    """The tensors of a file by name, and the metadata that a safetensors header holds besides."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read_floats(self, name: str) -> list[float]:
        """The numbers of one small tensor in float16, bfloat16 or float32. Raises CheckpointError for other dtypes."""
        tensor = self.tensors[name]
        dtype = tensor.dtype
        if dtype not in ("BF16", *_FORMATS) or tensor.strides not in (None, (1,)):
            expected, hint = f"{name!r} in F16, BF16 or F32", "The file is damaged, or belongs to another model."
            raise CheckpointError(self.path, expected=expected, found=dtype, hint=hint)
        with self.path.open("rb") as file:
            file.seek(tensor.start)
            data = file.read(tensor.end - tensor.start)
        if dtype == "BF16":  # the upper half of a float32
            data, dtype = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2)), "F32"
        return [number for (number,) in struct.iter_unpack(_FORMATS[dtype], data)]


class HeaderCache:
    """The headers that one detection needs: each file is read once, however many questions there are about it."""

    def __init__(self) -> None:
        self._headers: dict[Path, Header] = {}

    def read(self, path: Path) -> Header:
        """The header of the file at `path`. Raises CheckpointError as `read_header` does."""
        if path not in self._headers:
            self._headers[path] = read_header(path)
        return self._headers[path]


def read_header(path: Path, allow_pickles: bool | None = None) -> Header:
    """The header of the file at `path`. `allow_pickles`: whether it may be a pickle; None: the environment decides.

    Raises CheckpointError for files in another format, for damaged files, and for pickles that are not allowed.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a device or a socket"
            raise CheckpointError(path, expected="a file", found=found, hint=NOT_A_CHECKPOINT)
        with path.open("rb") as file:
            if not _is_pickle(file.read(9)):
                return Header(path, *read_safetensors(path, file))
            if not (pickles_allowed() if allow_pickles is None else allow_pickles):
                raise CheckpointError(
                    path,
                    expected="a safetensors file",
                    found="a PyTorch pickle (such as .ckpt, .pt or .bin)",
                    hint="Pickles can run code, so they are not opened unless you allow it: with --allow-pickles, or with "
                    "NODEGRAPH_ALLOW_PICKLES=1 in the environment. Or convert it once: nodegraph convert FILE NEW.safetensors",
                )
            from nodegraph_diffusion.checkpoint.files.pickle_file import read_pickled  # seldom needed, and slow to import

            return Header(path, read_pickled(path, file))
    except FileNotFoundError as error:
        raise CheckpointError(path, expected="a readable file", found="nothing", hint=CHECK_PATH) from error
    except OSError as error:
        found = f"one that cannot be read: {error.strerror or type(error).__name__}"
        raise CheckpointError(path, expected="a readable file", found=found, hint=NOT_A_CHECKPOINT) from error
    except ValueError as error:  # the path is one that no file can have
        raise CheckpointError(path, expected="a readable file", found=str(error), hint=NOT_A_CHECKPOINT) from error


def _is_pickle(start: bytes) -> bool:
    """Whether a file that begins with these nine bytes is a pickle; a safetensors header may begin like one."""
    return start.startswith(_PICKLES) and start[8:] != b"{"
