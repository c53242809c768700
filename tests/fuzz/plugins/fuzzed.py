"""The node types of the fuzz test, each with its meaning: a function of the plain values of its inputs (see `tests.fuzz.values`).

`takes` names the kind of each input: of a value, for a link, or of a literal that `tests.fuzz.graphs` draws. `returns` names the
kind of the output, or of each output. A type with `allows` is a source whose value is not known before: `allows` says which values
are right; it receives a list of what a file or an offered value may have been. The meaning of a source that reads a file is a
function of the file's content.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nodegraph import File, Run, hookimpl, node
from nodegraph_nodes.types import Image, Latent, Mask, Noise
from tests.fuzz.trouble import Trouble
from tests.fuzz.values import Box, Grid, GridCodec, Model, PlainBox, PlainLatent, PlainModel, PlainNoise, bits

TROUBLE = Trouble()

HALF = np.float32(0.5)
ONE = np.float32(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeType:
    """A node type as the generator and the check see it."""

    name: str
    takes: Mapping[str, str]
    returns: Mapping[str, str]  # by port
    meaning: Callable[..., Any]
    allows: Callable[..., bool] | None
    keeps: bool


TYPES: dict[str, NodeType] = {}
FUNCTIONS: list[Callable[..., Any]] = []


def fuzzed(
    returns: str | dict[str, str],
    meaning: Callable[..., Any] = lambda: None,
    *,
    numeric: bool = False,
    pure: bool = True,
    keep: bool = True,
    draws: bool = False,
    allows: Callable[..., bool] | None = None,
    **takes: str,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function a node type that has trouble."""

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        name = body.__name__

        @functools.wraps(body)
        def function(**arguments: Any) -> Any:
            return TROUBLE.run(name, body, arguments, numeric=numeric)

        outputs = {"output": returns} if isinstance(returns, str) else returns
        keeps = pure and keep and not draws
        TYPES[name] = NodeType(name=name, takes=takes, returns=outputs, meaning=meaning, allows=allows, keeps=keeps)
        FUNCTIONS.append(node(name, numeric=numeric, pure=pure, keep=keep)(function))
        return function

    return decorate


# --- numbers, text, lists and mappings


@fuzzed("int", lambda n: n * 7 + 3, n="small")
def Number(n: int) -> int:
    return n * 7 + 3


@fuzzed("float", lambda n: -0.0 if n == 5 else (5e-324 if n == 4 else n / 8), n="small")
def Ratio(n: int) -> float:
    return -0.0 if n == 5 else (5e-324 if n == 4 else n / 8)


@fuzzed("text", lambda n: f"wörd \n {n}", n="small")
def Word(n: int) -> str:
    return f"wörd \n {n}"


@fuzzed("ints", lambda n: [*range(n), n * n], n="small")
def Ints(n: int) -> list[int]:
    return [*range(n), n * n]


@fuzzed("tree", lambda n: {"a": [n, float(n), {"deep": [str(n), True]}], "b": {}}, n="small")
def Tree(n: int) -> dict[str, Any]:
    return {"a": [n, float(n), {"deep": [str(n), True]}], "b": {}}


@fuzzed("text", lambda number: repr(number), number="float literal")
def Digits(number: float) -> str:
    return repr(number)


@fuzzed("float", lambda a, b: a * b if a < 3 else -a, a="float", b="float")
def Times(a: float, b: float) -> float:
    return a * b if a < 3 else -a


@fuzzed("text", lambda text, number: f"{text}{number}"[-30:], text="text", number="float")
def Write(text: str, number: float) -> str:
    return f"{text}{number}"[-30:]


@fuzzed("ints", lambda ints, n: [*ints, n], ints="ints", n="int")
def Append(ints: list[int], n: int) -> list[int]:
    ints.append(n)
    return ints


@fuzzed("ints", lambda a, b: sorted(a)[:20] + b[:20], a="ints", b="ints")
def Merge(a: list[int], b: list[int]) -> list[int]:
    a.sort()
    return a[:20] + b[:20]


