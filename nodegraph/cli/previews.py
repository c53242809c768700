"""Pictures of what runs, as files that an image viewer shows and shows again when they change."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodegraph.errors import OutputError, SettingsError
from nodegraph.files import write_whole
from nodegraph.plugins.codecs import Codecs
from nodegraph.plugins.manager import Plugins
from nodegraph.run import events
from nodegraph.run.outputs import numbers, safe_name

Decoder = Callable[[Callable[[], Any]], Any]

_PAUSE = 0.5  # seconds from a node's preview to its next, at least
_SHARE = 4  # and as many times what the preview took


class PreviewFiles:
    """Writes the previews of each running node below `folder`, as `{workflow}-{node}` with the extension of its kind.

    A file is replaced as a whole, twice a second at most, and once more at the node's last step. Previews take at most a
    fifth of the time; where one fails, `say` tells why, and the node goes on without. With a `decoder`, it makes them.
    """

    def __init__(self, folder: Path, codecs: Codecs, say: Callable[[events.Event], None], decoder: Decoder | None = None) -> None:
        self._folder, self._codecs, self._say, self._decoder = folder, codecs, say, decoder
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
        except Exception as error:  # of a plugin, or of the disk: no reason to lose what is computed
            self._due[node] = float("inf")
            self._say(events.Notice(node, f"no preview: {' '.join(str(error).split()) or type(error).__name__}"))
            return
        ended = time.monotonic()
        self._due[node] = ended + max(_PAUSE, _SHARE * (ended - began))
        if first:
            self._say(events.Notice(node, f"its preview is {path}"))

    def _value(self, node: str, preview: Callable[[], Any]) -> Any:
        if self._decoder is not None and node not in self._plain:
            try:
                return self._decoder(preview)
            except ValueError as error:
                self._plain.add(node)
                self._say(events.Notice(node, f"the preview decoder is not used: {error}"))
        return preview()

    def _write(self, node: str, value: Any) -> Path:
        """The file, or of several the first."""
        codec = self._codecs.for_type(type(value))
        if codec is None:
            raise TypeError(f"{type(value).__name__} cannot be written to a file")
        name = f"{safe_name(self._workflow)}-{safe_name(node)}"
        files = codec.export(value)
        paths = [self._folder / f"{name}{number}{codec.extension}" for number in numbers(len(files))]
        for path, data in zip(paths, files, strict=True):
            write_whole(path, data)
        return paths[0]


def find_decoder(plugins: Plugins, path: Path | None) -> Decoder | None:
    """What a plugin makes of the file that the user names. Raises SettingsError where none can use it."""
    if path is None:
        return None
    try:
        decoder: Decoder | None = plugins.manager.hook.load_preview_decoder(path=path.expanduser())
    except ValueError as error:
        raise SettingsError(f"[E401] the preview decoder cannot be used: {error}") from error
    if decoder is None:
        raise SettingsError(f"[E401] the preview decoder {path} cannot be used: no plugin knows of such. Leave it out")
    return decoder
