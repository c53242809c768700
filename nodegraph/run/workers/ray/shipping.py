"""The files that workers need, such as models: each machine has them, or they are sent to it, before a run begins."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from nodegraph.cache.store.remote.sent_files import SentFiles
from nodegraph.errors import DeviceError, NodegraphError
from nodegraph.run.events import Event, Notice
from nodegraph.run.workers.ray.crew import Crew
from nodegraph.run.workers.ray.unit_files import HINT
from nodegraph.settings import written_size

_TICK: Final = 0.2  # seconds between two looks at whether the run is over


class Shipping:
    """Asks the machines of a crew for files, each once, and sends what they lack, if that `is_allowed`."""

    def __init__(self, crew: Crew, sent: SentFiles, *, is_allowed: bool, notify: Callable[[Event], None]) -> None:
        self._crew, self._sent, self._is_allowed, self._notify = crew, sent, is_allowed, notify
        self._asked: set[tuple[str, Path, str]] = set()
        self._lock = threading.Lock()  # runs ask one after another, so that none sends what another one is sending

    def require(self, files: Mapping[Path, str], check: Callable[[], None]) -> None:
        """Make sure that each machine has these files, or gets them when it needs them. `check` raises if the run is over.

        Raises DeviceError if one lacks a file and it may not or cannot be sent.
        """
        with self._lock:
            for path, (host, problem) in self._lacking(files, check).items():
                if not self._is_allowed:
                    raise DeviceError(f"[E305] the worker on {host} lacks {path}: {problem}. {HINT}")
                self._send(path, files[path])

    def _lacking(self, files: Mapping[Path, str], check: Callable[[], None]) -> dict[Path, tuple[str, str]]:
        """Those of the files that a machine lacks, with its name and what is there. Each machine is asked once for a file."""
        ray, actors = self._crew.cluster.ray, {actor.host: actor for actor in self._crew.actors if actor.is_ready}
        found: dict[Path, tuple[str, str]] = {}
        waiting: dict[Any, tuple[str, Mapping[Path, str]]] = {}
        for host, actor in actors.items():
            unasked = {path: digest for path, digest in files.items() if (host, path, digest) not in self._asked}
            if unasked:
                waiting[actor.handle.lacking.options(concurrency_group="aside").remote(unasked)] = host, unasked
        while waiting:
            done, _ = ray.wait([*waiting], timeout=_TICK)
            for ref in done:
                host, new = waiting.pop(ref)
                with contextlib.suppress(ray.exceptions.RayError):  # it has ended: its units say so, or run elsewhere
                    problems: Mapping[Path, str] = ray.get(ref)
                    found |= {path: (host, problem) for path, problem in problems.items()}
                    self._asked |= {(host, path, digest) for path, digest in new.items() if path not in problems}
            check()
        return found

    def _send(self, path: Path, digest: str) -> None:
        try:
            size = written_size(path.stat().st_size)
            self._notify(Notice(None, f"sending {path} ({size}) to the workers", is_waiting=True))
            self._sent.send(path, digest)
        except OSError as error:
            raise DeviceError(f"[E305] {path} cannot be sent to the workers: {error.strerror or error}") from error
        except NodegraphError as error:
            raise DeviceError(f"[E305] {path} cannot be sent to the workers: {error}") from error
