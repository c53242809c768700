"""The values of fuzzed nodes: as the engine passes them, and plain, as the meanings of nodes compute them.

A plain value has nothing of the engine or of torch: numbers, text, lists and dicts as they are, NumPy arrays for tensors, and the
named tuples below.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nodegraph_nodes.types import Image, Latent, Mask, Noise

if TYPE_CHECKING:
    from torch import Tensor


class Grid:
    """Whole numbers in a NumPy array. It has a codec of its own."""

    def __init__(self, cells: np.ndarray) -> None:
        self.cells = cells


class Box:
    """A value without a codec and without tensors: nothing shows when it is changed."""

    def __init__(self, number: int) -> None:
        self.number = number


class Model:
    """A value without a codec. Models that were made of one another share `base`."""

    def __init__(self, base: Tensor, extra: Tensor) -> None:
        self.base, self.extra = base, extra


class PlainLatent(NamedTuple):
    samples: np.ndarray
    size: tuple[int, int]


class PlainNoise(NamedTuple):
    values: np.ndarray
    seed: int


class PlainModel(NamedTuple):
    base: np.ndarray
    extra: np.ndarray


class PlainBox(NamedTuple):
    number: int


class GridCodec:
    """Stores a grid in the format of NumPy."""

    name = "fuzzed-grid"
    suffix = ".npy"
    extension = ".npy"
    fails: Callable[[], bool] = staticmethod(lambda: False)

    def digest(self, value: Grid) -> str:
        return hashlib.sha256(b"grid" + self._bytes(value)).hexdigest()

    def save(self, value: Grid, path: Path) -> None:
        if self.fails():
            raise RuntimeError("this codec fails on purpose")
        path.write_bytes(self._bytes(value))

    def load(self, path: Path) -> Grid:
        return Grid(np.load(io.BytesIO(path.read_bytes()), allow_pickle=False))

    def export(self, value: Grid) -> list[bytes]:
        return [self._bytes(value)]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data

    def check(self, value: Grid) -> str | None:
        return None if value.cells.dtype == np.int64 else f"expected int64, found {value.cells.dtype}"

    def size(self, value: Grid) -> int:
        return int(value.cells.nbytes)

    def _bytes(self, value: Grid) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, value.cells, allow_pickle=False)
        return buffer.getvalue()


def plain(value: Any) -> Any:
    """A plain copy of a value of the engine."""
    if isinstance(value, Image):
        return _array(value.pixels)
    if isinstance(value, Mask):
        return _array(value.values)
    if isinstance(value, Latent):
        return PlainLatent(_array(value.samples), tuple(value.size))
    if isinstance(value, Noise):
        return PlainNoise(_array(value.values), value.seed)
    if isinstance(value, Grid):
        return value.cells.copy()
    if isinstance(value, Model):
        return PlainModel(_array(value.base), _array(value.extra))
    if isinstance(value, Box):
        return PlainBox(value.number)
    if type(value) is list:
        return [plain(item) for item in value]
    if type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    return value


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def bits(value: Any) -> bytes:
    """Bytes that two plain values have in common if and only if they are the same, to the sign of a zero."""
    total = hashlib.sha256()
    _add_bits(total, value)
    return total.digest()


def _add_bits(total: Any, value: Any) -> None:
    total.update(type(value).__name__.encode() + b"(")
    if isinstance(value, np.ndarray):
        total.update(f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key in sorted(value):
            _add_bits(total, key)
            _add_bits(total, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            _add_bits(total, item)
    elif isinstance(value, float):
        total.update(struct.pack("<d", value))
    else:
        total.update(repr(value).encode())
    total.update(b")")


def spoil(value: Any, random: Random) -> None:
    """Change a value in place, in one of the ways that code has."""
    if isinstance(value, Image | Mask | Latent | Noise):
        name = {Image: "pixels", Mask: "values", Latent: "samples", Noise: "values"}[type(value)]
        _spoil_tensor(value, name, random)
    elif isinstance(value, Grid):
        if random.random() < 0.5:
            value.cells[...] = random.randrange(100)
        else:
            value.cells = value.cells + 1
    elif isinstance(value, Model):
        random.choice([value.base, value.extra]).mul_(3)  # other changes of a model are not noticed
    elif type(value) is list:
        if value and random.random() < 0.5:
            spoil(random.choice(value), random)
        random.choice([lambda: value.append(random.randrange(9)), value.clear, value.reverse])()
    elif type(value) is dict:
        if value and random.random() < 0.5:
            spoil(random.choice(list(value.values())), random)
        random.choice([lambda: value.update(spoiled=random.randrange(9)), value.clear])()


def _spoil_tensor(owner: Any, name: str, random: Random) -> None:
    tensor = getattr(owner, name)
    change = random.randrange(7)
    if change == 0:
        tensor.mul_(0)
    elif change == 1:
        tensor.data.add_(1)
    elif change == 2:
        tensor.numpy()[...] = 7
    elif change == 3 and tensor.numel():
        tensor[(0,) * tensor.ndim] = 9
    elif change == 4:
        tensor.untyped_storage().fill_(0)
    elif change == 5:
        tensor.data = tensor.data * 2
    else:
        object.__setattr__(owner, name, tensor * 0 - 1)


def has_model(value: Any) -> bool:
    """Whether there is a model in a value of the engine: changing it makes nodes fail."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, Model) or any(map(has_model, items))
