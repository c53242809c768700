"""What `nodegraph doctor` looks at. Each check returns what it found; none changes anything but a temporary file in the cache."""

from __future__ import annotations

import contextlib
import locale
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from nodegraph.cache.store.layout import Layout
from nodegraph.errors import NodegraphError, SettingsError
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.backend import AUTO
from nodegraph.plugins.manager import Plugins
from nodegraph.run.device import resolve
from nodegraph.settings import files, load_settings, model_dirs, written_size

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor: what was looked at, whether it is well, what was found, and what to do about it."""

    subject: str
    state: State = "ok"
    found: str
    advice: str = ""


def findings(plugins: Callable[[], Plugins]) -> Iterator[Finding]:
    """All findings about this installation and machine."""
    yield _program()
    yield from _settings()
    yield _text()
    yield from _cache()
    yield from _models()
    try:
        loaded = plugins()
    except NodegraphError as error:
        yield Finding(subject="plugins", state="problem", found=str(error))
        return
    yield from _plugins(loaded)
    yield _machine(loaded)


def _program() -> Finding:
    package = Path(sys.modules["nodegraph"].__file__ or "").parent
    return Finding(
        subject="nodegraph", found=f"{version('nodegraph')} in {package}, Python {platform.python_version()} on {platform.system()}"
    )


def _settings() -> Iterator[Finding]:
    for subject, find in (("project", files.project_file), ("your settings", files.user_file)):
        try:
            file = find()
        except SettingsError as error:
            yield Finding(subject=subject, state="problem", found=str(error))
            continue
        yield Finding(subject=subject, found=str(file) if file is not None and file.exists() else "no file")


def _text() -> Finding:
    encoding, output = locale.getencoding(), getattr(sys.stdout, "encoding", None) or "none"
    narrow = [name for name in (encoding, output) if name.lower().replace("-", "") != "utf8"]
    if not narrow:
        return Finding(subject="text", found="UTF-8")
    return Finding(
        subject="text",
        state="note",
        found=f"files are read as {encoding}, output is written as {output}",
        advice="Characters that these lack are shown as escapes. Set LANG=C.UTF-8, or PYTHONUTF8=1.",
    )


def _cache() -> Iterator[Finding]:
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding(subject="cache", state="problem", found=str(error))
        return
    layout = Layout(settings.cache_dir)
    limit = "no limit" if settings.cache_size is None else f"at most {written_size(settings.cache_size)}"
    if not layout.directory.exists():
        yield Finding(subject="cache", found=f"{layout.directory}, {limit}; it is made by the first run")
    elif not layout.is_cache():
        yield Finding(
            subject="cache",
            state="note" if not any(layout.directory.iterdir()) else "problem",
            found=f"{layout.directory} is a folder, but no cache of nodegraph",
            advice="Name an empty or a new folder.",
        )
    elif (problem := _writing(layout)) is not None:
        yield Finding(
            subject="cache",
            state="problem",
            found=f"{layout.directory} cannot be written: {problem}",
            advice="Nothing is kept between runs. Make room, change its permissions, or name another folder with --cache-dir.",
        )
    else:
        yield Finding(subject="cache", found=f"{layout.directory}, {limit}")
    if layout.is_open_to_others():
        yield Finding(
            subject="cache",
            state="problem",
            found=f"every user of this machine may change the results in {layout.directory}",
            advice=f"chmod o-w {layout.directory}",
        )
    yield from _room(layout.directory, settings.cache_size)


def _writing(layout: Layout) -> str | None:
    """Why no file can be written to the cache, or None."""
    file = layout.temporary(".doctor")
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"doctor")
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
    return None


def _room(directory: Path, limit: int | None) -> Iterator[Finding]:
    existing = next((folder for folder in (directory, *directory.parents) if folder.exists()), None)
    if existing is None:
        return
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        yield Finding(subject="disk", state="note", found=f"the free space of {existing} is not known: {error}")
        return
    tight = free < _LITTLE_ROOM
    yield Finding(
        subject="disk",
        state="note" if tight else "ok",
        found=f"{written_size(free)} free for the cache",
        advice="'nodegraph cache gc --size 1GB' removes the least recently used results." if tight else "",
    )


_LITTLE_ROOM: Final = 10**9


def _models() -> Iterator[Finding]:
    try:
        folders = model_dirs()
    except SettingsError as error:
        yield Finding(subject="models", state="problem", found=str(error))
        return
    for folder in folders:
        if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir():
            yield Finding(subject="models", found=str(folder))
        else:
            yield Finding(
                subject="models",
                state="problem",
                found=f"there is no folder {folder} that can be read",
                advice="Correct [models] dirs: 'nodegraph config' shows where it is set.",
            )


def _plugins(plugins: Plugins) -> Iterator[Finding]:
    sound = [plugin.name for plugin in plugins.loaded if not plugin.error]
    yield Finding(subject="plugins", found=", ".join(sound) or "none")
    for plugin in plugins.loaded:
        if plugin.error:
            yield Finding(
                subject="plugins",
                state="problem",
                found=f"'{plugin.name}' cannot be loaded ({plugin.place}): {plugin.error}",
                advice=plugin.advice,
            )


def _machine(plugins: Plugins) -> Finding:
    try:
        numerics = resolve(plugins.backend, AUTO, AUTO)
    except NodegraphError as error:
        return Finding(subject="machine", state="problem", found=str(error))
    return Finding(
        subject="machine", found=f"computes on {numerics.device} in {numerics.dtype} ({numerics.name}; {os.cpu_count()} processors)"
    )


def worst(found: Sequence[Finding]) -> State:
    """The worst state among findings."""
    states = {finding.state for finding in found}
    return "problem" if "problem" in states else "note" if "note" in states else "ok"
