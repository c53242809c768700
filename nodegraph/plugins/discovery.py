"""Finds plugins: through installed entry points, and as files or packages in folders that the user names.

Plugins are imported here, and a digest is taken of their code. One that cannot be imported is returned with the reason.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import secrets
import sys
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nodegraph.files import file_states
from nodegraph.plugins.registry import Origin

GROUP = "nodegraph"
INCLUDES = "__nodegraph_includes__"
"""An attribute of a plugin's module: more packages whose code is part of the plugin's digest."""
EXCLUDES = "__nodegraph_excludes__"
"""An attribute of a plugin's module: patterns of file names, such as "*.csv", that are not part of the plugin's digest."""

_DIGEST = "__nodegraph_digest__"  # of a module's code when this process first imported it
_NOT_CODE = ("*.pyc", "*.md")


@dataclass(frozen=True, kw_only=True)
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
        dist = point.dist
        place = f"{dist.name} {dist.version}" if dist else value
        try:
            hooks = point.load()
            digest = _digest_of(point.module) if dist is None or not _is_released(dist) else None
        except (Exception, SystemExit) as error:  # raised by the plugin's own code
            yield _unloadable(name, place, error)
            continue
        origin = Origin(name, dist.version if dist else "0", digest, f"{place}, editable" if dist and _is_editable(dist) else place)
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
        before = file_states(_files(root))
        module = _import_file(module_name, path)
        digest = tree_digest([root], getattr(module, EXCLUDES, ()))
        if file_states(_files(root)) != before:  # edited meanwhile: the code that runs is unknown
            digest = secrets.token_hex(32)
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
        for path in _files(root):
            if any(fnmatch(path.name, pattern) for pattern in patterns):
                continue
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{path.relative_to(root.parent).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _files(root: Path) -> list[Path]:
    """The file `root`, or the files in this folder and below, without hidden files and bytecode."""
    if root.is_file():
        return [root]
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        inside = path.relative_to(root).parts
        if not any(part == "__pycache__" or part.startswith(".") for part in inside):
            found.append(path)
    return found


def _digest_of(name: str) -> str:
    """The digest of the package that contains the module `name`, and of the packages that it includes.

    If the files changed after this process imported them, the code that runs is unknown: the digest is then a random one.
    """
    module = sys.modules[name]
    digest = tree_digest(_package_roots(name.partition(".")[0], module), getattr(module, EXCLUDES, ()))
    if module.__dict__.setdefault(_DIGEST, digest) == digest:
        return digest
    return secrets.token_hex(32)


def _package_roots(name: str, module: types.ModuleType) -> Iterator[Path]:
    for package in (name, *getattr(module, INCLUDES, ())):
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise ImportError(f"{INCLUDES} names '{package}', which is not installed")
        if spec.submodule_search_locations:
            yield from map(Path, spec.submodule_search_locations)
        elif spec.origin:
            yield Path(spec.origin)


def _is_released(dist: importlib.metadata.Distribution) -> bool:
    """Whether the version identifies the code, which it does not after an install from a folder or a repository (PEP 610)."""
    return not _direct_url(dist)


def _is_editable(dist: importlib.metadata.Distribution) -> bool:
    return bool(_direct_url(dist).get("dir_info", {}).get("editable"))


def _direct_url(dist: importlib.metadata.Distribution) -> Mapping[str, Any]:
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
