"""Finds plugins: through installed entry points, and as files or packages in folders that the user names.

Plugins are imported here, and a digest is taken of their code. One that cannot be imported is returned with the reason.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodegraph.files import FileState, file_states
from nodegraph.plugins.registry import Origin

GROUP = "nodegraph"
INCLUDES = "__nodegraph_includes__"
"""An attribute of a plugin's module: more packages whose code is part of the plugin's digest."""
EXCLUDES = "__nodegraph_excludes__"
"""An attribute of a plugin's module: patterns of file names, such as "*.csv", that are not part of the plugin's digest."""

_DIGEST = "__nodegraph_digest__"  # of a module's code when this process first imported it
_NOT_CODE = ("*.pyc", "*.md")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedPlugin:
    """A plugin that was found: where, how long its import took, and why it cannot be used, if so.

    `fatal`: it clashes with another plugin or registers something unusable, so nothing may run until it is fixed. `module`
    implements the hooks: a module, or the object that the entry point names.
    """

    name: str
    place: str
    origin: Origin | None = None
    seconds: float = 0.0
    error: str | None = None
    fatal: bool = False
    module: Any = None

    @property
    def package(self) -> str:
        """The name of the top-level package or module that contains its code."""
        name: str = self.module.__name__ if isinstance(self.module, types.ModuleType) else type(self.module).__module__
        return name.partition(".")[0]


def find_plugins(folders: Sequence[Path | str]) -> Iterator[LoadedPlugin]:
    """Find the plugins of the installed entry points, then those in `folders`."""
    yield from _from_entry_points()
    for folder in dict.fromkeys(map(_resolved, folders)):
        yield from _from_folder(folder)


def _resolved(folder: Path | str) -> Path:
    try:
        return Path(folder).expanduser().resolve()
    except RuntimeError:  # an unknown home folder; reading it will fail
        return Path(folder).resolve()


def _from_entry_points() -> Iterator[LoadedPlugin]:
    points = {point.value: point for point in importlib.metadata.entry_points(group=GROUP)}
    for value, point in sorted(points.items()):
        started = time.perf_counter()
        name = ".".join(filter(None, (point.module.removesuffix(".plugin"), point.attr)))
        metadata = point.dist.metadata if point.dist else None  # reading it is slow
        version = metadata["Version"] if metadata else "0"
        place = f"{metadata['Name']} {version}" if metadata else value
        url = _direct_url(point.dist) if point.dist else {}
        try:
            hooks = point.load()
            # the version identifies the code, but not after an install from a folder or a repository (PEP 610)
            digest = _digest_of(point.module) if metadata is None or url else None
        except (Exception, SystemExit) as error:  # raised by the plugin's own code
            yield _unloadable(name, place, error)
            continue
        editable = url.get("dir_info", {}).get("editable")
        origin = Origin(name, version, digest, f"{place}, editable" if editable else place)
        yield _loaded(origin, hooks, started)


def _from_folder(folder: Path) -> Iterator[LoadedPlugin]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        message = f"[E304] plugin folder {folder} cannot be read: {error.strerror}. Name a folder that holds .py files or packages"
        yield LoadedPlugin(name=folder.name, place=str(folder), error=message, fatal=True)
        return
    for path in paths:
        if path.name.startswith(("_", ".")):
            continue
        if path.suffix == ".py" and path.is_file():
            yield _load_file(path.stem, path, path)
        elif (path / "__init__.py").is_file():
            yield _load_file(path.name, path / "__init__.py", path)


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source each time: Python compares bytecode with its source by the second, which misses a quick edit."""

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError("no bytecode")


def _load_file(name: str, path: Path, root: Path) -> LoadedPlugin:
    """Import `path`: the file `root`, or the `__init__.py` of the package `root`. Its name cannot hide an installed module."""
    started = time.perf_counter()
    module_name = f"nodegraph_plugin_{name}_{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    for loaded in [m for m in sys.modules if m == module_name or m.startswith(f"{module_name}.")]:
        del sys.modules[loaded]  # an earlier state of this plugin
    try:
        before = _states(root)
        module = _import_file(module_name, path)
        digest = tree_digest([root], getattr(module, EXCLUDES, ()))
        if _states(root) != before:  # edited meanwhile: the code that runs is unknown
            digest = os.urandom(32).hex()
    except (Exception, SystemExit) as error:  # raised by the plugin's own code
        sys.modules.pop(module_name, None)
        return _unloadable(name, str(root), error)
    origin = Origin(name, str(getattr(module, "__version__", "0")), digest, str(root))
    return _loaded(origin, module, started)


