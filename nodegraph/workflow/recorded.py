"""Files that an output's metadata recorded: where to look for them, and what they must hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.portable import portable


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(kw_only=True)
class RecordedFiles:
    """The SHA-256 of the files that a workflow read when it made an output, by the text that names them and their names there.

    Relative paths are looked for in `places`, in order; `start` is the folder that they start from in the workflow. `digest`
    returns the SHA-256 of a file. Folders in `last` are tried at the end, and messages do not name them.
    """

    files: Mapping[str, Mapping[str, str]]
    places: Sequence[Path]
    start: Path
    last: Sequence[Path] = ()
    digest: Callable[[Path], str] = _hashed

    def expected(self, text: str, base: Path) -> Mapping[str, str] | None:
        """What the files must hold that `text` names, whose relative paths start from `base`; None if they were not recorded."""
        name = recorded_name(text, base, self.start)
        return self.files.get(name) or self.files.get(portable(name, self.start, self.start))

    def candidates(self, text: str, base: Path) -> list[tuple[str, Path]]:
        """What to look for, each text with the folder that it starts from: the same path in each place, or its last part."""
        inside = os.path.relpath(base, self.start) if base != self.start else ""
        names = [(text, place / inside) for place in (*self.places, *self.last)]
        name = PurePath(text).name
        return list(dict.fromkeys([*names, *((name, place) for place in self.places)])) if ":" not in text else names[:1]


def recorded_name(text: str, base: Path, start: Path) -> str:
    """The name under which files are recorded: the path from `start`, if `text` is a relative path that starts from elsewhere."""
    if base == start or ":" in text or text.startswith("~") or Path(text).is_absolute():
        return text
    try:
        return PurePath(os.path.relpath(base / text, start)).as_posix()
    except ValueError:  # NUL in the text; another drive
        return text
