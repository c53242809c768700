"""`--open`: shows files in the programs that the system has for them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from nodegraph.errors import OutputError
from nodegraph.light_dataclass import dataclass

_MOST: Final = 8  # more files would be as many windows
_SECONDS: Final = 2.0  # a program that has not failed until then shows the file


@dataclass(frozen=True)
class Viewer:
    """Opens files with `program`; without one, with a function of Windows."""

    program: str | None

    def open(self, paths: Sequence[Path]) -> None:
        """Open files, or their folders if they are more than eight. Raises OutputError if one cannot be opened."""
        files = [*dict.fromkeys(path.absolute() for path in paths)]
        shown = files if len(files) <= _MOST else [*dict.fromkeys(path.parent for path in files)]
        if self.program is None:
            for path in shown:
                _start_file(path)
        else:
            _run_all(self.program, shown[:_MOST])


def find_viewer() -> Viewer:
    """The system's way to open files. Raises UsageError if there is none: a command says so before it does its work."""
    if sys.platform == "win32":
        return Viewer(None)
    if sys.platform == "darwin":
        return Viewer("open")
    names = ("wslview", "xdg-open") if "microsoft" in platform.release().lower() else ("xdg-open",)
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        raise click.UsageError(f"--open needs the program {names[-1]}. Install the package xdg-utils, or leave out --open.")
    if names[0] == "xdg-open" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise click.UsageError("--open needs a desktop, and there is neither DISPLAY nor WAYLAND_DISPLAY. Leave out --open.")
    return Viewer(program)


def _run_all(program: str, paths: Sequence[Path]) -> None:
    """Start the program for each path. Some programs end at once, others when the user closes the file."""
    nothing = subprocess.DEVNULL
    started = []
    for path in paths:
        try:
            process = subprocess.Popen([program, path], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
        except OSError as error:
            raise OutputError(_unopened(path, f"{program} cannot be started: {error.strerror}")) from error
        started.append((path, process))
    end = time.monotonic() + _SECONDS
    for path, process in started:
        try:
            status = process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.returncode = 0  # it goes on when this process has ended
            continue
        if status:
            raise OutputError(_unopened(path, f"{Path(program).name} ended with status {status}"))


def _start_file(path: Path) -> None:
    if sys.platform == "win32":
        try:
            os.startfile(path)
        except OSError as error:
            raise OutputError(_unopened(path, error.strerror or str(error))) from error


def _unopened(path: Path, reason: str) -> str:
    return f"[E214] {path} cannot be opened: {reason}. Open it yourself, or leave out --open"
