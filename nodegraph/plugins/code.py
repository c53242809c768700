"""The code of a plugin: its files, the modules outside installed distributions that they import, and a digest of them all.

The imports are read from the source, so modules that a node function imports later count, too.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from nodegraph.files import CLOCK_NS, FileState, file_states
from nodegraph.plugins.import_scan import ImportScan
from nodegraph.plugins.installed import (
    SUFFIXES,
    file_on_disk,
    has_archives,
    hidden_standard_modules,
    is_installed,
    is_installed_file,
    names_of_modules,
    sources_in_archive,
)
from nodegraph.plugins.libraries import python_version, versions_of_imported
from nodegraph.plugins.loads import Load

_NOT_CODE: Final = ("*.pyc", "*.pyo")
_TOOLS: Final = (".git", ".hg", ".svn", ".idea", ".vscode", ".venv", ".tox", ".nox", ".DS_Store")
_CACHES: Final = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
_NO_CODE: Final = frozenset((*_TOOLS, *_CACHES))
_WILDCARDS: Final = frozenset("*?[")
_SWAP_FILES: Final = ("swp", "swo", "swx", "#")  # hidden files of editors that are open
_ENGINE: Final = "nodegraph"  # has its own version in keys


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Code:
    """The code of a plugin as it was read: a digest, and the state of every file that matters.

    `files` are part of the digest. `libraries` are one file of each installed library that the code imports: if it changes, the
    library was installed again. `own` are the files of the plugin itself and of what it includes. `is_dynamic`: the code may import
    modules by computed names, which are not part of the digest. `is_release`: the version and the RECORD identify its own files,
    which are not in `files`.
    """

    digest: str
    files: Mapping[str, FileState | None]
    libraries: Mapping[str, FileState | None] = field(default_factory=dict)
    own: frozenset[str] = frozenset()
    is_dynamic: bool = False
    is_release: bool = False

    def changed_since(self, start_ns: int) -> bool:
        """Whether a file was changed between `start_ns` and now. A time in the future is no time of change: a person set it."""
        now_ns = time.time_ns()
        late = [state for state in self.files.values() if state is not None and max(state[3:]) >= start_ns]
        return any(start_ns <= time_ns <= now_ns for state in late for time_ns in (state.mtime_ns, state.ctime_ns))

    def unknown(self) -> Code:
        """The same files with a digest that no other code has: they changed during the import, so which code runs is unknown."""
        return replace(self, digest=os.urandom(32).hex())


def read_code(
    roots: Mapping[Path, str | None],
    excludes: Iterable[str] = (),
    *,
    imported_ns: int,
    importers: Mapping[str, Path] | None = None,
    loads: Iterable[Load] = (),
) -> Code:
    """The code of a plugin that consists of `roots`, files and folders, each with its name as a module, if it has one.

    All files below the roots count, without bytecode, caches, and names that match `excludes`; of other modules that they import,
    directly or indirectly, the files with code count; of installed libraries and Python, the versions. `imported_ns` is when the
    import of the plugin began: if another module was changed since, the code that runs is unknown. Of `importers`, Python files by
    names below their top-level folder, only what they import counts. `loads` are modules that were loaded while the plugin was
    imported: they count, however that happened. Raises OSError if a file cannot be read.
    """
    reader = _Reader(
        {*(name for name in roots.values() if name and "." not in name), *map(_top_level, importers or ())}, imported_ns
    )
    for root, module in roots.items():
        reader.add_root(root, module, _matcher((*_NOT_CODE, *excludes)))
    for importer in (importers or {}).values():
        reader.imports.add(_read(str(importer))[0], package=None)
    reader.add_imports()
    reader.add_loads(loads)
    return reader.code(is_release=bool(importers))


class _Reader:
    """Reads the code of one plugin. Modules of packages called one of `inside` are its own."""

    def __init__(self, inside: Iterable[str], imported_ns: int) -> None:
        self.imports = _Imports(inside)
        self._total = hashlib.sha256()
        self._files: dict[str, FileState | None] = {}
        self._own: frozenset[str] = frozenset()
        self._imported_ns, self._is_unknown = imported_ns, False

    def add_root(self, root: Path, module: str | None, is_excluded: Callable[[str], bool]) -> None:
        """Add the files of a package or module. Its relative imports leave it only if it is a part of a package."""
        folder, above = str(root.parent), module.rpartition(".")[0] if module is not None else ""
        for name in _file_names(root):
            if not is_excluded(name.rpartition("/")[2]):
                path = f"{folder}{os.sep}{name}"
                content, self._files[path] = _read(path)
                self._total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
                if name.endswith(".py"):
                    package = f"{above}.{name.rpartition('/')[0].replace('/', '.')}".strip(".") if above else None
                    self.imports.add(content, package=package)
        self._own = frozenset(self._files)

    def add_imports(self) -> None:
        """Add the modules that the code imports which was added so far, directly or indirectly."""
        for name, path, content, state in self.imports.modules():
            if path in self._files:
                continue
            digest = hashlib.sha256(content).hexdigest()
            self._total.update(f"{name}\0{digest}\n".encode())
            self._files[path] = state
            if name in sys.modules:
                is_first = _first_digests.setdefault(path, digest) == digest
                is_old = max(state.mtime_ns, state.ctime_ns) < self._imported_ns - CLOCK_NS
                self._is_unknown = self._is_unknown or not (is_first and is_old)

    def add_loads(self, loads: Iterable[Load]) -> None:
        """Add modules that were loaded in ways that are not in the source, and what these import."""
        for load in loads:
            if load.path not in self._files and load.stat is not None:
                try:
                    content, self._files[load.path] = _read(load.path)
                except OSError:  # it was removed
                    content, self._files[load.path] = b"", None
                self._total.update(f"{load.name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
                self._is_unknown = self._is_unknown or self._files[load.path] != load.state
                if load.path.endswith(".py"):
                    self.imports.add(content, package=load.name.rpartition(".")[0])
                    self.add_imports()

    def code(self, *, is_release: bool) -> Code:
        """What was read. The versions of what a release requires are in its own key."""
        is_dynamic = self.imports.is_dynamic()
        if is_dynamic:  # what a computed name finds depends on the folders with modules
            folders = [entry for entry in sys.path if not is_installed_file(f"{entry}{os.sep}_")]
            self._total.update("\0".join(folders).encode())
        if is_release and not self._files:
            return Code(digest=self._total.hexdigest(), files={}, is_dynamic=is_dynamic)
        libraries = self.imports.libraries
        self._total.update("\n".join([python_version(), *versions_of_imported(libraries)]).encode())
        code = Code(
            digest=self._total.hexdigest(),
            files=self._files,
            libraries=file_states(libraries),
            own=self._own,
            is_dynamic=is_dynamic,
        )
        return code.unknown() if self._is_unknown else code


def _top_level(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def _read(path: str) -> tuple[bytes, FileState]:
    """The content of a file and its state. This runs for each file of code at every start: it makes no path and file objects."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        stat = os.fstat(descriptor)
        content = os.read(descriptor, stat.st_size + 1)
        while more := os.read(descriptor, 1 << 20) if len(content) > stat.st_size else b"":
            content += more
    finally:
        os.close(descriptor)
    return content, FileState.from_stat(stat)


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A function that tells whether a name matches one of the patterns, as `fnmatch.fnmatch` does.

    Most patterns are a name or the ending of one. These are compared, as making regular expressions at every start is slow.
    """
    normal = [os.path.normcase(pattern) for pattern in patterns]
    names = {pattern for pattern in normal if _WILDCARDS.isdisjoint(pattern)}
    endings = tuple(pattern[1:] for pattern in normal if pattern[:1] == "*" and _WILDCARDS.isdisjoint(pattern[1:]))
    others = [pattern for pattern in normal if not (pattern in names or (pattern[:1] == "*" and pattern[1:] in endings))]

    def matches(name: str) -> bool:
        name = os.path.normcase(name)
        return name in names or name.endswith(endings) or any(fnmatch.fnmatchcase(name, pattern) for pattern in others)

    return matches


def file_states_below(root: Path) -> Mapping[Path, FileState | None]:
    """The current state of the file `root`, or of the files below this folder that are part of a plugin's code."""
    return file_states(root.parent / name for name in _file_names(root))


