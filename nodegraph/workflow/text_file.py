"""The bytes and the text of a workflow file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodegraph.errors import Problem, WorkflowError
from nodegraph.text import relative_path

LARGEST: Final = 16 << 20  # bytes of a workflow file


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a workflow file. Raises WorkflowError if it cannot be read or is too large to be one."""
    file = relative_path(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(largest + 1)  # not all of a large file that was named by mistake
    except FileNotFoundError:
        raise _unreadable(f"there is no workflow file {file}", "Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise _unreadable(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}", "Check the path.") from None
    if len(data) > largest:
        raise _unreadable(
            f"{file} is larger than {largest >> 20} MiB", "A workflow is a text file of a few kilobytes. Check the path."
        )
    return data


def decode(data: bytes, file: str) -> str:
    """The text of a workflow file. Raises WorkflowError if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(f"{file} is not UTF-8 text (byte {error.start})", "A workflow is a text file in UTF-8.") from None


def _unreadable(message: str, hint: str) -> WorkflowError:
    return WorkflowError([Problem("E100", message, hint=hint)])