def _import_file(name: str, path: Path) -> types.ModuleType:
    search = [str(path.parent)] if path.name == "__init__.py" else None
    loader = _FreshLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader, submodule_search_locations=search)
    assert spec is not None  # a loader was given
    importlib.invalidate_caches()
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def tree_digest(roots: Iterable[Path], excludes: Iterable[str] = ()) -> str:
    """SHA-256 over the names and contents of `roots`, files and folders, without hidden files and names that match `excludes`."""
    patterns = (*_NOT_CODE, *excludes)
    total = hashlib.sha256()
    for root in roots:
        names = _file_names(root)
        last_parts = {name.rpartition("/")[2] for name in names}
        excluded = {part for pattern in patterns for part in fnmatch.filter(last_parts, pattern)}
        for name in names:
            if name.rpartition("/")[2] not in excluded:
                content = hashlib.sha256((root.parent / name).read_bytes()).hexdigest()
                total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()


def _file_names(root: Path) -> list[str]:
    """The file `root`, or the files in this folder and below, without hidden files and bytecode.

    The names are relative to the folder that contains `root`, with "/". This runs at every start: it makes no path objects.
    """
    if root.is_file():
        return [root.name]
    folder, names, pending = str(root.parent), [], [root.name]
    while pending:
        parent = pending.pop()
        with contextlib.suppress(PermissionError), os.scandir(f"{folder}/{parent}") as entries:
            for entry in entries:
                if entry.name == "__pycache__" or entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{parent}/{entry.name}")
                elif entry.is_file():
                    names.append(f"{parent}/{entry.name}")
    return sorted(names, key=lambda name: name.split("/"))


def _states(root: Path) -> Mapping[Path, FileState | None]:
    return file_states(root.parent / name for name in _file_names(root))


def _digest_of(name: str) -> str:
    """The digest of the package that contains the module `name`, and of the packages that it includes.

    If the files changed after this process imported them, the code that runs is unknown: the digest is then a random one.
    """
    module = sys.modules[name]
    digest = tree_digest(_package_roots(name.partition(".")[0], module), getattr(module, EXCLUDES, ()))
    if module.__dict__.setdefault(_DIGEST, digest) == digest:
        return digest
    return os.urandom(32).hex()


def _package_roots(name: str, module: types.ModuleType) -> Iterator[Path]:
    for package in (name, *getattr(module, INCLUDES, ())):
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise ImportError(f"{INCLUDES} names '{package}', which is not installed")
        if spec.submodule_search_locations:
            yield from map(Path, spec.submodule_search_locations)
        elif spec.origin:
            yield Path(spec.origin)


def _direct_url(dist: importlib.metadata.Distribution) -> Mapping[str, Any]:
    """Where a distribution was installed from, if not from a package index; empty for a released one."""
    try:
        text = dist.read_text("direct_url.json")
        url = json.loads(text) if text else {}
    except (OSError, ValueError):
        return {}
    return url if isinstance(url, dict) else {}


def _loaded(origin: Origin, module: Any, started: float) -> LoadedPlugin:
    seconds = time.perf_counter() - started
    return LoadedPlugin(name=origin.plugin, place=origin.place, origin=origin, seconds=seconds, module=module)


def _unloadable(name: str, place: str, error: BaseException) -> LoadedPlugin:
    message = f"[E304] plugin '{name}' ({place}) cannot be loaded: {describe_error(error)}"
    return LoadedPlugin(name=name, place=place, error=message)


def describe_error(error: BaseException) -> str:
    """The message of an exception from a plugin's code, with the file and line that raised it if they are known."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.msg} ({error.filename}:{error.lineno}:{error.offset})"
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    location = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame is not None else ""
    return f"{type(error).__name__}: {error}{location}"
