"""The backend: one object that a pack registers, which the engine asks about devices, memory and previews."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from nodegraph.light_dataclass import dataclass

AUTO = "auto"

Blocks: TypeAlias = Mapping[tuple[str, int], int]
"""Blocks of memory: their bytes by device ("cpu", "cuda:0") and address."""

Renderer: TypeAlias = Callable[[Callable[[], Any]], Any]
"""Receives the function in `NodeProgress.preview` and returns the value to show. Raises ValueError if it cannot use it."""


@dataclass(frozen=True)
class Numerics:
    """A device, a dtype, and the name of the class of results that they give; the name is in the key of every numeric node."""

    device: str
    dtype: str
    name: str


@dataclass(frozen=True, kw_only=True)
class SheetLabels:
    """The text on a sheet of values that come row by row, `width` in each row.

    `title` stands above all, `columns` above the columns, `rows` left of the rows, and `cells` at the values themselves. If there
    are `sections`, the rows are divided into as many groups of one size, each of which has its text above it.
    """

    width: int
    title: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[str] = ()
    cells: Sequence[str] = ()
    sections: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A terminal that shows outputs, and the room for one: `width` and `height` in dots of the screen.

    `protocol` is how it takes them: "kitty" (kitty's graphics protocol), "iterm" (OSC 1337 of iTerm2) or "sixel" (of DEC's VT340).
    """

    protocol: str
    width: int
    height: int


class Backend(Protocol):
    """What the engine needs to know about this machine and about the library that computes on it.

    Register one with the hook `register_backend`. Every method may be called from any thread, and none may import a heavy library
    unless its docstring says so.
    """

    def fingerprint(self) -> str:
        """Return text that changes whenever `resolve` may answer differently: versions, driver, processor, environment.

        Answers of `resolve` are stored with it, so a run that finds everything in the cache does not call `resolve`. With "",
        nothing is stored.
        """

    def resolve(self, device: str, dtype: str) -> Numerics:
        """Return what `device` and `dtype`, which may be "auto", mean on this machine. May import the library.

        Raises ValueError if the machine does not have them.
        """

    def check_names(self, device: str, dtype: str) -> None:
        """Raise ValueError, as `resolve` does, if a name is that of no device or dtype on any machine. Called for every engine."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether `error` means that an accelerator or the machine ran out of memory. The node then runs once more."""

    def free_memory(self) -> None:
        """Release memory that is allocated but unused, such as the cache of an allocator."""

    def memory_of(self, value: Any) -> Blocks:
        """The blocks of memory that a loaded model occupies; empty if `value` is something else."""

    def memory_budget(self, device: str) -> int | None:
        """How many bytes of models may stay on `device`. None: as many as in main memory."""

    def watched_libraries(self) -> Collection[str]:
        """Return the top-level modules whose switches `known_state` sets. Asked once, when plugins are loaded.

        A node is watched if it is numeric, or if its plugin imports one of them, also through other libraries.
        """

    def known_state(self) -> AbstractContextManager[None]:
        """Give the switches of the libraries that results depend on known values during the block.

        The block is a watched node, a call of a codec, or the `resolve` of a `Reads`. Afterwards, the switches are as before. If
        several blocks run, and one has changed a switch that they share, set it again, and call `note_shared_change`.
        """

    def chosen_state(self) -> str:
        """Return text for what `known_state` leaves as the program chose it, such as an implementation; "" for the defaults.

        It is in the keys of watched nodes that are not numeric; for numeric ones, `resolve` names it.
        """

    def generator_states(self, watched: bool) -> Mapping[str, Any]:
        """Return, by library, what differs once a number is drawn from its global generator.

        Asked before and after each node. `watched`: the node may use the watched libraries.
        """

    def version(self, value: Any) -> Any:
        """Return what differs once a value without a codec, such as a loaded model, is changed in place. None: nothing tells."""

    def move(self, value: Any, device: str) -> Any:
        """Return a copy of a loaded model on `device`; `value` itself stays unchanged. None: it cannot be moved."""

    def preview_renderer(self) -> Renderer | None:
        """Return the function that makes previews visible. None: show what the node itself offers.

        Called before a run whose previews the user wants to see. Raises SettingsError if the user asked for something that cannot
        be used. Loads nothing heavy before its first call.
        """

    def sheet(self, values: Iterable[Any], labels: SheetLabels) -> Any:
        """Return one value that shows all `values` with their labels. May import the library.

        Each of `values` is a value of a node, a list of the paths of its files, or None for one that is missing. Raises ValueError
        if values like these cannot be shown.
        """

    def can_compare(self, data: bytes) -> bool:
        """Whether `difference` may know a file that holds `data`, such as an output without metadata."""

    def difference(self, first: Path, second: Path, path: Path | None) -> Mapping[str, Any] | None:
        """Return how much two outputs differ, by the names of measures, with `same` as a boolean; None if it cannot compare them.

        Write both and their difference to the file `path`, if it is not None. Raises ValueError, with what was expected and found.
        May import the library.
        """

    def inline(self, path: Path, terminal: Terminal) -> str | None:
        """Return the text that makes `terminal` show a file of an output; None if it is of a kind that cannot be shown.

        Raises ValueError if the file cannot be read.
        """


class CpuBackend:
    """Computes on the CPU and knows no model: the backend if no plugin registers one, and a base for those of tests."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def fingerprint(self) -> str:
        return ""

    def resolve(self, device: str, dtype: str) -> Numerics:
        return Numerics(device="cpu" if device == AUTO else device, dtype=dtype, name="none")

    def check_names(self, device: str, dtype: str) -> None:
        return None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def free_memory(self) -> None:
        return None

    def memory_of(self, value: Any) -> Blocks:
        return {}

    def memory_budget(self, device: str) -> int | None:
        return None

    def watched_libraries(self) -> Collection[str]:
        return ()

    def known_state(self) -> AbstractContextManager[None]:
        return nullcontext()

    def chosen_state(self) -> str:
        return ""

    def generator_states(self, watched: bool) -> Mapping[str, Any]:
        return {}

    def version(self, value: Any) -> Any:
        return None

    def move(self, value: Any, device: str) -> Any:
        return None

    def preview_renderer(self) -> Renderer | None:
        return None

    def sheet(self, values: Iterable[Any], labels: SheetLabels) -> Any:
        raise ValueError("no plugin can show values on a sheet. Install one that has a backend for it")

    def can_compare(self, data: bytes) -> bool:
        return False

    def difference(self, first: Path, second: Path, path: Path | None) -> Mapping[str, Any] | None:
        return None

    def inline(self, path: Path, terminal: Terminal) -> str | None:
        return None


def missing_methods(backend: object) -> list[str]:
    """The methods of `Backend` that `backend` lacks."""
    names = (name for name, member in vars(Backend).items() if callable(member) and not name.startswith("_"))
    return [name for name in names if not callable(getattr(backend, name, None))]
