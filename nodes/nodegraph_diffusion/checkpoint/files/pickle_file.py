"""The header of a file written by `torch.save`: its pickle, read without running it (`pickle_opcodes`).

Since 1.6 PyTorch writes an uncompressed zip archive: `NAME/data.pkl` holds the pickle, and `NAME/data/KEY` the numbers of
each storage. Earlier versions wrote five pickles one after another (a mark, a version, the machine's sizes, the content, the
keys of the storages) and then, for each key, a count of 8 bytes and the numbers. Both can be mapped into memory as they are.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from nodegraph_diffusion.checkpoint.errors import DOWNLOAD_AGAIN, CheckpointError
from nodegraph_diffusion.checkpoint.files.pickle_opcodes import (
    MAX_BYTES,
    Global,
    PickleContentError,
    Rules,
    SkippedObject,
    read_program,
)
from nodegraph_diffusion.checkpoint.files.tensor_info import ITEM_SIZES, TensorInfo, are_sizes

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # torch's mark, 0x1950a86a20f9469cfc6c, as a pickle
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip entry: its mark, and the lengths of its name and its extra field
_ENCRYPTED = 1
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, EOFError, NotImplementedError, struct.error, zipfile.BadZipFile)
_BIG_ENDIAN = "numbers whose highest byte comes first"

_STORAGES = {
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.DoubleStorage": "F64",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETER = "torch._utils._rebuild_parameter"
_DICT = "collections.OrderedDict"
_SKIPPED = (  # objects that training programs save with the tensors; they are not created
    r"(pytorch_lightning|lightning|lightning_fabric)\.[\w.]+|torch\.nn\.modules\.container\.ParameterDict|torch\.Size"
    r"|torch\.(b?float|u?int)\d+|torch\.bool|numpy(\._?core)?\.(multiarray\.scalar|dtype)|_codecs\.encode|argparse\.Namespace"
    r"|collections\.(defaultdict|Counter)|(__builtin__|builtins)\.(set|frozenset|dict|list|int|float|str|bytearray)"
)
_WRAPPERS = (
    "state_dict",
    "string_to_param",
    "params_ema",
    "params",
)  # keys under which training programs and textual inversions put the tensors


class _Storage(NamedTuple):
    dtype: str
    key: str
    length: int


class _View(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Content(NamedTuple):
    """The value that a pickle describes, and for each storage its first byte and its number of bytes."""

    value: Any
    storages: Mapping[str, tuple[int, int]]


def read_pickled(path: Path, file: IO[bytes]) -> dict[str, TensorInfo]:
    """The tensors of the open file. Raises CheckpointError for other pickles, and for those that contain more than tensors.

    If a training run saved a dict, they are those below `state_dict`. Other values, such as a count of steps, are skipped.
    """
    file.seek(0)
    read = _read_zip if file.read(4) == _ZIP else _read_legacy
    try:
        content = read(file)
        return {name: _tensor(name, view, content.storages) for name, view in _named(content.value).items()}
    except PickleContentError as error:
        raise CheckpointError(
            path,
            expected="a pickle of tensors and plain values",
            found=str(error),
            hint="None of it was run. If you trust it, open it in the program that wrote it and save it as .safetensors.",
        ) from error
    except _DAMAGE as error:
        found = f"a damaged one ({error})" if str(error) else "a damaged one"
        raise CheckpointError(path, expected="tensors in a PyTorch pickle", found=found, hint=DOWNLOAD_AGAIN) from error


def _read_zip(file: IO[bytes]) -> _Content:
    entries = {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            entries[entry.filename.partition("/")[2]] = entry  # below the archive's own name
        if "data.pkl" not in entries:
            raise PickleContentError("a zip archive that PyTorch did not write")
        if "constants.pkl" in entries:
            raise PickleContentError("a TorchScript program, which is code")
        if "byteorder" in entries and _entry(file, entries["byteorder"]) != b"little":
            raise PickleContentError(_BIG_ENDIAN)
        value, _ = read_program(_entry(file, entries["data.pkl"]), 0, _rules({}))
    keys = [name for name in entries if name.startswith("data/")]
    return _Content(value, {name.removeprefix("data/"): _entry_range(file, entries[name]) for name in keys})


def _entry(file: IO[bytes], entry: zipfile.ZipInfo) -> bytes:
    start, size = _entry_range(file, entry)
    if size > MAX_BYTES:
        raise ValueError(f"{entry.filename!r} has {size} bytes, more than the limit of {MAX_BYTES}")
    file.seek(start)
    return file.read(size)


def _entry_range(file: IO[bytes], entry: zipfile.ZipInfo) -> tuple[int, int]:
    """The first byte of an entry and its number of bytes. Raises ValueError if the entry is compressed, encrypted or missing."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & _ENCRYPTED:
        raise ValueError(f"{entry.filename!r} is compressed or encrypted, which PyTorch does not do")
    file.seek(entry.header_offset)
    mark, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = entry.header_offset + _LOCAL_HEADER.size + name + extra
    if mark != _ZIP or start + entry.file_size > file.seek(0, 2):
        raise ValueError(f"{entry.filename!r} is not where the archive says")
    return start, entry.file_size


