"""The code of a plugin: its files, the modules outside installed distributions that they import, and a digest of them all.

The imports are read from the source, so modules that a node function imports later count, too.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from nodegraph.files import CLOCK_NS, FileState, file_states
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.code.code_files import CodeFile, CodeFiles
from nodegraph.plugins.code.imports import SCRIPT, Imports
from nodegraph.plugins.code.installed import is_installed_file
from nodegraph.plugins.code.libraries import python_version, versions_of_imported
from nodegraph.plugins.code.loads import LOADS, Load, has_read, import_times, loaded_files

_NOT_CODE: Final = ("*.pyc", "*.pyo")
_TOOLS: Final = (".git", ".hg", ".svn", ".idea", ".vscode", ".venv", ".tox", ".nox", ".DS_Store")
_CACHES: Final = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
_NO_CODE: Final = frozenset((*_TOOLS, *_CACHES))
_WILDCARDS: Final = frozenset("*?[")
_SWAP_FILES: Final = ("swp", "swo", "swx", "#")  # hidden files of editors that are open


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Code:
    """The code of a plugin as it was read: a digest, and the state of every file that matters.

    `files` are part of the digest. `libraries` are one file of each installed library that the code imports: if it changes, the
    library was installed again. `names` are those of modules outside the standard library that it imports, whether or not they were
    found. `packages` are the folders of packages outside of the plugin that it imports. `is_dynamic`: the
    code may import modules by computed names, which are not part of the digest. `is_release`: the version and the RECORD identify
    its own files, which are not in `files`. `changed` is a file that was changed after this process had loaded it, or while it did,
    if there is one: which code runs is unknown; so it is if the code imports `__main__` (`SCRIPT`) and the program is in no file.
    `position` is that in `LOADS` when it was read.
    """

    digest: str
    files: Mapping[str, FileState | None]
    libraries: Mapping[str, FileState | None] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    is_dynamic: bool = False
    is_release: bool = False
    changed: str | None = None
    position: int = 0

    def __repr__(self) -> str:
        changed = f", {self.changed} was changed" if self.changed is not None else ""
        return f"<Code {self.digest[:12]}: {len(self.files)} files{changed}>"

    def changed_since(self, start_ns: int) -> str | None:
        """A file that was changed between `start_ns` and now."""
        states = self.files.items()
        return next((path for path, state in states if state is not None and state.changed_since(start_ns)), None)

    def unknown(self, changed: str) -> Code:
        """The same files with a digest that no other code has, as the file `changed` is not what was loaded."""
        return replace(self, digest=os.urandom(32).hex(), changed=changed)


def read_code(
    roots: Mapping[Path, str | None],
    excludes: Iterable[str] = (),
    *,
    importers: Mapping[str, Path] | None = None,
    loads: Iterable[Load] = (),
    files: CodeFiles | None = None,
) -> Code:
    """The code of a plugin that consists of `roots`, files and folders, each with its name as a module, if it has one.

    All files below the roots count, without bytecode, caches, and names that match `excludes`; of other modules that they import,
    directly or indirectly, the files with code count; of installed libraries and Python, the versions. Of `importers`, Python files
    by names below their top-level folder, only what they import counts. `loads` are modules that were loaded while the plugin was
    imported: they count, however that happened. If a module was loaded and its file was changed since, the code that runs is
    unknown. `files` has those that were read for other plugins. Raises OSError if a file cannot be read.
    """
    inside = {*(name for name in roots.values() if name and "." not in name), *map(_top_level, importers or ())}
    reader = _Reader(inside, files or CodeFiles())
    for root, module in roots.items():
        reader.add_root(root, module, matcher((*_NOT_CODE, *excludes)))
    for importer in (importers or {}).values():
        reader.add_importer(importer)
    reader.add_imports()
    reader.add_loads(loads)
    return reader.code(is_release=bool(importers))


class _Reader:
    """Reads the code of one plugin. Modules of packages called one of `inside` are its own."""

    def __init__(self, inside: Iterable[str], files: CodeFiles) -> None:
        self.imports = Imports(inside, files)
        self._read = files.read
        self._total = hashlib.sha256()
        self._files: dict[str, FileState | None] = {}
        self._packages: set[str] = set()
        self._changed: str | None = None  # a file that is not what was loaded

    def add_root(self, root: Path, module: str | None, is_excluded: Callable[[str], bool]) -> None:
        """Add the files of a package or module. Its relative imports leave it only if it is a part of a package."""
        folder, above = str(root.parent), module.rpartition(".")[0] if module is not None else ""
        loaded_ns = import_times.earliest(module) if module is not None and module in sys.modules else sys.maxsize
        loaded = loaded_files(module)
        sources: list[tuple[CodeFile, str | None]] = []
        for name in file_names(root):
            if not is_excluded(name.rpartition("/")[2]):
                path = f"{folder}{os.sep}{name}"
                file = self._read(path)
                self._files[path] = file.state
                self._total.update(f"{name}\0{file.digest}\n".encode())
                if path in loaded:
                    self._compare(loaded[path], path, file)
                elif not name.endswith(".py") and file.state.changed_since(loaded_ns - CLOCK_NS):  # it may have been read before
                    self._changed = path
                if name.endswith(".py"):
                    package = f"{above}.{name.rpartition('/')[0].replace('/', '.')}".strip(".") if above else None
                    sources.append((file, package))
        self.imports.add_all(sources)

    def add_importer(self, path: Path) -> None:
        """Add what a source imports, but not the source itself."""
        self.imports.add(self._read(str(path)).content, package=None)

    def add_imports(self) -> None:
        """Add the modules that the code imports which was added so far, directly or indirectly."""
        for name, path, file in self.imports.modules():
            if path not in self._files:
                self._total.update(f"{name}\0{file.digest}\n".encode())
                self._files[path] = file.state
                if levels := name.count(".") + path.endswith("__init__.py"):
                    self._packages.add(f"{Path(path).parents[levels - 1]}{os.sep}")
                if name in sys.modules:
                    self._compare(name, path, file)
        if self.imports.has_unknown_script:
            self._changed = SCRIPT

    def add_loads(self, loads: Iterable[Load]) -> None:
        """Add modules that were loaded in ways that are not in the source, and what these import."""
        for load in loads:
            if load.path not in self._files and load.state is not None:
                try:
                    file = self._read(load.path)
                except OSError:  # it was removed
                    self._files[load.path] = None
                    self._changed = load.path
                    continue
                self._files[load.path] = file.state
                self._total.update(f"{load.name}\0{file.digest}\n".encode())
                if not load.is_of(file.state):
                    self._changed = load.path
                if load.path.endswith(".py"):
                    self.imports.add(file.content, package=load.name.rpartition(".")[0])
                    self.add_imports()

    def _compare(self, name: str, path: str, file: CodeFile) -> None:
        """Compare a loaded module with its file."""
        if not has_read(name, path, file.state, file.digest):
            self._changed = path

    def code(self, *, is_release: bool) -> Code:
        """What was read. The versions of what a release requires are in its own key."""
        is_dynamic = self.imports.is_dynamic()
        if is_dynamic:  # what a computed name finds depends on the folders with modules
            folders = [entry for entry in sys.path if not is_installed_file(f"{entry}{os.sep}_")]
            self._total.update("\0".join(folders).encode())
        if is_release and not self._files:
            return Code(digest=self._total.hexdigest(), files={}, names=self.imports.names(), is_dynamic=is_dynamic)
        libraries = self.imports.libraries
        self._total.update("\n".join([python_version(), *versions_of_imported(libraries)]).encode())
        code = Code(
            digest=self._total.hexdigest(),
            files=self._files,
            libraries=file_states(libraries),
            names=self.imports.names(),
            packages=frozenset(self._packages),
            is_dynamic=is_dynamic,
            position=len(LOADS),
        )
        return code if self._changed is None else code.unknown(self._changed)


def _top_level(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
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
    return file_states(root.parent / name for name in file_names(root))


def file_names(root: Path) -> list[str]:
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
