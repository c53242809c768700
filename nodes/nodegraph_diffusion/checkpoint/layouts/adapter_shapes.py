"""Whether the factors of a change fit each other and their weight, by their shapes alone: nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class WrongShapeError(ValueError):
    """A change of another shape than the weight's: the adapter is for another network."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


def check_fit(weight: Shape, shapes: Shapes) -> None:
    """Check that factors of `shapes`, by their roles, change a weight of shape `weight`.

    Raises ValueError if they do not fit each other, and WrongShapeError if they do not fit the weight.
    """
    try:
        if "ia3_weight" in shapes or "ia3_l" in shapes:
            _check_ia3(weight, shapes)
        elif "oft_blocks" in shapes:
            _check_blocks(weight[0], shapes["oft_blocks"], number=3 if len(shapes["oft_blocks"]) == 3 else 4, even=True)
        elif "boft_r" in shapes:
            _check_blocks(math.prod(weight[1:]), shapes["boft_r"], number=4, even=shapes["boft_r"][0] > 1)
        elif "oft_r" in shapes:
            _check_triangles(math.prod(weight[1:]), shapes["oft_r"])
        else:
            check_size(weight, _size(weight, shapes))
    except (IndexError, _MisfitError) as error:
        raise ValueError(f"expected factors that fit each other, found {listed(shapes)}") from error
    for role in ("rescale", "boft_s"):
        if role in shapes and math.prod(shapes[role]) != weight[0]:
            raise WrongShapeError(f"scales for {weight[0]} rows", f"{math.prod(shapes[role])}")
    for role in ("magnitude", "dora_scale"):
        if role in shapes:
            _check_norms(weight, shapes[role], by_row=role == "magnitude")


def fit_each_other(shapes: Shapes) -> bool:
    """Whether factors of `shapes`, by their roles, fit each other, whatever the weight is."""
    try:
        if "oft_blocks" in shapes or "boft_r" in shapes:
            blocks = shapes.get("oft_blocks", shapes.get("boft_r", ()))
            return len(blocks) in (3, 4) and blocks[-1] == blocks[-2]
        if "oft_r" in shapes:
            _side_of_triangles(shapes["oft_r"])
        elif not {"ia3_weight", "ia3_l", "a1"} & shapes.keys():  # the order of GLoRA's factors follows from the weight
            _size((), shapes)
    except (IndexError, _MisfitError):
        return False
    return True


def listed(shapes: Shapes) -> str:
    """The shapes by role, for a message."""
    return ", ".join(f"{role} {list(shape)}" for role, shape in sorted(shapes.items()))


def check_size(weight: Shape, found: Shape) -> None:
    """Raise WrongShapeError unless a change of this shape has the rows and columns of the weight."""
    if _rows_and_columns(found) != _rows_and_columns(weight):
        raise WrongShapeError(*(f"{what} {rows}x{columns}" for what, (rows, columns) in _described(weight, found)))


class _MisfitError(Exception):
    """Factors that do not fit each other."""


def _described(weight: Shape, found: Shape) -> tuple[tuple[str, tuple[int, int]], tuple[str, tuple[int, int]]]:
    return ("a change of", _rows_and_columns(weight)), ("one of", _rows_and_columns(found))


def _rows_and_columns(shape: Shape) -> tuple[int, int]:
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def _size(weight: Shape, shapes: Shapes) -> Shape:
    """The shape of a difference or whole weight; its columns may be flat."""
    if "up" in shapes:
        return _product(shapes["up"], shapes["down"], shapes.get("mid"))
    if "embedding_up" in shapes:
        return _product(shapes["embedding_up"], shapes["embedding_down"], None)[::-1]
    if "hada_w1_a" in shapes:
        pairs = (_tucker(shapes[f"hada_w{i}_a"], shapes[f"hada_w{i}_b"], shapes.get(f"hada_t{i}")) for i in (1, 2))
        first, second = pairs
        return first if _rows_and_columns(first) == _rows_and_columns(second) else _misfit()
    if "a1" in shapes:
        return _general(weight, shapes)
    if any(role.startswith("lokr_") for role in shapes):
        first = shapes.get("lokr_w1") or _matrices(shapes["lokr_w1_a"], shapes["lokr_w1_b"])
        second = shapes.get("lokr_w2") or _tucker(shapes["lokr_w2_a"], shapes["lokr_w2_b"], shapes.get("lokr_t2"))
        if len(first) != 2 or len(second) < 2:
            _misfit()
        return (first[0] * second[0], first[1] * math.prod(second[1:]))
    return shapes["diff"] if "diff" in shapes else shapes["set_weight"]