def _read_legacy(file: IO[bytes]) -> _Content:
    size = file.seek(0, 2)
    file.seek(0)
    data = file.read(MAX_BYTES)
    if not data.startswith(_LEGACY):
        raise PickleContentError("a pickle that PyTorch did not write")
    sizes: dict[str, int] = {}
    rules = _rules(sizes)
    position = len(_LEGACY)
    _, position = read_program(data, position, rules)
    machine, position = read_program(data, position, rules)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise PickleContentError(_BIG_ENDIAN)
    value, position = read_program(data, position, rules)
    keys, position = read_program(data, position, rules)
    storages = {}
    for key in keys:
        file.seek(position)
        count = int.from_bytes(file.read(8), "little")
        storages[key] = position + 8, count * sizes[key]
        position += 8 + count * sizes[key]
        if position > size:
            raise ValueError("the file is truncated")
    return _Content(value, storages)


def _rules(sizes: dict[str, int]) -> Rules:
    """The rules for names in PyTorch's pickles; `sizes` receives the bytes of a number in each storage."""

    def allows(name: str) -> bool:
        return name in _CALLS or name in _STORAGES or re.fullmatch(_SKIPPED, name) is not None

    def call(name: str, arguments: tuple[Any, ...]) -> Any:
        return _CALLS[name](*arguments) if name in _CALLS else SkippedObject(name)

    def persistent(identifier: Any) -> Any:
        if identifier[0] == "module":  # a class and its source, in legacy files; the class is a name like any other
            return identifier[1]
        mark, kind, key, _, count, *view = identifier
        if mark != "storage" or not isinstance(kind, Global) or any(part is not None for part in view):
            raise ValueError("a persistent identifier that is not a storage")
        storage = _Storage(_STORAGES[kind.name], _text(key), _sizes((count,))[0])
        sizes[storage.key] = ITEM_SIZES[storage.dtype]
        return storage

    return Rules(allows, call, persistent)


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise TypeError("a tensor without a storage, a shape or strides")
    return _View(storage, _sizes((offset,))[0], _sizes(shape), _sizes(strides))


def _dict(pairs: Any = (), /) -> dict[Any, Any]:
    return {_text(key): value for key, value in pairs}


_CALLS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(_TENSORS, _view),
    _PARAMETER: lambda data, *_: data,
    _DICT: _dict,
}


def _sizes(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    if not are_sizes(numbers):
        raise ValueError("sizes that are not counts")
    return numbers


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name that is a {type(name).__name__}")
    return name


def _named(content: Any) -> dict[str, _View]:
    """The tensors that have names. Raises PickleContentError if there are none."""
    for wrapper in _WRAPPERS:
        inner = content.get(wrapper) if isinstance(content, dict) else None
        if isinstance(inner, SkippedObject) and isinstance(inner.state, dict):  # a ParameterDict, in early textual inversions
            inner = inner.state.get("_parameters", inner.state)
        content = inner if isinstance(inner, dict) else content
    items = content.items() if isinstance(content, dict) else ()
    views = {name: value for name, value in items if isinstance(name, str) and isinstance(value, _View)}
    if not views:
        examples = ", ".join(repr(name) for name, _ in list(items)[:3]) if items else f"a {type(content).__name__}"
        raise PickleContentError(f"no named tensors ({examples})")
    return views


def _tensor(name: str, view: _View, storages: Mapping[str, tuple[int, int]]) -> TensorInfo:
    """A tensor's entry. Raises ValueError if the tensor is not within its storage, or overlaps itself."""
    storage, offset, shape, strides = view
    start, size = storages[storage.key]
    item = ITEM_SIZES[storage.dtype]
    tensor = TensorInfo(storage.dtype, shape, start + offset * item, strides if strides != _dense(shape) else None)
    if len(shape) != len(strides) or storage.length * item > size or max(tensor.size, tensor.span) > storage.length - offset:
        raise ValueError(f"{name!r} with shape {list(shape)} does not fit into its storage of {storage.length} numbers")
    return tensor


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor of this shape whose numbers follow each other."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
