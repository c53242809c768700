"""Which process holds a lock that this one waits for, and a message about the wait."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Final

from nodegraph.light_dataclass import dataclass

_LONGEST_COMMAND: Final = 120


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lock: its number, its command line (empty if it cannot be read), and whether it is stopped."""

    process: int
    command: str = ""
    is_stopped: bool = False


def find_holder(lock: Path) -> Holder | None:
    """The process that holds the lock file `lock`; None if the system does not tell, which only Linux does.

    The holder does not write its number into the file: that would cost every node that runs about 20 microseconds.
    """
    with contextlib.suppress(OSError, ValueError):
        state = lock.stat()
        device = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}"
        found: dict[str, int] = {}
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()  # such as 1: FLOCK ADVISORY WRITE 7581 fe:00:2146954 0 EOF; one that waits begins with 1: ->
            if len(fields) == 8 and fields[1] == "FLOCK":
                where, _, inode = fields[5].rpartition(":")
                if int(inode) == state.st_ino:
                    found[where] = int(fields[4])
        process = found.get(device) or (next(iter(found.values())) if len(found) == 1 else 0)  # btrfs shows another device
        if process > 0:  # processes of other containers have no number here
            return Holder(process=process, command=_command(process), is_stopped=_is_stopped(process))
    return None


def waiting_message(lock: Path | None, work: str) -> str:
    """What a user should know after a second of waiting for `lock`: who holds it to do `work`, and how to go on without it.

    None: another machine, which shares a store with this one, does the work.
    """
    if lock is None:
        return f"waiting for another machine, which {work}"
    holder = find_holder(lock)
    if holder is None:
        return f"waiting for another process, which {work}"
    if holder.process == os.getpid():
        return f"waiting for another run in this process, which {work}"
    command = f" ({holder.command})" if holder.command else ""
    message = f"waiting for process {holder.process}{command}, which {work}"
    if holder.is_stopped:
        message += f". It is stopped: 'fg' in its terminal, or 'kill -CONT {holder.process}', lets it go on"
    return message


def gc_waiting_message(lock: Path) -> str:
    """The same for a process that waits to remove results."""
    message = waiting_message(lock, "removes results from this cache")
    return f"{message}. Press Ctrl-C to stop waiting: runs need no 'nodegraph cache gc' before them"


def _command(process: int) -> str:
    """The command line of a process, with only the file name of its program."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return ""
    words[0] = words[0].rpartition("/")[2]
    if words[0].startswith("python") and len(words) > 1 and not words[1].startswith("-"):  # the script of a console command
        words[:2] = [words[1].rpartition("/")[2]]
    command = " ".join(" ".join(map(shlex.quote, words)).split())
    return command if len(command) <= _LONGEST_COMMAND else f"{command[:_LONGEST_COMMAND]} ..."


def _is_stopped(process: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process}/stat").read_bytes()
        return stat.rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False
