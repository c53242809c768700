"""Watching the unfinished work of a node: it may be continued only if it comes from what its key covers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final

from nodegraph.cache.store.work import WorkFolder, WorkNote

LOOK_SECONDS: Final = 1.0
"""How often a running node looks whether its code and files are still those that the key covers."""


class WorkWatch:
    """Watches the work of one node while it runs.

    `depends` returns what the work depends on so far, besides its key, and `are_same` whether such things are still what they were.
    `is_sound` returns whether the code and files of the node are still those that the key covers. Work that is not sound loses its
    note, so that it is never continued.
    """

    def __init__(
        self,
        note: WorkNote,
        *,
        depends: Callable[[], Mapping[str, str]],
        is_sound: Callable[[], bool],
        are_same: Callable[[Mapping[str, str]], bool],
    ) -> None:
        self._note, self._depends, self._is_sound, self._are_same = note, depends, is_sound, are_same
        self._folder: WorkFolder | None = None
        self._noted: Mapping[str, str] = {}
        self._looked = time.monotonic()
        self._has_failed = False

    def can_continue(self) -> bool:
        """Whether what the node does now may be continued later."""
        return not self._has_failed and self._is_sound()

    def begin(self, folder: WorkFolder, *, anew: bool) -> None:
        """The node uses this folder from now on. What is in it and cannot be continued is removed, with `anew` everything."""
        known = folder.note()
        if anew or known is None or not self._are_same(known.depends):
            folder.discard()
            folder.create()
        self._folder = folder
        self._write({**(known.depends if known is not None and not anew else {}), **self._depends()})

    def look(self) -> None:
        """Note what the work depends on by now. To be called after each step."""
        if self._folder is None or self._has_failed:
            return
        depends = self._depends()
        if not depends.items() <= self._noted.items():
            self._write({**self._noted, **depends})
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            if not self._is_sound():
                self.discard()

    def end(self) -> None:
        """The node uses its folder no more."""
        self.look()

    def discard(self) -> None:
        """Never continue this work."""
        self._has_failed = True
        if self._folder is not None:
            self._folder.forget()

    def _write(self, depends: Mapping[str, str]) -> None:
        assert self._folder is not None
        self._noted = depends
        with contextlib.suppress(OSError):  # without a note, the work is not continued
            self._folder.write_note(self._note._replace(depends=depends))
