"""Whether a shared store can be used now: after a failure it is left alone for a while, and a message says so once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

FIRST_PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 3600.0


class Health:
    """What is known of a store in one direction, reading or writing. May be used from several threads.

    The pause after a failure doubles with each failure, so that a run of many hours does not wait for a dead store every minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._failures, self._until = 0, 0.0
        self._message: str | None = None

    def is_usable(self) -> bool:
        return self._failures == 0 or self._clock() >= self._until

    def failed(self, message: str | None) -> None:
        """Note a failure. The first one since the store last worked has its `message` shown, if there is one."""
        with self._lock:
            if not self.is_usable():
                return  # a request that began before the last failure
            self._failures += 1
            self._until = self._clock() + min(FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1), LONGEST_PAUSE_SECONDS)
            if self._failures == 1:
                self._message = message

    def worked(self) -> None:
        if self._failures:
            with self._lock:
                self._failures = 0

    def take_message(self) -> str | None:
        """The message to show now, which is then shown."""
        if self._message is None:
            return None
        with self._lock:
            message, self._message = self._message, None
            return message
