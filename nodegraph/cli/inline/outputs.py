"""Shows files of outputs in the terminal on stdout, below their names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodegraph.cli.inline.protocol import protocol
from nodegraph.cli.inline.question import takes_sixel
from nodegraph.plugins.backend import Backend, Terminal
from nodegraph.settings import INLINE
from nodegraph.terminal import echo, is_terminal, write

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST: Final = 4  # outputs of one command
_CELL: Final = (10, 20)  # dots of a character, if the terminal does not say it: those of a VT340
_ROOM: Final = 2  # a part of the height: what was written before stays visible

AUTO, NEVER = INLINE[:2]


class InlineOutputs:
    """Shows at most four files of one command. A file that cannot be shown is a note, and no error."""

    def __init__(self, backend: Backend, terminal: Terminal) -> None:
        self._backend, self._terminal = backend, terminal
        self._shown = self._left = 0

    def __call__(self, path: Path) -> None:
        """Show a file of an output, if it is of a kind that can be shown."""
        if self._shown == _MOST:
            self._left += 1
            return
        try:
            text = self._backend.inline(path, self._terminal)
        except Exception as error:  # from a plugin; the command has done its work
            echo(f"note: {path} cannot be shown: {' '.join(str(error).split()) or type(error).__name__}", err=True)
            return
        if text is not None:
            write(text)
            self._shown += 1

    def close(self) -> None:
        """Say how many files were not shown."""
        if self._left:
            echo(f"note: the terminal shows the first {_MOST} outputs, and not the other {self._left}", err=True)


@contextlib.contextmanager
def inline_outputs(choice: str, backend: Backend) -> Iterator[Callable[[Path], None]]:
    """Yields what shows files as `choice`, one of `INLINE`, says; it does nothing if stdout is no terminal that can."""
    terminal = _terminal(choice)
    if terminal is None:
        yield lambda path: None
        return
    shown = InlineOutputs(backend, terminal)
    yield shown
    shown.close()


def _terminal(choice: str) -> Terminal | None:
    """The terminal on stdout, if it is one and shows outputs."""
    if choice == NEVER or not is_terminal(sys.stdout):
        return None
    try:
        descriptor = sys.stdout.fileno()
        name = protocol(os.environ, partial(takes_sixel, descriptor)) if choice == AUTO else choice
        if name is None:
            return None
        size = os.get_terminal_size(descriptor)
    except (OSError, ValueError):
        return None
    columns, rows = size.columns or 80, size.lines or 24
    wide, high = _cell(descriptor, columns, rows)
    return Terminal(protocol=name, width=columns * wide, height=max(1, rows // _ROOM) * high)


def _cell(descriptor: int, columns: int, rows: int) -> tuple[int, int]:
    """The width and height of a character in dots."""
    try:
        import fcntl
        import struct
        import termios

        answer = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))
    except (ImportError, OSError):
        return _CELL
    _, _, width, height = struct.unpack("4H", answer)
    return (width // columns or _CELL[0], height // rows or _CELL[1])