def _product(up: Shape, down: Shape, core: Shape | None) -> Shape:
    """up (out, r, ...), down (r, in, ...) and perhaps a core (r, r, kh, kw)."""
    if len(up) < 2 or len(down) < 2:
        _misfit()
    (out, rank), (entry, columns) = _rows_and_columns(up), _rows_and_columns(down)
    if (rank, entry) != ((entry, rank) if core is None else core[:2]) or (core is not None and len(core) != 4):
        _misfit()
    return (out, columns) if core is None else (out, columns, *core[2:])


def _tucker(a: Shape, b: Shape, core: Shape | None) -> Shape:
    if core is None:
        return _product(a, b, None) if len(a) == 2 else _misfit()
    if len(a) != 2 or len(b) != 2 or len(core) != 4 or (a[0], b[0]) != core[:2]:
        _misfit()
    return (a[1], b[1], *core[2:])


def _matrices(a: Shape, b: Shape) -> Shape:
    return (a[0], b[1]) if len(a) == len(b) == 2 and a[1] == b[0] else _misfit()


def _general(weight: Shape, shapes: Shapes) -> Shape:
    """GLoRA, in both orders of its factors; see `formulas`."""
    a1, a2, b1, b2 = (shapes[name] for name in ("a1", "a2", "b1", "b2"))
    if a1[0] != weight[1]:
        a1, a2, b1, b2 = a2, a1, b2, b1
    first = _product(a1, a2, None)
    if first != (weight[1], weight[1]):
        raise WrongShapeError(f"a change of {weight[1]} inputs", f"one of {first[0]}x{first[1]}")
    return _product(b1, b2, shapes.get("bm"))


def _check_ia3(weight: Shape, shapes: Shapes) -> None:
    number = math.prod(shapes.get("ia3_weight", shapes.get("ia3_l", ())))
    if number not in weight[:2]:
        raise WrongShapeError(f"{' or '.join(map(str, weight[:2]))} factors", f"{number}")


def _check_blocks(side: int, blocks: Shape, *, number: int, even: bool) -> None:
    """Check square blocks (n, b, b), or (m, n, b, b), whose butterflies halve blocks, for a side of a weight."""
    if len(blocks) != number or blocks[-1] != blocks[-2]:
        _misfit()
    *turns, count, size, _ = blocks
    halves = 2 ** (turns[0] - 1) if turns else 1
    if count * size != side or (turns and even and (size % 2 or count % halves)):
        raise WrongShapeError(f"blocks that fit a side of {side}", f"{list(blocks)}")


def _check_triangles(side: int, vectors: Shape) -> None:
    size = _side_of_triangles(vectors)
    if vectors[0] * size != side and (vectors[0] != 1 or side % size):
        raise WrongShapeError(f"blocks that fit a side of {side}", f"{vectors[0]} of {size}x{size}")


def _side_of_triangles(vectors: Shape) -> int:
    """The side of square blocks whose upper triangles are the rows of a tensor of this shape."""
    if len(vectors) != 2:
        _misfit()
    size = (1 + math.isqrt(1 + 8 * vectors[1])) // 2
    if size * (size - 1) // 2 != vectors[1]:
        _misfit()
    return size


def _check_norms(weight: Shape, norms: Shape, *, by_row: bool) -> None:
    number = math.prod(norms)
    by_row = by_row or (bool(norms) and norms[0] == weight[0]) or len(weight) == 1
    expected = weight[0] if by_row else weight[1]
    if number != expected:
        raise WrongShapeError(f"norms for the rows or columns of {list(weight)}", f"{list(norms)}")


def _misfit() -> Shape:
    raise _MisfitError