def _file_names(root: Path) -> list[str]:
    """The file `root`, or the files in this folder and below, without bytecode, and caches and hidden files of tools.

    The names are relative to the folder that contains `root`, with "/". Links to folders are followed, but not back into a folder
    that contains them. This runs at every start: it makes no path objects.
    """
    if root.is_file():
        return [root.name]
    folder, names, pending = str(root.parent), [], [(root.name, frozenset[str]())]
    while pending:
        parent, linked = pending.pop()
        with contextlib.suppress(PermissionError), os.scandir(f"{folder}/{parent}") as entries:
            for entry in entries:
                if entry.name in _NO_CODE or (entry.name.startswith(".") and entry.name.endswith(_SWAP_FILES)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{parent}/{entry.name}", linked))
                elif entry.is_file():
                    names.append(f"{parent}/{entry.name}")
                elif entry.is_symlink() and entry.is_dir():
                    target = os.path.realpath(entry.path)
                    above = os.path.realpath(f"{folder}/{parent}")
                    if target not in linked and not f"{above}/".startswith(f"{target}/"):
                        pending.append((f"{parent}/{entry.name}", linked | {target}))
    return sorted(names, key=lambda name: name.split("/"))


_first_digests: dict[str, str] = {}
"""The digest of each module outside of plugins when this process first saw it: later ones are not the code that runs."""


class _Imports:
    """The modules that code imports, found step by step. Modules of packages called one of `inside` are known already."""

    def __init__(self, inside: Iterable[str]) -> None:
        self.libraries: list[str] = []
        self._seen: set[str] = set()
        self._folders: dict[str, frozenset[str]] = {}
        self._tops: dict[str, importlib.machinery.ModuleSpec | None] = {}
        self._skipped = {*inside, _ENGINE, *(sys.stdlib_module_names - hidden_standard_modules()), *sys.builtin_module_names}
        self._scan = ImportScan(self._skipped)
        self._pending = self._scan.names
        self.add = self._scan.add

    def is_dynamic(self) -> bool:
        """Whether the code that was read so far may import modules by computed names."""
        return self._scan.is_dynamic

    def modules(self) -> Iterator[tuple[str, str, bytes, FileState]]:
        """Name, file, content and state of each module outside the standard library and installed distributions."""
        while self._pending:
            name = self._pending.pop()
            top = name.partition(".")[0]
            if name in self._seen or top in self._skipped:
                continue
            self._seen.add(name)
            for module, path, is_package in self._files_of(name):
                content, state = _read(str(path))
                if path.suffix == ".py":
                    self.add(content, package=module if is_package else module.rpartition(".")[0])
                elif not path.name.endswith(SUFFIXES):  # an archive
                    for source in sources_in_archive(path):
                        self.add(source, package=None)
                yield module, str(path), content, state

    def _files_of(self, name: str) -> Iterator[tuple[str, Path, bool]]:
        """The modules that importing `name` runs and that were not seen before: the packages above it, and itself."""
        parts = name.split(".")
        spec = self._top(parts[0])
        if spec is None:
            return
        locations = [Path(location) for location in spec.submodule_search_locations or ()]
        if spec.origin is not None and (parts[0] not in self._seen or len(parts) == 1):
            self._seen.add(parts[0])
            yield parts[0], Path(file_on_disk(spec.origin)), bool(locations)
        for count in range(2, len(parts) + 1):
            module = ".".join(parts[:count])
            if parts[count - 1] == "*":  # `from package import *` may import any submodule
                found_names = (names_of_modules(str(location)) for location in locations if location.is_dir())
                self._pending += [f"{module[:-1]}{name}" for names in found_names for name in sorted(names) if name.isidentifier()]
                return
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
            library = self._installed(name)
            if library is not None and name not in sys.stdlib_module_names:
                self.libraries.append(str(library))
                self._tops[name] = None
            else:
                self._tops[name] = self._find(name)
        return self._tops[name]

    def _installed(self, name: str) -> Path | None:
        """A file of the installed library that `import name` would find; None if it would find something else.

        Asking the import system takes longer, as it also looks for what is not there.
        """
        for entry in sys.path:
            if entry not in self._folders:
                with contextlib.suppress(OSError):
                    self._folders[entry] = names_of_modules(entry)
            if name in self._folders.get(entry, ()):
                path = Path(entry, f"{name}.py")
                path = path if path.is_file() else Path(entry, name, "__init__.py")
                return path if is_installed(path) and path.is_file() else None
        return None

    def _find(self, name: str) -> importlib.machinery.ModuleSpec | None:
        on_path = name in sys.modules or any(name in names for names in self._folders.values())
        try:
            spec = importlib.util.find_spec(name) if on_path else _from_other_finders(name)
        except (ImportError, ValueError, AttributeError):
            return None
        if spec is None:
            return None
        if spec.has_location and spec.origin is not None:
            if not is_installed(Path(spec.origin)):
                return spec
            if name not in sys.stdlib_module_names:
                self.libraries.append(spec.origin)
            return None
        folders = list(spec.submodule_search_locations or ())
        return spec if any(not is_installed(Path(folder)) for folder in folders) else None  # else built in, frozen or installed


def _from_other_finders(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module is that is in no folder of `sys.path`: editable installs and archives have finders of their own."""
    machinery = importlib.machinery
    usual = (machinery.BuiltinImporter, machinery.FrozenImporter)
    archives = has_archives()
    finders = (finder for finder in sys.meta_path if finder not in usual and (archives or finder is not machinery.PathFinder))
    specs = (finder.find_spec(name, None) for finder in finders if hasattr(finder, "find_spec"))
    return next((spec for spec in specs if spec is not None), None)


def _submodule(locations: Iterable[Path], name: str) -> tuple[Path | None, list[Path]] | None:
    """The file of a submodule and the folders of its own submodules; None if there is no such module."""
    for location in locations:
        folder = location / name
        for suffix in SUFFIXES:
            if (path := folder / f"__init__{suffix}").is_file():
                return path, [folder]
        for suffix in SUFFIXES:
            if (path := location / f"{name}{suffix}").is_file():
                return path, []
        if folder.is_dir():
            return None, [folder]
    return None
