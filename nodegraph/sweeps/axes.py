"""The axes of a sweep: which param or input takes which values, and the points that follow from them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.overrides import Override
from nodegraph.light_dataclass import dataclass
from nodegraph.text import described, did_you_mean
from nodegraph.workflow.definitions import references
from nodegraph.workflow.document import parse_value

OVER: Final = "--over"

MOST_POINTS: Final = 100_000
"""How many points a sweep may have."""

_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
_RANGE: Final = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER}))?")
_LONG: Final = 10**18  # a number that is too long to read
_FORMS: Final = "Write a..b, a..b:step, x,y,z, a list in brackets, or @file."


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """A param or `node.input`, and the values that it takes one after another.

    `text`: they are text from the command line, so the input decides how it is read. Relative paths start from `base`.
    """

    name: str
    values: Sequence[Any]
    text: bool = False
    base: Path = field(default_factory=Path.cwd)

    def override(self, value: Any) -> Override:
        """What gives the workflow one of the values."""
        return Override(self.name, value, text=self.text, base=self.base, option=OVER)


@dataclass(frozen=True, kw_only=True, eq=False)
class Axes:
    """The axes of a sweep, and whether their values go together (`zip`) instead of each with each."""

    axes: Sequence[Axis]
    zip: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the axes."""
        return [axis.name for axis in self.axes]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values of each axis; of all together with `zip`."""
        sizes = [len(axis.values) for axis in self.axes]
        return tuple(sizes[:1] if self.zip else sizes)

    def __len__(self) -> int:
        return math.prod(self.shape)

    def points(self) -> Iterator[tuple[Any, ...]]:
        """The values of each point, in the order of the axes; those of the last axis change first."""
        values = [axis.values for axis in self.axes]
        return zip(*values, strict=True) if self.zip else itertools.product(*values)

    def samples(self) -> Iterator[tuple[Any, ...]]:
        """Points in which each value of each axis occurs."""
        if self.zip:
            yield from self.points()
            return
        first = [axis.values[0] for axis in self.axes]
        yield tuple(first)
        for i, axis in enumerate(self.axes):
            for value in axis.values[1:]:
                yield (*first[:i], value, *first[i + 1 :])

    def overrides(self, point: Sequence[Any]) -> list[Override]:
        """What gives the workflow the values of a point."""
        return [axis.override(value) for axis, value in zip(self.axes, point, strict=True)]


def read_over(text: str) -> Axis:
    """The axis in NAME=VALUES, as the command line has it. Raises WorkflowError."""
    name, equals, values = text.partition("=")
    if not equals or not name.strip():
        raise _wrong(f"{OVER} {text}: expected NAME=VALUES", "For example: --over seed=1..8.")
    return _axis(name.strip(), values.strip(), Path.cwd(), f"{OVER} {name.strip()}")


def read_sweep(section: Any, base: Path) -> Axes:
    """The axes in the section `sweep` of a workflow. Relative paths start from `base`. Raises WorkflowError."""
    if not isinstance(section, Mapping):
        raise _wrong(f"'sweep' must be a mapping, not {described(section)}", "Write 'sweep: {over: {seed: 1..8}}'.")
    for name in section:
        if name not in ("over", "zip"):
            raise _wrong(f"'sweep' has no '{name}'", did_you_mean(name, ("over", "zip")) or "It has over, zip.")
    is_zip = section.get("zip", False)
    if not isinstance(is_zip, bool):
        raise _wrong(f"'zip' of 'sweep' must be true or false, not {described(is_zip)}", "Leave it out, or write true.")
    return make_axes(section.get("over", {}), zip=is_zip, base=base, where="sweep: ")


def make_axes(over: Any, *, zip: bool = False, base: Path | None = None, where: str = "over: ") -> Axes:
    """The axes in a mapping of names to values: lists, ranges, or text as the command line has it. Raises WorkflowError."""
    if not isinstance(over, Mapping):
        raise _wrong(f"{where}expected a mapping of names to values, found {described(over)}", "For example: {seed: [1, 2]}.")
    base = Path.cwd() if base is None else base
    return checked(Axes(axes=[_axis(name, values, base, f"{where}'{name}'") for name, values in over.items()], zip=zip))


def checked(axes: Axes) -> Axes:
    """`axes`, if a sweep can have them. Raises WorkflowError."""
    if not axes.axes:
        raise _wrong("there is nothing to sweep over", "Give values: --over seed=1..8, or a section 'sweep' in the file.")
    twice = next((name for i, name in enumerate(axes.names) if name in axes.names[:i]), None)
    if twice is not None:
        raise _wrong(f"{OVER} {twice}: this name is given twice", "Put all of its values into one.")
    sizes = {axis.name: len(axis.values) for axis in axes.axes}
    if axes.zip and len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size:,}" for name, size in sizes.items())
        raise _wrong(f"values that go together must be equally many: {listed}", "Leave out --zip to combine each with each.")
    if len(axes) > MOST_POINTS:
        raise _too_many(f"the sweep has {len(axes):,} points")
    return axes


def _axis(name: Any, values: Any, base: Path, source: str) -> Axis:
    if not isinstance(name, str):
        raise _wrong(f"{source}: expected the name of a param or node.input, found {described(name)}", "")
    axis = Axis(name=name, values=(), base=base)
    if isinstance(values, str):
        axis = _from_text(axis, values.strip(), source)
    elif isinstance(values, Mapping) or (hasattr(values, "keys") and not isinstance(values, Sequence)):
        raise _wrong(f"{source}: expected a list of values, found {described(values)}", _FORMS)
    elif hasattr(values, "__len__") and len(values) > MOST_POINTS:
        raise _too_many(f"{source} has {len(values):,} values")
    elif hasattr(values, "__iter__"):
        axis = replace(axis, values=list(itertools.islice(values, MOST_POINTS + 1)))
    else:
        axis = replace(axis, values=[values])
    if not len(axis.values):
        raise _wrong(f"{source}: the list of values is empty", _FORMS)
    reference = next(references(list(axis.values)), None)
    if reference is not None:
        raise _wrong(f"{source} refers to {reference}. Expected values", f"'${reference}' is the text '{reference}'.")
    return axis


def _from_text(axis: Axis, text: str, source: str) -> Axis:
    if text.startswith("["):
        return replace(axis, values=_from_yaml(text, source))
    if text.startswith("@"):
        return replace(axis, values=_from_file(axis.base / text[1:], source), text=True)
    found = _RANGE.fullmatch(text)
    if found is not None:
        return replace(axis, values=_numbers(found, text, source), text=True)
    values = [value.strip() for value in text.split(",")] if text else []
    if "" in values:
        raise _wrong(f"{source}: a value of '{text}' is empty", "Put values that are empty or have commas into brackets.")
    return replace(axis, values=values, text=True)


def _from_yaml(text: str, source: str) -> list[Any]:
    try:
        values = parse_value(text)
    except ValueError as error:
        raise _wrong(f"{source}: {error}", _FORMS) from None
    if not isinstance(values, list):
        raise _wrong(f"{source}: expected a list in brackets, found {described(values)}", _FORMS)
    return values


def _from_file(path: Path, source: str) -> list[str]:
    """The lines of a file, without empty ones."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise _wrong(f"{source}: {path} is not text in UTF-8", "Name a file with one value on each line.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _wrong(f"{source}: cannot read {path}: {reason}", "Name a file with one value on each line.") from None
    return [line.strip() for line in lines if line.strip()]


def _numbers(found: re.Match[str], text: str, source: str) -> list[str]:
    """The numbers of a range, both ends included, as a person writes them."""
    first, last = Decimal(found[1]), Decimal(found[2])
    step = Decimal(found[3]) if found[3] else Decimal(1 if last >= first else -1)
    if step == 0 or (last - first) * step < 0:
        raise _wrong(f"{source}: the steps of {text} never reach {last}", "Give it a step in the other direction.")
    count = int((last - first) / step) + 1
    if count > MOST_POINTS:
        raise _too_many(f"{source} has {f'{count:,}' if count < _LONG else f'{Decimal(count):.2e}'} values")
    return [format(first + i * step, "f") for i in range(count)]


def _too_many(what: str) -> WorkflowError:
    return _wrong(f"{what}, and a sweep may have {MOST_POINTS:,} points", "Use fewer values, or several sweeps.")


def _wrong(message: str, hint: str) -> WorkflowError:
    return WorkflowError([Problem("E121", message, None, hint)])