@fuzzed("ints", lambda items: list(items), items="several int")
def Gather(items: list[int]) -> list[int]:
    return items


@fuzzed("tree", lambda tree, ints, n: {**tree, f"graft {n}": ints}, tree="tree", ints="ints", n="small")
def Graft(tree: dict[str, Any], ints: list[int], n: int) -> dict[str, Any]:
    tree[f"graft {n}"] = ints
    return tree


@fuzzed("int", lambda ints: sum(ints) % 1000, ints="ints")
def Total(ints: list[int]) -> int:
    return sum(ints) % 1000


@fuzzed("text", lambda tree: repr(sorted(tree.items()))[:200], tree="tree")
def Show(tree: dict[str, Any]) -> str:
    return repr(sorted(tree.items()))[:200]


@fuzzed({"first": "int", "rest": "ints"}, lambda ints: {"first": ints[0] if ints else -1, "rest": ints[1:]}, ints="ints")
def Take(ints: list[int]) -> Taken:
    return Taken(ints[0] if ints else -1, ints[1:])


class Taken(NamedTuple):
    first: int
    rest: list[int]


@fuzzed("ints", lambda ints: ints + ints[:3], keep=False, ints="ints")
def Lengthen(ints: list[int]) -> list[int]:
    ints += ints[:3]
    return ints


@fuzzed("same", lambda value: value, value="any")
def Same(value: Any) -> Any:
    return value


# --- arrays with a codec of their own


@fuzzed("grid", lambda n, size: np.arange(size * size, dtype=np.int64).reshape(size, size) * n, n="small", size="size")
def MakeGrid(n: int, size: int) -> Grid:
    return Grid(np.arange(size * size, dtype=np.int64).reshape(size, size) * n)


@fuzzed("grid", lambda grid, n: grid + n, grid="grid", n="int")
def Raise(grid: Grid, n: int) -> Grid:
    grid.cells += n
    return grid


@fuzzed("grid", lambda grid: np.ascontiguousarray(grid.T), grid="grid")
def Turn(grid: Grid) -> Grid:
    return Grid(np.ascontiguousarray(grid.cells.T))


@fuzzed("int", lambda grid: int(grid.sum()) % 10007, grid="grid")
def Cells(grid: Grid) -> int:
    return int(grid.cells.sum()) % 10007


# --- tensors


def pixels_of(n: int, size: int) -> np.ndarray:
    numbers = (np.arange(size * size * 3, dtype=np.int64) * (n + 1) * 31 + n) % 257
    return (numbers.astype(np.float32) * np.float32(1 / 256)).reshape(1, size, size, 3)


def common(a: Any, b: Any) -> tuple[Any, Any]:
    """Two pictures, cropped to the size that both have."""
    height, width = min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2])
    return a[:, :height, :width], b[:, :height, :width]


