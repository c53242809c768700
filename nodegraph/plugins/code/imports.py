"""Which modules code imports, directly or indirectly, and where they are."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nodegraph.plugins.code.code_files import CodeFile, CodeFiles
from nodegraph.plugins.code.import_scan import ImportScan
from nodegraph.plugins.code.installed import (
    SUFFIXES,
    file_on_disk,
    has_archives,
    hidden_standard_modules,
    is_installed,
    is_installed_file,
    names_of_modules,
    sources_in_archive,
)

_ENGINE: Final = "nodegraph"  # has its own version in keys
SCRIPT: Final = "__main__"
"""The name of the module that the program runs."""


class Imports:
    """The modules that code imports, found step by step. Modules of packages called one of `inside` are known already.

    `has_unknown_script`: one of them is `__main__`, and the program that runs is in no file.
    """

    def __init__(self, inside: Iterable[str], files: CodeFiles) -> None:
        self.has_unknown_script = False
        self.libraries: list[str] = []
        self._seen: set[str] = set()
        self._folders: dict[str, frozenset[str]] = {}
        self._tops: dict[str, importlib.machinery.ModuleSpec | None] = {}
        self._skipped = {*inside, _ENGINE, *(sys.stdlib_module_names - hidden_standard_modules()), *sys.builtin_module_names}
        self._files = files
        self._scan = ImportScan(self._skipped)
        self._pending = self._scan.names
        self._is_dynamic = False

    def is_dynamic(self) -> bool:
        """Whether the code that was read so far may import modules by computed names."""
        return self._is_dynamic or self._scan.is_dynamic

    def add(self, source: bytes, *, package: str | None) -> None:
        """Add what a source imports. `package` is the package of its module; None: relative imports stay inside the plugin."""
        self._scan.add(source, package=package)

    def add_all(self, sources: Sequence[tuple[CodeFile, str | None]]) -> None:
        """Add what these sources import, each with its package. Other plugins may have the same sources."""
        scanned = self._files.scan(sources, self._skipped)
        self._pending += scanned.names
        self._is_dynamic = self._is_dynamic or scanned.is_dynamic

    def names(self) -> frozenset[str]:
        """The names that were looked for so far, whether or not modules were found."""
        return frozenset(self._seen)

    def modules(self) -> Iterator[tuple[str, str, CodeFile]]:
        """The name, path and content of each module outside the standard library and installed distributions."""
        while self._pending:
            name = self._pending.pop()
            top = name.partition(".")[0]
            name = SCRIPT if top == SCRIPT else name
            if name in self._seen or top in self._skipped:
                continue
            self._seen.add(name)
            for module, path, is_package in self._files_of(name):
                file = self._files.read(str(path))
                if path.suffix == ".py" or name == SCRIPT:
                    self.add(file.content, package=module if is_package else module.rpartition(".")[0])
                elif not path.name.endswith(SUFFIXES):  # an archive
                    for source in sources_in_archive(path):
                        self.add(source, package=None)
                yield module, str(path), file

    def _files_of(self, name: str) -> Iterator[tuple[str, Path, bool]]:
        """The modules that importing `name` runs and that were not seen before: the packages above it, and itself."""
        if name == SCRIPT:
            yield from self._script()
            return
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

    def _script(self) -> Iterator[tuple[str, Path, bool]]:
        """The script that this process runs, unless it is installed."""
        file = getattr(sys.modules.get(SCRIPT), "__file__", None)
        if not isinstance(file, str) or not os.path.exists(path := file_on_disk(file)):  # noqa: PTH110
            self.has_unknown_script = True
        elif not is_installed_file(path):
            yield SCRIPT, Path(path), False

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


def imported_modules(names: Mapping[str, str]) -> dict[str, str]:
    """The modules that these import, directly or indirectly, outside of installed distributions. Both are names by file."""
    files = CodeFiles()
    imports = Imports((), files)
    with contextlib.suppress(OSError):
        for path, name in names.items():
            if path.endswith(".py"):
                package = name if os.path.basename(path) == "__init__.py" else name.rpartition(".")[0]  # noqa: PTH119
                imports.add(files.read(path).content, package=package or None)
        return {path: module for module, path, _ in imports.modules()}
    return {}


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
