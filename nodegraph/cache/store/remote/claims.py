"""Who computes a key, among machines that share a store: one computes, the others wait.

A claim is an object that names its holder; it is created only if there is none. A holder rewrites its lease every few seconds as
long as it has claims. One that waits looks at the tag of that lease: if it has not changed for `EXPIRY_SECONDS` by the clock of
the one that waits, the holder is taken for dead, and its claims may be replaced. No clocks are compared.

Claims only save work. If two machines hold the same one, both compute the same, and the first record stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from nodegraph.cache.store.remote import names
from nodegraph.cache.store.remote.objects import Objects, ObjectsError
from nodegraph.files import parse_json
from nodegraph.light_dataclass import dataclass

EXPIRY_SECONDS: Final = 30.0
BEAT_SECONDS: Final = 8.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
LONG_WAIT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Timing:
    """After how long a lease that does not change is void, and how often a holder rewrites its own."""

    expiry: float = EXPIRY_SECONDS
    beat: float = BEAT_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class _Watched:
    """The tag of another holder's lease (None: it has none), and since when it has been this one."""

    tag: str | None
    since: float


class Claims:
    """The claims of this process. May be used from several threads."""

    def __init__(self, objects: Objects, timing: Timing | None = None) -> None:
        self._objects, self._timing = objects, timing or Timing()
        self._holder = os.urandom(16).hex()
        self._held: set[str] = set()
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._has_lease = self._beating = False
        self._beats, self._last_beat = 0, 0.0

    def holds(self, key: str) -> bool:
        return key in self._held

    def acquire(self, key: str, waiting: Callable[[], None], long_wait: Callable[[], None]) -> bool:
        """Claim `key`, once no living holder has it. Returns whether another one had to be waited for.

        `waiting` is called repeatedly meanwhile; it can stop the waiting by raising. `long_wait` is called once if it takes longer
        than a second. Raises ObjectsError.
        """
        timing = self._timing
        began, pause, is_long, waited = timing.clock(), FIRST_PAUSE_SECONDS, False, False
        while not self._try(key):
            waiting()
            waited = True
            if not is_long and timing.clock() - began >= LONG_WAIT_SECONDS:
                is_long = True
                long_wait()
            timing.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
        with self._lock:
            self._held.add(key)
        self._keep_lease()
        return waited

    def release(self, key: str) -> None:
        """Give a claim up. Raises ObjectsError."""
        with self._lock:
            self._held.discard(key)
        if self._timing.clock() - self._last_beat < self._timing.expiry or self._is_own(key):
            self._objects.delete([names.claim(key)])

    def forget(self, key: str) -> None:
        """Give a claim up without saying so: it is void once the lease is."""
        with self._lock:
            self._held.discard(key)

    def end(self) -> None:
        """Remove the lease, if no claim is held. Never fails."""
        with self._lock:
            if self._held or not self._has_lease:
                return
            self._has_lease = False
            self._ended.set()
        with contextlib.suppress(ObjectsError):
            self._objects.delete([names.lease(self._holder)])

    def _try(self, key: str) -> bool:
        """Claim `key`, unless a living holder has it."""
        own = json.dumps({"lease": self._holder, "host": socket.gethostname(), "process": os.getpid()}).encode()
        name = names.claim(key)
        found = self._objects.get(name)
        if found is None:
            self._freshen_lease()
            return self._objects.create(name, own)
        content, tag = found
        holder = _holder_of(content)
        if holder == self._holder:
            return True  # of an earlier run in this process, whose result is still being written
        if holder is not None and self._is_alive(holder):
            return False
        self._freshen_lease()
        return self._objects.replace(name, own, tag)

    def _is_alive(self, holder: str) -> bool:
        """Whether a holder has its lease, and has rewritten it lately, as far as this process knows."""
        lease = self._objects.head(names.lease(holder))
        if lease is None:
            return False  # it is written before the first claim, and removed after the last one
        now = self._timing.clock()
        with self._lock:
            watched = self._watched.get(holder)
            if watched is None or watched.tag != lease.tag:
                self._watched[holder] = _Watched(lease.tag, now)
                return True
            return now - watched.since < self._timing.expiry

    def _is_own(self, key: str) -> bool:
        found = self._objects.get(names.claim(key))
        return found is not None and _holder_of(found[0]) == self._holder

    # --- the lease

    def _freshen_lease(self) -> None:
        """Write the lease, unless that was done a moment ago."""
        with self._lock:
            is_fresh = self._has_lease and self._timing.clock() - self._last_beat < self._timing.beat
        if not is_fresh:
            self._beat()

    def _keep_lease(self) -> None:
        """Have a thread rewrite the lease as long as claims are held."""
        with self._lock:
            self._ended.clear()
            if not self._beating:
                self._beating = True
                lease = weakref.ref(self), self._ended, self._timing.beat
                threading.Thread(target=_keep_beating, args=lease, name="nodegraph-lease", daemon=True).start()

    def _beat(self) -> None:
        with self._lock:
            self._beats += 1
            content = json.dumps({"beat": self._beats, "host": socket.gethostname(), "process": os.getpid()}).encode()
        self._objects.put(names.lease(self._holder), content)
        self._has_lease, self._last_beat = True, self._timing.clock()

    def _keep_on(self) -> bool:
        """Write the lease once more. False if no claim is held any longer: then its thread ends."""
        with contextlib.suppress(ObjectsError):  # another machine may take over then, which does no harm
            self._beat()
        with self._lock:
            self._beating = bool(self._held)
            return self._beating

    def _stop_beating(self) -> None:
        with self._lock:
            self._beating = False


def _keep_beating(claims: weakref.ref[Claims], ended: threading.Event, seconds: float) -> None:
    """What the thread of a lease does; it ends with the claims, too."""
    while not ended.wait(seconds):
        found = claims()
        if found is None or not found._keep_on():
            return
        del found
    if (found := claims()) is not None:
        found._stop_beating()


def _holder_of(content: bytes) -> str | None:
    """The holder that a claim names; None if it is damaged."""
    try:
        holder = parse_json(content)["lease"]
    except (ValueError, KeyError, TypeError):
        return None
    return holder if isinstance(holder, str) and names.parse(names.lease(holder)) is not None else None