def blend(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left, right = common(a, b)
    return (left + right) * HALF


@fuzzed("image", pixels_of, numeric=True, n="small", size="size")
def Picture(n: int, size: int) -> Image:
    import torch

    numbers = (torch.arange(size * size * 3) * (n + 1) * 31 + n) % 257
    return Image((numbers.float() * (1 / 256)).reshape(1, size, size, 3))


@fuzzed("image", lambda image: ONE - image, numeric=True, image="image")
def Invert(image: Image) -> Image:
    return Image(image.pixels.mul_(-1).add_(1))


@fuzzed("image", lambda image, n: np.roll(image, n, axis=1), numeric=True, image="image", n="small")
def Shift(image: Image, n: int) -> Image:
    return Image(image.pixels.roll(n, 1)) if n else image


@fuzzed("image", blend, numeric=True, a="image", b="image")
def Blend(a: Image, b: Image) -> Image:
    left, right = common(a.pixels, b.pixels)
    return Image((left + right) * 0.5)


@fuzzed("image", lambda image: image[:, ::2], image="image")
def Rows(image: Image) -> Image:
    return Image(image.pixels[:, ::2])


@fuzzed("float", lambda image, n: float(image.reshape(-1)[n % image.size]), numeric=True, image="image", n="int")
def Probe(image: Image, n: int) -> float:
    return image.pixels.reshape(-1)[n % image.pixels.numel()].item()


@fuzzed("mask", lambda image: image[..., 0], image="image")
def Luma(image: Image) -> Mask:
    return Mask(image.pixels[..., 0])


@fuzzed(
    {"image": "image", "rest": "mask"},
    lambda image, mask, n: {"image": _masked(image, mask, n), "rest": ONE - mask},
    numeric=True,
    image="image",
    mask="mask",
    n="small",
)
def Paint(image: Image, mask: Mask, n: int) -> Painted:
    import torch

    left, right = common(image.pixels, mask.values[..., None])
    return Painted(Image(torch.where(right > 0.5, left, float(n))), Mask(1 - mask.values))


class Painted(NamedTuple):
    image: Image
    rest: Mask


def _masked(image: np.ndarray, mask: np.ndarray, n: int) -> np.ndarray:
    left, right = common(image, mask[..., None])
    return np.where(right > HALF, left, np.float32(n))


@fuzzed(
    "latent",
    lambda image: PlainLatent(image.transpose(0, 3, 1, 2) * np.float32(2) - ONE, (image.shape[1], image.shape[2])),
    numeric=True,
    image="image",
)
def Encode(image: Image) -> Latent:
    height, width = image.pixels.shape[1:3]
    return Latent(image.pixels.permute(0, 3, 1, 2).mul_(2).sub_(1), (height, width))


@fuzzed("image", lambda latent: latent.samples.transpose(0, 2, 3, 1), numeric=True, latent="latent")
def Decode(latent: Latent) -> Image:
    return Image(latent.samples.permute(0, 2, 3, 1))


@fuzzed(
    "latent",
    lambda latent: PlainLatent(latent.samples * np.float32(1e-40), latent.size),
    numeric=True,
    latent="latent",
)
def Fade(latent: Latent) -> Latent:
    """Its numbers are denormal."""
    return Latent(latent.samples.mul_(1e-40), latent.size)


@fuzzed("image", lambda image: image[:, ::-1], numeric=True, keep=False, image="image")
def Flip(image: Image) -> Image:
    return Image(image.pixels.flip(1))


@fuzzed("noise", lambda n: PlainNoise(pixels_of(n, 2) - HALF, n), numeric=True, n="small")
def MakeNoise(n: int) -> Noise:
    import torch

    return Noise(torch.from_numpy(pixels_of(n, 2)) - 0.5, n)


@fuzzed(
    "latent",
    lambda latent, noise: PlainLatent(latent.samples * noise.values.reshape(-1)[noise.seed], latent.size),
    numeric=True,
    latent="latent",
    noise="noise",
)
def Scale(latent: Latent, noise: Noise) -> Latent:
    return Latent(latent.samples * noise.values.reshape(-1)[noise.seed], latent.size)


@fuzzed("images", lambda n, size: [pixels_of(n, size), pixels_of(n + 1, 2)], numeric=True, n="small", size="size")
def Pictures(n: int, size: int) -> list[Image]:
    import torch

    return [Image(torch.from_numpy(pixels_of(n, size))), Image(torch.from_numpy(pixels_of(n + 1, 2)))]


@fuzzed("images", lambda items: list(items), items="several image")
def Collect(items: list[Image]) -> list[Image]:
    return items


@fuzzed("image", lambda images, n: images[n % len(images)], images="images", n="small")
def Pick(images: list[Image], n: int) -> Image:
    return images[n % len(images)]


@fuzzed("album", lambda a, b: {"a": a, "b": b}, a="image", b="image")
def Album(a: Image, b: Image) -> dict[str, Image]:
    return {"a": a, "b": b}


@fuzzed("image", lambda album: blend(album["a"], album["b"]), numeric=True, album="album")
def Open(album: dict[str, Image]) -> Image:
    left, right = common(album["a"].pixels, album["b"].pixels)
    return Image(left.add_(right).mul_(0.5) if left is not right and left.data_ptr() != right.data_ptr() else left)


# --- values without a codec


@fuzzed("box", lambda n: PlainBox(n), n="int")
def Wrap(n: int) -> Box:
    return Box(n)


@fuzzed("int", lambda box: box.number + 1, box="box")
def Unwrap(box: Box) -> int:
    return box.number + 1


def base_of(n: int) -> np.ndarray:
    return np.arange(4, dtype=np.float32) * np.float32(0.125) + np.float32(n % 2)


@fuzzed("model", lambda n: PlainModel(base_of(n), np.full(2, n, np.float32)), numeric=True, n="small")
def Load(n: int, run: Run = Run()) -> Model:
    import torch

    base = run.resident(("base", n % 2), lambda: torch.from_numpy(base_of(n)))
    return Model(base, torch.full((2,), float(n)))


@fuzzed("model", lambda model, n: PlainModel(model.base, model.extra + np.float32(n)), numeric=True, model="model", n="small")
def Adapt(model: Model, n: int) -> Model:
    return Model(model.base, model.extra + n)


@fuzzed("image", lambda model, image: image * model.base[1] + model.extra[0], numeric=True, model="model", image="image")
def Apply(model: Model, image: Image) -> Image:
    return Image(image.pixels.mul_(model.base[1]).add_(model.extra[0]))


@fuzzed("int", lambda n, value: n, n="int", value="any")
def After(n: int, value: Any, run: Run = Run()) -> int:
    """Takes steps, so that it can be stopped, and notes them."""
    for i in range(3):
        run.step(i + 1, 3, lambda: n)
    run.notice("after")
    return n


# --- sources, whose values are not known before


@fuzzed("int", draws=True, allows=lambda value, n: n * 10 <= value < n * 10 + 3, n="small")
def Draw(n: int) -> int:
    return n * 10 + random.randrange(3)


@fuzzed("int", draws=True, allows=lambda value, n: n * 10 <= value < n * 10 + 3, numeric=True, n="small")
def DrawTensor(n: int) -> int:
    import torch

    return n * 10 + int(torch.randint(3, (1,)))


TICKS = itertools.count()


@fuzzed("int", pure=False, allows=lambda value, n: n <= value < n + 3, n="small")
def Tick(n: int) -> int:
    return n + next(TICKS) % 3


@fuzzed(
    "text",
    lambda path, n: f"{n} {path}",
    allows=lambda value, path, n: value in [f"{n} {text}" for text in path],
    path="file",
    n="small",
)
def ReadText(path: File, n: int) -> str:
    if TROUBLE.happens(0.2, "file before", n):  # its digest is in the key already
        TROUBLE.change_file(random.Random(n))
    text = path.read_text()
    if TROUBLE.happens(0.3, "file", n):
        TROUBLE.change_file(random.Random(n))
    return f"{n} {text}"


@fuzzed("image", allows=lambda value, image: bits(value) in map(bits, image), numeric=True, image="offered image")
def UseImage(image: Image) -> Image:
    return image


@fuzzed("ints", allows=lambda value, ints: bits(value) in map(bits, ints), ints="offered ints")
def UseInts(ints: list[int]) -> list[int]:
    return ints


@fuzzed("tree", allows=lambda value, tree: bits(value) in map(bits, tree), tree="offered tree")
def UseTree(tree: dict[str, Any]) -> dict[str, Any]:
    return tree


@hookimpl
def register_nodes(register: Any) -> None:
    for function in FUNCTIONS:
        register(function)


@hookimpl
def register_codecs(register: Any) -> None:
    codec = GridCodec()
    codec.fails = lambda: TROUBLE.codec_fails
    register(Grid, codec)
