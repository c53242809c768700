"""The only way to open files of tensors: the names, dtypes and shapes of a file's tensors, without torch and without reading them.

The first bytes of a file say what it is, whatever its name is: a safetensors file, or a pickle written by `torch.save`, which
is opened only if pickles are allowed.
"""

from __future__ import annotations

import math
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CHECK_PATH, NOT_A_CHECKPOINT, CheckpointError
from nodegraph_diffusion.checkpoint.files.pickle_permission import pickles_allowed
from nodegraph_diffusion.checkpoint.files.safetensors import read_safetensors
from nodegraph_diffusion.checkpoint.files.tensor_info import FLOATS, TensorInfo

_FORMATS = {"F16": "<e", "F32": "<f", "F64": "<d", "BOOL": "<?"}
_FORMATS |= {
    f"{sign}{bits}": f"<{letter}"
    for sign, letters in (("I", "bhiq"), ("U", "BHIQ"))
    for bits, letter in zip((8, 16, 32, 64), letters, strict=True)
}
_COMPILED = "_orig_mod."  # in the names of modules that `torch.compile` wrapped
_PICKLES = (b"PK\x03\x04", *(bytes([0x80, version]) for version in range(2, 6)))  # how pickles begin: in an archive, or alone


@dataclass(frozen=True, eq=False)
class Header:
    """The tensors of a file by name, and the metadata that a safetensors header holds besides.

    `compiled` counts the names from which what `torch.compile` adds was removed.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)
    compiled: int = 0

    def read_floats(self, name: str) -> list[float]:
        """The numbers of one small tensor of floats. Raises CheckpointError for other dtypes."""
        tensor = self.tensors[name]
        dtype = tensor.dtype
        if dtype not in FLOATS or tensor.strides not in (None, (1,)):
            expected, hint = f"{name!r} in {', '.join(FLOATS)}", "The file is damaged, or belongs to another model."
            raise CheckpointError(self.path, expected=expected, found=dtype, hint=hint)
        return _numbers(self.read_bytes([name])[name], dtype)

    def read_numbers(self, names: Iterable[str]) -> dict[str, float]:
        """The numbers of tensors that have one each, by name; integers of any dtype are read, too."""
        return {name: float(_numbers(data, self.tensors[name].dtype)[0]) for name, data in self.read_bytes(names).items()}

    def read_bytes(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of small tensors, by name, as they follow each other in the file."""
        with self.path.open("rb") as file:
            found = {}
            for name in names:
                tensor = self.tensors[name]
                file.seek(tensor.start)
                found[name] = file.read(tensor.end - tensor.start)
        return found


class HeaderCache:
    """The headers that one detection needs: each file is read once, however many questions there are about it."""

    def __init__(self) -> None:
        self._headers: dict[Path, Header] = {}

    def __repr__(self) -> str:
        return f"<HeaderCache of {len(self._headers)} files>"

    def read(self, path: Path) -> Header:
        """The header of the file at `path`. Raises CheckpointError as `read_header` does."""
        if path not in self._headers:
            self._headers[path] = read_header(path)
        return self._headers[path]

    def read_so_far(self) -> tuple[Header, ...]:
        """The headers that were read."""
        return tuple(self._headers.values())


def read_header(path: Path, allow_pickles: bool | None = None) -> Header:
    """The header of the file at `path`. `allow_pickles`: whether it may be a pickle; None: the environment decides.

    Names are those of modules that were never compiled: what `torch.compile` adds to them is removed.

    Raises CheckpointError for files in another format, for damaged files, and for pickles that are not allowed.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            found = "a folder" if stat.S_ISDIR(mode) else "a pipe, a device or a socket"
            raise CheckpointError(path, expected="a file", found=found, hint=NOT_A_CHECKPOINT)
        with path.open("rb") as file:
            start = file.read(9)
            if start.startswith(b"GGUF"):
                hint = "GGUF holds weights of fewer bits, which are not supported. Give the model as a .safetensors file."
                raise CheckpointError(path, expected="a safetensors file", found="a GGUF file", hint=hint)
            if not _is_pickle(start):
                tensors, metadata = read_safetensors(path, file)
                return _without_compiler(Header(path, tensors, metadata))
            if not (pickles_allowed() if allow_pickles is None else allow_pickles):
                raise CheckpointError(
                    path,
                    expected="a safetensors file",
                    found="a PyTorch pickle (such as .ckpt, .pt or .bin)",
                    hint="Pickles can run code, so they are not opened unless you allow it: with --allow-pickles, or with "
                    "NODEGRAPH_ALLOW_PICKLES=1 in the environment. Or convert it once: nodegraph convert FILE NEW.safetensors",
                )
            from nodegraph_diffusion.checkpoint.files.pickle_file import read_pickled  # seldom needed, and slow to import

            return _without_compiler(Header(path, read_pickled(path, file)))
    except FileNotFoundError as error:
        raise CheckpointError(path, expected="a readable file", found="nothing", hint=CHECK_PATH) from error
    except OSError as error:
        found = f"one that cannot be read: {error.strerror or type(error).__name__}"
        raise CheckpointError(path, expected="a readable file", found=found, hint=NOT_A_CHECKPOINT) from error
    except ValueError as error:  # the path is one that no file can have
        raise CheckpointError(path, expected="a readable file", found=str(error), hint=NOT_A_CHECKPOINT) from error


def _without_compiler(header: Header) -> Header:
    """The header with names without what `torch.compile` adds. Raises CheckpointError if two names become one."""
    compiled = sum(_COMPILED in name for name in header.tensors)
    if not compiled:
        return header
    plain = {name.replace(_COMPILED, ""): tensor for name, tensor in header.tensors.items()}
    if len(plain) < len(header.tensors):
        names = [name.replace(_COMPILED, "") for name in header.tensors]
        twice = next(name for name in names if names.count(name) > 1)
        found, hint = f"{twice!r} twice, not counting {_COMPILED!r}", "The file holds two models. Remove one of them."
        raise CheckpointError(header.path, expected="each tensor once", found=found, hint=hint)
    return replace(header, tensors=plain, compiled=compiled)


def _numbers(data: bytes, dtype: str) -> list[float]:
    if dtype == "F8_E4M3":
        return [_eight_bits(byte) for byte in data]
    if dtype == "BF16":  # the upper half of a float32
        data, dtype = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2)), "F32"
    if dtype == "F8_E5M2":  # the upper half of a float16
        data, dtype = b"".join(bytes([0, byte]) for byte in data), "F16"
    return [number for (number,) in struct.iter_unpack(_FORMATS[dtype], data)]


def _eight_bits(byte: int) -> float:
    """The number of a byte in F8_E4M3: a sign, 4 bits of exponent and 3 of fraction, no infinities (Micikevicius et al. 2022)."""
    sign, exponent, fraction = byte >> 7, byte >> 3 & 15, byte & 7
    size = math.nan if byte & 127 == 127 else math.ldexp(8 + fraction if exponent else fraction, max(exponent, 1) - 10)
    return -size if sign else size


def _is_pickle(start: bytes) -> bool:
    """Whether a file that begins with these nine bytes is a pickle; a safetensors header may begin like one."""
    return start.startswith(_PICKLES) and start[8:] != b"{"
