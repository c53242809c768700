"""Node types: typed functions decorated with `@node`.

The parameters of the function are the node's inputs, and its return annotation is its output; a `NamedTuple` gives several named
outputs. `Annotated` adds what a type cannot express: `Range`, `Choice`, `OptionsOf`, `Help`, `Reads`. The decorator returns the
function itself, so that a test can call it directly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar, overload

from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.item_ports import is_item, list_port
from nodegraph.node_types.on_demand import OnDemand
from nodegraph.node_types.port_types import element_type

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

SINGLE_OUTPUT: Final = "output"
"""The port name of a node type with one output."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The default of an input that has no default."""


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of an input, both included; None means no limit."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Choice:
    """A text input that names something in a registry, such as `Choice("filters")`."""

    registry: str


@dataclass(frozen=True)
class OptionsOf:
    """A mapping of options for the thing that another input, a `Choice`, names: the parameters of it that have a default."""

    input: str


@dataclass(frozen=True)
class Help:
    """One sentence about an input, for `nodegraph nodes NAME`."""

    text: str


class Resource(NamedTuple):
    """What text that names files resolves to: the value that the function receives, and the files whose content matters.

    `notes` is what the user should know about the files, such as what in them is ignored; `nodegraph check` shows it.
    """

    value: Any
    files: Mapping[str, Path]  # by a name that does not depend on their folder
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reads:
    """An input whose text names files. Their content is part of the cache key, and so is the text.

    `by_content`: the value depends on nothing in the text but the files, so the text is not in the key, and the same files under
    another path are the same input.

    `resolve(text, base)` returns the `Resource`; `base` is the folder that relative paths start from. It raises FileNotFoundError
    or ValueError with a message for the user. If it would have to use the network although `may_fetch()` is false, it raises
    NotFetchedError.
    """

    resolve: Callable[[str, Path], Resource]
    _: KW_ONLY
    by_content: bool = False


@dataclass(frozen=True)
class Continues:
    """Marks an input that says how far the work goes, such as a number of steps.

    The node's `Run.work_folder` does not depend on it: work that went less far continues. The result still does.
    """


RANDOM: Final = "random"


@dataclass(frozen=True)
class RandomSeed:
    """Marks an integer input that also takes the word `random`: a number is drawn when a run is planned."""


def _single_file(text: str, base: Path) -> Resource:
    path = under(base, text)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    return Resource(path, {"file": path})


def under(base: Path, text: str) -> Path:
    """The path `text`, relative to `base`; `~` is the home folder. Raises ValueError if there is no such home folder."""
    try:
        return base / Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: {error}") from error


File = Annotated[Path, Reads(_single_file, by_content=True)]
"""A path to a file. The cache key depends on the content of the file, not on its path."""

Seed = Annotated[int, RandomSeed(), Range(0, 2**64 - 1)]
"""A whole number from 0 below 2**64, or `random`."""


