"""What a node type is: a typed function, described once by `@node`.

A function's parameters are the node's inputs and its return annotation is its output; a `NamedTuple` gives several named
outputs. `Annotated` adds what a type cannot say: `Range`, `Choice`, `Help`, `Reads`. The decorator returns the function
itself, so that a test calls it directly.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar, overload

from nodegraph.errors import PluginError

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
    """A text input that names something in a registry, such as `Choice("samplers")`."""

    registry: str


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


@dataclass(frozen=True)
class RandomSeed:
    """Marks an integer input that also takes the word `random`, drawn when a run is planned."""


def _single_file(text: str, base: Path) -> Resource:
    path = base / Path(text).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    return Resource(path, {"file": path})


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

    def step(self, i: int, n: int, preview: Any = None) -> None:
        """Say that step `i` of `n` (from 1) is done. Raises Cancelled when the run is cancelled."""

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
    reads: Reads | None = None
    seed: bool = False

    @property
    def required(self) -> bool:
        return self.default is MISSING


@dataclass(frozen=True)
class NodeSpec:
    """A node type: a function with its ports.

    `pure`: same inputs, same output. `numeric`: it computes with tensors, so the class of device and dtype is in its key, and
    one such node at a time runs on a device. `run_parameter`: the parameter that receives the `Run`. `check`: see `node`.
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
) -> Callable[[F], F] | F:
    """Make a typed function a node type; the function itself is returned.

    `name` is what workflows say after `use:` (without it, the function's own name). Raise `version` when the same inputs give
    another output. `check(**literals)` yields what is wrong with a node's literals taken together, one message each; it receives
    the inputs that are given or defaulted as literals, and `nodegraph check` calls it.
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
        }
        return function

    return decorate


def spec_of(function: Callable[..., Any]) -> NodeSpec:
    """The node type that a decorated function describes. Raises PluginError if its signature cannot be one."""
    said = getattr(function, "__nodegraph__", None)
    called = getattr(function, "__qualname__", repr(function))
    if said is None:
        raise PluginError(f"[E302] {called} is not a node type. Decorate it with @node('Name') before it is registered")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise PluginError(
            f"[E302] node type '{said['name']}' ({called}): {error}. Import the types of its signature outside TYPE_CHECKING"
        ) from error
    inputs: list[Port] = []
    run_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise PluginError(
                f"[E302] node type '{said['name']}' ({called}): parameter '{parameter.name}' has no name that a workflow could "
                f"say. Expected named parameters only"
            )
        if parameter.name not in hints:
            raise PluginError(f"[E302] node type '{said['name']}' ({called}): parameter '{parameter.name}' has no type")
        if hints[parameter.name] is Run:
            run_parameter = parameter.name
            continue
        default = MISSING if parameter.default is parameter.empty else parameter.default
        inputs.append(_port(parameter.name, hints[parameter.name], default))
    if hints.get("return", type(None)) is type(None):
        raise PluginError(f"[E302] node type '{said['name']}' ({called}) returns nothing. Annotate what it returns")
    return NodeSpec(
        function=function,
        inputs=tuple(inputs),
        outputs=_outputs(hints["return"]),
        doc=inspect.cleandoc(function.__doc__ or ""),
        run_parameter=run_parameter,
        **said,
    )


def _port(name: str, hint: Any, default: Any) -> Port:
    marks: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        hint, *rest = typing.get_args(hint)
        marks = tuple(rest)
    elif optional := _optional_annotated(hint):
        hint, marks = optional

    def mark(kind: type[T]) -> T | None:
        return next((m for m in reversed(marks) if isinstance(m, kind)), None)

    help_mark = mark(Help)
    return Port(
        name=name,
        type=hint,
        default=default,
        help=help_mark.text if help_mark else "",
        range=mark(Range),
        choice=mark(Choice),
        reads=mark(Reads),
        seed=mark(RandomSeed) is not None,
    )


def _optional_annotated(hint: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """`Annotated[X, ...] | None` as (X | None, marks): an absent file is still a file input."""
    parts = typing.get_args(hint)
    annotated = [part for part in parts if typing.get_origin(part) is Annotated]
    if len(parts) != 2 or type(None) not in parts or not annotated:
        return None
    inner, *marks = typing.get_args(annotated[0])
    return inner | None, tuple(marks)


def _outputs(hint: Any) -> tuple[Port, ...]:
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return tuple(_port(name, kind, MISSING) for name, kind in typing.get_type_hints(hint, include_extras=True).items())
    return (_port(SINGLE_OUTPUT, hint, MISSING),)
