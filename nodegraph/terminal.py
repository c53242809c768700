"""The only door to stdout and stderr: control characters are shown as escapes, and very long lines are cut.

Names, descriptions, values, paths and errors may come from files and plugins of other people. Written as they are, their control
characters could clear the screen, change the colours, or make a line look like another one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from typing import Any, Final

from nodegraph.errors import OutputError

MAX_LINE: Final = 4000
"""The longest line that is shown, in characters. JSON is never cut."""

_JSON_WRITTEN: Final = "nodegraph.json_written"
_CONTROL: Final = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the direction of text
    "\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # separators, invisible characters
    "\ud800-\udfff]"  # bytes of a file name that are not UTF-8
)
_NAMED: Final = {"\r": "\\r", "\n": "\\n", "\t": "\\t", "\x1b": "\\e", "\x07": "\\a"}


def prepare() -> None:
    """Make stdout and stderr safe to write to.

    Characters that their encoding lacks are written as escapes instead of raising errors. A stream that is closed is replaced by
    one that leads nowhere. Otherwise the next file that is opened would take its number, and receive what is written to the stream.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when Python started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 (open until the process ends)
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def echo(text: str = "", *, err: bool = False) -> None:
    """Write text and a line break. Line breaks and tabs in the text stay; other control characters are written as escapes.

    Raises OutputError if stdout cannot be written, and BrokenPipeError if its reader has closed it.
    """
    write("\n".join(map(_cut, escaped(text).split("\n"))), err=err)


def echo_json(text: str) -> None:
    """Write JSON, which is never cut."""
    import click

    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_JSON_WRITTEN] = True
    write(escaped(text))


def has_written_json() -> bool:
    """Whether this call of the program has written JSON."""
    import click

    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_JSON_WRITTEN))


def write(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Write text as it is: only for what `escaped` returned, and for our own control characters."""
    import click

    try:
        click.echo(text + end, err=err, nl=False)
    except OSError as error:
        _handle(error, err=err)


def flush() -> None:
    """Write what is still in memory, so that a problem is noticed here and not while the interpreter shuts down."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _handle(error, err=False)


def escaped(text: str) -> str:
    """Text with control characters as escapes, such as `\\e[2J`. Line breaks and tabs stay."""
    if all(map(str.isprintable, text.split("\n"))):
        return text  # without compiling the expression, which takes long
    return re.sub(_CONTROL, _escape, text)


def one_line(text: str) -> str:
    """Text for a cell or a name: control characters, line breaks and tabs are escapes, and a long text is cut."""
    return _cut(escaped(text).replace("\n", "\\n").replace("\t", "\\t"))


def is_terminal(stream: Any) -> bool:
    """Whether `stream` is a terminal. False for None, which a stream is that was closed when Python started."""
    return stream is not None and bool(stream.isatty())


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}... ({len(line):,} characters)"


def _handle(error: OSError, *, err: bool) -> None:
    """Give up a stream that cannot be written. Nothing can be reported if it is stderr."""
    if error.errno == errno.EPIPE:
        raise error
    stream = sys.stderr if err else sys.stdout
    with contextlib.suppress(OSError, ValueError):  # the interpreter would try again at its end, and fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if not err:
        raise OutputError(f"stdout cannot be written: {error.strerror}. Free some space, or write to another file") from error