class Run:
    """The run that a node is part of. The engine passes it to a parameter annotated `Run`.

    This class works without an engine, so that a test can call a node directly: nothing is shown, kept or cancelled.
    """

    device: str = "cpu"
    dtype: str = "auto"

    def __repr__(self) -> str:
        return f"<Run on {self.device} in {self.dtype}>"

    def step(self, i: int, n: int, preview: Callable[[], Any] | None = None, *, status: str = "") -> None:
        """Report that step `i` of `n` (from 1) is done. Raises Cancelled if the run was cancelled.

        `preview()` returns a value to show, of a type with a codec. If previews are shown, it is called before `step` returns.
        `status` is shown beside the number of the step, such as "loss 0.12".
        """

    def resident(self, key: Hashable, make: Callable[[], T], *, size: int = 0) -> T:
        """The result of `make()`, kept under `key` between nodes and runs: for loaded models.

        A node may use it until it returns. What it returns should not hold it, but an `on_demand`. `size` is how many bytes it
        will take on the run's device: room for them is made first.
        """
        return make()

    def on_demand(self, key: Hashable, make: Callable[[], T], *, size: int = 0) -> OnDemand[T]:
        """Stands for `resident(key, make, size=size)` in what a node returns: the value is made, or made again, when it is needed.

        `make` may be called after the node has returned, so it should not use the `Run`, and should hold nothing large.
        """
        return OnDemand(make)

    @property
    def digest(self) -> Callable[[Path], str | None]:
        """A function that returns the SHA-256 of a file's content, in hex, or None if the node was called without an engine.

        Digests are remembered as long as a file does not change. The function may be used after the node has returned. It raises
        OSError if the file cannot be read.
        """
        return lambda path: None

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A folder of the node's own for unfinished work, so that it continues after a kill: the same one in every process.

        It belongs to the node's type, code and inputs, except those marked `Continues`; no other thread or process uses it during
        the block. What is in it must be whole at any time, and the result must not depend on whether there was something in it.
        Without an engine or a cache, and if the result would not be kept, it is a temporary folder.
        """
        import tempfile

        with tempfile.TemporaryDirectory(prefix="nodegraph-") as folder:
            yield Path(folder)

    def notice(self, message: str) -> None:
        """Show a message to the user. It is kept with the result, and shown again when the result comes from the cache."""


@dataclass(frozen=True)
class Port:
    """An input or an output of a node type."""

    name: str
    type: Any
    _: KW_ONLY
    default: Any = MISSING
    help: str = ""
    range: Range | None = None
    choice: Choice | None = None
    options_of: OptionsOf | None = None
    reads: Reads | None = None
    seed: bool = False
    continues: bool = False

    @property
    def required(self) -> bool:
        return self.default is MISSING


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NodeSpec:
    """A node type: a function with its ports.

    `pure`: the same inputs give the same output. `keep`: its results are kept in the cache. `numeric`: it computes with tensors, so
    its key depends on the device and dtype, and only one such node runs on a device at a time. `run_parameter`: the parameter that
    receives the `Run`. `check`, `outline`, `foreign_names`, `timeout` (in seconds) and `retries`: see `node`.
    """

    name: str
    version: int
    function: Callable[..., Any]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    doc: str
    pure: bool = True
    keep: bool = True
    numeric: bool = False
    run_parameter: str | None = None
    check: Callable[..., Iterable[str]] | None = None
    outline: Callable[..., Mapping[str, Any]] | None = None
    foreign_names: tuple[str, ...] = ()
    timeout: float | None = None
    retries: int = 0

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(port.name for port in ports) for ports in (self.inputs, self.outputs))
        return f"<NodeSpec {self.name}({inputs}) -> {outputs}>"

    @cached_property
    def with_range(self) -> tuple[Port, ...]:
        """The inputs that have a range."""
        return tuple(port for port in self.inputs if port.range is not None)

    @cached_property
    def _items(self) -> dict[str, Port]:
        """The items of outputs that were asked for, by name."""
        return {}

    @cached_property
    def options(self) -> tuple[Port, ...]:
        """The inputs that take options of the thing that another input names."""
        return tuple(port for port in self.inputs if port.options_of is not None)

    @cached_property
    def continues(self) -> tuple[str, ...]:
        """The inputs that say how far the work goes."""
        return tuple(port.name for port in self.inputs if port.continues)

    def input(self, name: str) -> Port | None:
        return next((port for port in self.inputs if port.name == name), None)

    def output(self, name: str | None = None) -> Port | None:
        """The output called `name`. Without a name: the only output, or None if there are several."""
        if name is None:
            return self.outputs[0] if len(self.outputs) == 1 else None
        for port in self.outputs:
            if port.name == name:
                return port
        return self._item(name) if is_item(name) else None

    def _item(self, name: str) -> Port | None:
        """An item of an output that is a list, such as `output[2]`; `[2]` means that of the only output."""
        known = self._items.get(name)
        if known is not None:
            return known
        base = list_port(name)
        found = self.output(base or None)
        if found is None:
            return None
        kind = found.type
        for _ in range(name.count("[")):
            kind = element_type(kind)
            if kind is None:
                return None
        return self._items.setdefault(name, replace(found, name=found.name + name[len(base) :], type=kind))


@overload
def node(
    name: str,
    *,
    version: int = 1,
    pure: bool = True,
    keep: bool = True,
    numeric: bool = False,
    check: Callable[..., Iterable[str]] | None = None,
    outline: Callable[..., Mapping[str, Any]] | None = None,
    foreign_names: tuple[str, ...] = (),
    timeout: float | None = None,
    retries: int = 0,
) -> Callable[[F], F]: ...
@overload
def node(name: F) -> F: ...
def node(
    name: str | F,
    *,
    version: int = 1,
    pure: bool = True,
    keep: bool = True,
    numeric: bool = False,
    check: Callable[..., Iterable[str]] | None = None,
    outline: Callable[..., Mapping[str, Any]] | None = None,
    foreign_names: tuple[str, ...] = (),
    timeout: float | None = None,
    retries: int = 0,
) -> Callable[[F], F] | F:
    """Make a typed function a node type. Returns the function itself.

    `name` is what workflows write after `use:`; default: the function's name. Raise `version` when the same inputs give another
    output. With `keep=False`, its results are not kept: it runs each time that a node below it needs them, and nodes below it whose
    result is in the cache are found without it. This is for values that are large and cheap to compute. `check(**literals)` yields
    a message for each mistake in a node's literals taken together; it receives the inputs that are literals or have their default,
    and `nodegraph check` calls it. A message that begins with the name of an input is located where that input is given.
    `outline(**known)` returns what is known about the outputs before the node runs, by their names, such as what the header of a
    file says. `outline` and `check` of the nodes below receive it in place of the value that the input will have.
    `foreign_names` are names of similar things in other programs: a user who looks for one of them is led to this node.

    A node that runs for more than `timeout` seconds fails at its next `run.step`, so it needs a parameter annotated `Run`.
    `retries` is how often it runs again after an error that may not come again: TemporaryError, or an OSError such as a lost
    connection, but not one about a file that is missing or not allowed. Each attempt has its own time.
    """
    if callable(name):
        return node(name.__name__)(name)

    def decorate(function: F) -> F:
        function.__nodegraph__ = {  # type: ignore[attr-defined]
            "name": name,
            "version": version,
            "pure": pure,
            "keep": keep,
            "numeric": numeric,
            "check": check,
            "outline": outline,
            "foreign_names": foreign_names,
            "timeout": timeout,
            "retries": retries,
        }
        return function

    return decorate
