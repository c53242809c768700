"""The code of a plugin: its files, the modules outside installed distributions that they import, and a digest of them all.

The imports are read from the source, so modules that a node function imports later count, too. Names are read with a regular
expression, which also finds imports in text; that can only add a module that is not needed.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

from nodegraph.files import FileState, file_states

_NOT_CODE: Final = ("*.pyc", "*.pyo")
_SUFFIXES: Final = tuple(importlib.machinery.all_suffixes())
_ENGINE: Final = "nodegraph"  # has its own version in keys
_IMPORT: Final = re.compile(rb"import[ \t]*(\([^)]*\)|(?:\\\r?\n|[^\r\n;#])*)")  # begins with a letter, which makes it fast
_FROM: Final = re.compile(rb"from[ \t]*(\.*[ \t]*[\w.]*)[ \t]*(?:\\\r?\n[ \t]*)?")
CLOCK_NS: Final = 4_000_000  # by which the times of files may be behind the clock
_LONGEST_FROM: Final = 300  # bytes before the word import
_NAME: Final = re.compile(rb"([\w.]+)(?:[ \t]+as[ \t]+\w+)?")


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code of a plugin as it was read: a digest, and the state of every file that matters.

    `files` are part of the digest. `libraries` are one file of each installed library that the code imports: if it changes, the
    library was installed again.
    """

    digest: str
    files: Mapping[Path, FileState | None]
    libraries: Mapping[Path, FileState | None] = field(default_factory=dict)

    def changed(self) -> list[Path]:
        """The files that are no longer as they were read."""
        before = {**self.files, **self.libraries}
        now = file_states(before)
        return [path for path, state in before.items() if now[path] != state]

    def unknown(self) -> Code:
        """The same files with a digest that no other code has: they changed during the import, so which code runs is unknown."""
        return replace(self, digest=os.urandom(32).hex())


def read_code(roots: Sequence[Path], excludes: Iterable[str] = (), *, imported_ns: int) -> Code:
    """The code of a plugin that consists of `roots`, files and folders.

    All files below the roots count, without hidden files, bytecode, and names that match `excludes`; of other modules that they
    import, directly or indirectly, the files with code count. `imported_ns` is when the import of the plugin began: if another
    module was changed since, the code that runs is unknown. Raises OSError if a file cannot be read.
    """
    total = hashlib.sha256()
    names = {root.stem if root.is_file() else root.name for root in roots}
    files: list[Path] = []
    is_unknown = False
    imports = _Imports(names)
    for root in roots:
        below = _file_names(root)
        last_parts = {name.rpartition("/")[2] for name in below}
        excluded = {part for pattern in (*_NOT_CODE, *excludes) for part in fnmatch.filter(last_parts, pattern)}
        for name in below:
            if name.rpartition("/")[2] not in excluded:
                path = root.parent / name
                content = path.read_bytes()
                total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
                files.append(path)
                if name.endswith(".py"):
                    imports.add(content, package=None)
    for name, path, content in imports.modules():
        digest = hashlib.sha256(content).hexdigest()
        total.update(f"{name}\0{digest}\n".encode())
        files.append(path)
        if name in sys.modules:
            same = _first_digests.setdefault(path, digest) == digest
            is_unknown = is_unknown or not same or _changed_since(path, imported_ns)
    code = Code(digest=total.hexdigest(), files=file_states(files), libraries=file_states(imports.libraries))
    return code.unknown() if is_unknown else code


def _changed_since(path: Path, time_ns: int) -> bool:
    """Whether a file was changed after `time_ns`, as far as its times can tell."""
    try:
        state = FileState.of(path)
    except OSError:
        return True
    return max(state.mtime_ns, state.ctime_ns) >= time_ns - CLOCK_NS


def file_states_below(root: Path) -> Mapping[Path, FileState | None]:
    """The current state of the file `root`, or of the files below this folder, without hidden files and bytecode."""
    return file_states(root.parent / name for name in _file_names(root))


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


_first_digests: dict[Path, str] = {}
"""The digest of each module outside of plugins when this process first saw it: later ones are not the code that runs."""


