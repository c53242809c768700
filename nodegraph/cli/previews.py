"""Previews of running nodes, as files that a viewer shows and reloads when they change."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodegraph.errors import OutputError
from nodegraph.files import write_whole
from nodegraph.plugins.backend import Renderer
from nodegraph.plugins.codecs import Codecs
from nodegraph.run import events
from nodegraph.run.outputs.names import numbers
from nodegraph.text import as_file_name

_PAUSE = 0.5  # seconds from a node's preview to its next, at least
_SHARE = 4  # and as many times what the preview took


class PreviewFiles:
    """Writes the previews of each running node below `folder`, as `{workflow}-{node}` with the extension of its codec.

    A file is replaced as a whole, at most twice a second, and once more at the node's last step. Previews take at most a fifth of
    the time. If one fails, `notify` receives the reason, and the node runs on without previews. `renderer`, if there is one, makes
    the values to write.
    """

    def __init__(
        self, folder: Path, codecs: Codecs, notify: Callable[[events.Event], None], renderer: Renderer | None = None
    ) -> None:
        self._folder, self._codecs, self._notify, self._renderer = folder, codecs, notify, renderer
        self._workflow = ""
        self._due: dict[str, float] = {}
        self._plain: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"[E211] cannot write to {folder}: {reason}. Name another folder with --preview") from error

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._workflow = event.plan.graph.workflow
            case events.NodeStarted():
                self._due.pop(event.node, None)
            case events.NodeProgress() if event.preview is not None and self._is_due(event):
                self._show(event.node, event.preview)

    def _is_due(self, event: events.NodeProgress) -> bool:
        due = self._due.get(event.node, 0.0)
        return time.monotonic() >= due or (event.step == event.steps and due != float("inf"))

    def _show(self, node: str, preview: Callable[[], Any]) -> None:
        began = time.monotonic()
        first = node not in self._due
        try:
            path = self._write(node, self._value(node, preview))
        except Exception as error:  # from a plugin or the disk; the run must not fail because of it
            self._due[node] = float("inf")
            self._notify(events.Notice(node, f"no preview: {' '.join(str(error).split()) or type(error).__name__}"))
            return
        ended = time.monotonic()
        self._due[node] = ended + max(_PAUSE, _SHARE * (ended - began))
        if first:
            self._notify(events.Notice(node, f"its preview is {path}"))

    def _value(self, node: str, preview: Callable[[], Any]) -> Any:
        if self._renderer is not None and node not in self._plain:
            try:
                return self._renderer(preview)
            except ValueError as error:
                self._plain.add(node)
                self._notify(events.Notice(node, str(error)))
        return preview()

    def _write(self, node: str, value: Any) -> Path:
        """Write the files of a value; returns the first path."""
        codec = self._codecs.for_type(type(value))
        if codec is None:
            raise TypeError(f"{type(value).__name__} cannot be written to a file")
        name = f"{as_file_name(self._workflow)}-{as_file_name(node)}"
        files = codec.export(value)
        paths = [self._folder / f"{name}{number}{codec.extension}" for number in numbers(len(files))]
        for path, data in zip(paths, files, strict=True):
            write_whole(path, data)
        return paths[0]
