"""What a node type is: a typed function, described once by `@node`.

A function's parameters are the node's inputs and its return annotation is its output; a `NamedTuple` gives several named
outputs. `Annotated` adds what a type cannot say: `Range`, `Choice`, `OptionsOf`, `Help`, `Reads`. The decorator returns the
function itself, so that a test calls it directly.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar, overload

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

SINGLE_OUTPUT: Final = "output"
"""The port name of a node type with one output."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""Stands for the default of an input that has none."""


@dataclass(frozen=True)
class Range:
    """The least and the largest value that an input takes, both included; None is open."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Choice:
    """A text input that names something in a registry, such as `Choice("filters")`."""

    registry: str


@dataclass(frozen=True)
class OptionsOf:
    """A mapping of options for what another input, a `Choice`, names: its parameters that have a default."""

    input: str


@dataclass(frozen=True)
class Help:
    """One sentence about an input, for `nodegraph nodes NAME`."""

    text: str


class Resource(NamedTuple):
    """What a literal that names files comes to: the value that the function receives, and the files that count."""

    value: Any
    files: Mapping[str, Path]  # by a name that does not depend on where they lie


@dataclass(frozen=True)
class Reads:
    """An input whose text names files: their content is in the key, their path is not.

    `resolve(text, base)` gives the `Resource`, `base` being the folder that relative paths start from. It raises
    FileNotFoundError or ValueError with a message for people.
    """

    resolve: Callable[[str, Path], Resource]


RANDOM: Final = "random"


@dataclass(frozen=True)
class RandomSeed:
    """Marks an integer input that also takes the word `random`, for which a number is drawn when a run is planned."""


def _single_file(text: str, base: Path) -> Resource:
    path = under(base, text)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    return Resource(path, {"file": path})


def under(base: Path, text: str) -> Path:
    """The path that `text` names, `~` being the home folder, seen from `base`. Raises ValueError if there is no such home."""
    try:
        return base / Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: {error}") from error


File = Annotated[Path, Reads(_single_file)]
"""A path whose content is what counts."""

Seed = Annotated[int, RandomSeed(), Range(0, 2**64 - 1)]
"""A whole number from 0 below 2**64, or `random`."""


class Run:
    """What a node may ask of the run it is part of; the engine passes one to a parameter annotated `Run`.

    This class is usable as it is, so that a test calls a node without an engine: nothing is shown, kept or cancelled.
    """

    device: str = "cpu"
    dtype: str = "auto"

    def step(self, i: int, n: int, preview: Callable[[], Any] | None = None) -> None:
        """Say that step `i` of `n` (from 1) is done. Raises Cancelled when the run is cancelled.

        `preview()` makes a value to look at, of a type with a codec; it is called before `step` returns, if somebody looks.
        """

    def resident(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make()` gives, kept under `key` between nodes and runs: loaded models."""
        return make()

    def notice(self, message: str) -> None:
        """Tell the person something worth knowing. Kept with the result and told again when that comes from the cache."""


@dataclass(frozen=True)
class Port:
    """An input or an output of a node type."""

    name: str
    type: Any
    default: Any = MISSING
    help: str = ""
    range: Range | None = None
    choice: Choice | None = None
    options_of: OptionsOf | None = None
    reads: Reads | None = None
    seed: bool = False

    @property
    def required(self) -> bool:
        return self.default is MISSING


@dataclass(frozen=True)
class NodeSpec:
    """A node type: a function with its ports.

    `pure`: same inputs, same output. `numeric`: it computes with tensors, so the class of device and dtype is in its key, and
    one such node at a time runs on a device. `run_parameter`: the parameter that receives the `Run`. `check` and `foreign_names`:
    see `node`.
    """

    name: str
    version: int
    function: Callable[..., Any]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    doc: str
    pure: bool = True
    numeric: bool = False
    run_parameter: str | None = None
    check: Callable[..., Iterable[str]] | None = None
    foreign_names: tuple[str, ...] = ()

    @cached_property
    def options(self) -> tuple[Port, ...]:
        """The inputs that take options of what another one names."""
        return tuple(port for port in self.inputs if port.options_of is not None)

    def input(self, name: str) -> Port | None:
        return next((port for port in self.inputs if port.name == name), None)

    def output(self, name: str | None = None) -> Port | None:
        """The output called `name`; without a name, the only one, or None where there are several."""
        if name is None:
            return self.outputs[0] if len(self.outputs) == 1 else None
        return next((port for port in self.outputs if port.name == name), None)


@overload
def node(
    name: str,
    *,
    version: int = 1,
    pure: bool = True,
    numeric: bool = False,
    check: Callable[..., Iterable[str]] | None = None,
    foreign_names: tuple[str, ...] = (),
) -> Callable[[F], F]: ...
@overload
def node(name: F) -> F: ...
def node(
    name: str | F,
    *,
    version: int = 1,
    pure: bool = True,
    numeric: bool = False,
    check: Callable[..., Iterable[str]] | None = None,
    foreign_names: tuple[str, ...] = (),
) -> Callable[[F], F] | F:
    """Make a typed function a node type; the function itself is returned.

    `name` is what workflows say after `use:` (without it, the function's own name). Raise `version` when the same inputs give
    another output. `check(**literals)` yields what is wrong with a node's literals taken together, one message each; it receives
    the inputs that are given or defaulted as literals, and `nodegraph check` calls it. A message that begins with the name of an
    input is told where that is given. `foreign_names`: what other programs call something that this node does, or a part of it; who
    asks for that is told of this node.
    """
    if callable(name):
        return node(name.__name__)(name)

    def decorate(function: F) -> F:
        function.__nodegraph__ = {  # type: ignore[attr-defined]
            "name": name,
            "version": version,
            "pure": pure,
            "numeric": numeric,
            "check": check,
            "foreign_names": foreign_names,
        }
        return function

    return decorate