class _Imports:
    """The modules that code imports, found step by step. Modules of packages called one of `inside` are known already."""

    def __init__(self, inside: Iterable[str]) -> None:
        self.libraries: list[Path] = []
        self._pending: list[str] = []
        self._seen: set[str] = set()
        self._known_statements: set[bytes] = set()
        self._tops: dict[str, importlib.machinery.ModuleSpec | None] = {}
        self._skipped = {*inside, _ENGINE, *sys.stdlib_module_names, *sys.builtin_module_names}

    def add(self, source: bytes, *, package: str | None) -> None:
        """Note what `source` imports. `package` is the package of its module; None: relative imports stay inside the plugin."""
        for match in _IMPORT.finditer(source):
            start = match.start()
            clause = source.rfind(b"from", max(0, start - _LONGEST_FROM), start)
            origin = _FROM.fullmatch(source, clause, start) if clause >= 0 else None
            statement = source[start if origin is None else clause : match.end()]
            if statement in self._known_statements:  # most are in many modules
                continue
            if not _begins_statement(source, start if origin is None else clause):
                continue
            if origin is None or not origin[1].startswith(b"."):
                self._known_statements.add(statement)
            names = [name[1].decode() for name in _NAME.finditer(match[1].strip(b"()"))]
            if origin is None:
                self._pending += names
                continue
            base = _absolute(origin[1].decode().replace(" ", ""), package)
            if base is not None and base.partition(".")[0] not in self._skipped:
                self._pending += [base, *(f"{base}.{name}" for name in names)]

    def modules(self) -> Iterator[tuple[str, Path, bytes]]:
        """Name, file and content of each module outside the standard library and installed distributions."""
        while self._pending:
            name = self._pending.pop()
            top = name.partition(".")[0]
            if name in self._seen or top in self._skipped:
                continue
            self._seen.add(name)
            for module, path, is_package in self._files_of(name):
                content = path.read_bytes()
                if path.suffix == ".py":
                    self.add(content, package=module if is_package else module.rpartition(".")[0])
                yield module, path, content

    def _files_of(self, name: str) -> Iterator[tuple[str, Path, bool]]:
        """The modules that importing `name` runs and that were not seen before: the packages above it, and itself."""
        parts = name.split(".")
        spec = self._top(parts[0])
        if spec is None:
            return
        locations = [Path(location) for location in spec.submodule_search_locations or ()]
        if spec.origin is not None and (parts[0] not in self._seen or len(parts) == 1):
            self._seen.add(parts[0])
            yield parts[0], Path(spec.origin), bool(locations)
        for count in range(2, len(parts) + 1):
            module = ".".join(parts[:count])
            found = _submodule(locations, parts[count - 1])
            if found is None:
                return
            path, locations = found
            if path is not None and (module not in self._seen or module == name):
                self._seen.add(module)
                yield module, path, bool(locations)

    def _top(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """Where a top-level module is, unless it belongs to an installed distribution or is not there."""
        if name not in self._tops:
            try:
                spec = importlib.util.find_spec(name)
            except (ImportError, ValueError, AttributeError):
                spec = None
            self._tops[name] = spec
            origin = None if spec is None else spec.origin if spec.has_location else None
            if origin is not None and is_installed(Path(origin)):
                self.libraries.append(Path(origin))
                self._tops[name] = None
            elif spec is not None and origin is None and not spec.submodule_search_locations:
                self._tops[name] = None  # built in, or frozen
            elif spec is not None and origin is None and all(is_installed(Path(p)) for p in spec.submodule_search_locations or ()):
                self._tops[name] = None
        return self._tops[name]


def _begins_statement(source: bytes, start: int) -> bool:
    """Whether a statement can begin at `start`: at the beginning of a line, or behind a colon or semicolon."""
    before = source[source.rfind(b"\n", 0, start) + 1 : start].rstrip(b" \t")
    return not before or before[-1:] in (b":", b";")


def _absolute(origin: str, package: str | None) -> str | None:
    """The absolute name of the module in `from origin import ...`; None for a relative import of the plugin's own."""
    relative = len(origin) - len(origin.lstrip("."))
    if not relative:
        return origin
    if package is None:
        return None
    parts = package.split(".")
    parents = parts[: len(parts) - relative + 1]
    return ".".join([*parents, *filter(None, [origin.lstrip(".")])]) if parents else None


def _submodule(locations: Iterable[Path], name: str) -> tuple[Path | None, list[Path]] | None:
    """The file of a submodule and the folders of its own submodules; None if there is no such module."""
    for location in locations:
        folder = location / name
        for suffix in _SUFFIXES:
            if (path := folder / f"__init__{suffix}").is_file():
                return path, [folder]
        for suffix in _SUFFIXES:
            if (path := location / f"{name}{suffix}").is_file():
                return path, []
        if folder.is_dir():
            return None, [folder]
    return None


def is_installed(path: Path) -> bool:
    """Whether a file or folder belongs to the standard library or to an installed distribution, by its place."""
    return any(path.is_relative_to(folder) for folder in _installed_folders()) or not {"site-packages", "dist-packages"}.isdisjoint(
        path.parts
    )


@cache
def _installed_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(
        {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {Path(p) for p in site.getsitepackages()}
    )
