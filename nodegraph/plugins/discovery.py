"""Finds plugins: through installed entry points, and as files or packages in folders that the user names.

Plugins are imported here, and a digest is taken of their code. One that cannot be imported is returned with the reason.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import time
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nodegraph.files import file_states
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins import distributions
from nodegraph.plugins.code.code_files import CodeFiles
from nodegraph.plugins.code.installed import has_other_modules
from nodegraph.plugins.code.libraries import python_version, versions_of_required
from nodegraph.plugins.code.loads import LOADS, PLUGIN_NAMES, Load, loads_in_this_thread
from nodegraph.plugins.code.plugin_code import Code, file_states_below, read_code
from nodegraph.plugins.code.shared_modules import PACKAGES, Looked, looking_at_modules, note_changes
from nodegraph.plugins.distributions import Distribution, read_distribution
from nodegraph.plugins.registry import Origin
from nodegraph.plugins.state.locale_state import encoding_of_text

GROUP = "nodegraph"
INCLUDES = "__nodegraph_includes__"
"""An attribute of a plugin's module: more packages whose code is part of the plugin's digest."""
EXCLUDES = "__nodegraph_excludes__"
"""An attribute of a plugin's module: patterns of file names, such as "*.csv", that are not part of the plugin's digest."""

_OUR_DISTRIBUTION: Final = "nodegraph"  # whose plugins always name the encoding of text

_DIGEST = "__nodegraph_digest__"  # of a module's code when this process first imported it


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LoadedPlugin:
    """A plugin that was found: where, how long its import took, and why it cannot be used, if so.

    `fatal`: nothing may run until it is fixed, because it clashes with another plugin, or is wrong and the user named its folder,
    or is ours. `distribution` is the installed distribution that it comes from, None for a file or folder. `module` implements the
    hooks: a module, or the object that the entry point names. `code` is its code as it was read.
    """

    name: str
    place: str
    origin: Origin | None = None
    seconds: float = 0.0
    error: str | None = None
    fatal: bool = False
    distribution: str | None = None
    module: Any = None
    code: Code | None = None

    def __repr__(self) -> str:
        return f"<LoadedPlugin {self.name} from {self.place}{', broken' if self.error else ''}>"

    @property
    def is_foreign(self) -> bool:
        """Whether it is installed, and not by us: a run that needs nothing of it goes on if it is broken."""
        return self.distribution not in (None, _OUR_DISTRIBUTION)

    @property
    def is_ours(self) -> bool:
        return self.distribution == _OUR_DISTRIBUTION

    @property
    def advice(self) -> str:
        """What to do if it cannot be used."""
        if self.is_foreign:
            return f"Nothing of it is used. Update {self.distribution}, or remove it: pip uninstall {self.distribution}"
        return "Correct it, or remove it"

    @property
    def package(self) -> str:
        """The name of the top-level package or module that contains its code."""
        name: str = self.module.__name__ if isinstance(self.module, types.ModuleType) else type(self.module).__module__
        return name.partition(".")[0]


def find_plugins(
    folders: Sequence[Path | str], state: AbstractContextManager[None], *, with_code: bool = True
) -> Iterator[LoadedPlugin]:
    """Find the plugins of the installed entry points, the engine's own first, then those in `folders`.

    Each is imported in `state`, a context manager that is entered for each import. Not `with_code`, the code of installed ones is
    not read, so they have no digest.
    """
    files = CodeFiles()
    yield from _from_entry_points(state, files, with_code=with_code)
    for folder in dict.fromkeys(map(_resolved, folders)):
        yield from _from_folder(folder, state, files)


def _resolved(folder: Path | str) -> Path:
    try:
        return Path(folder).expanduser().resolve()
    except RuntimeError:  # an unknown home folder; reading it will fail
        return Path(folder).resolve()


def _from_entry_points(state: AbstractContextManager[None], files: CodeFiles, *, with_code: bool) -> Iterator[LoadedPlugin]:
    points = {point.value: point for point in distributions.entry_points(GROUP)}
    dists = {id(point.dist): read_distribution(point.dist) for point in points.values() if point.dist is not None}
    found = [(point, dists.get(id(point.dist))) for _, point in sorted(points.items())]
    found.sort(key=lambda pair: pair[1] is None or pair[1].name != _OUR_DISTRIBUTION)
    for point, installed in found:
        started = time.perf_counter()
        name = ".".join(filter(None, (point.module.removesuffix(".plugin"), point.attr)))
        version = installed.version if installed else "0"
        distribution = installed.name if installed else point.value
        place = f"{distribution} {version}" if installed else point.value
        is_ours, altered = distribution == _OUR_DISTRIBUTION, list[Looked]()
        try:
            position = len(LOADS)
            package = point.module.partition(".")[0]
            PACKAGES.add(package)
            with state, looking_at_modules(package) if with_code and not is_ours else nullcontext(altered) as altered:
                hooks = point.load()
            PACKAGES.update(name.partition(".")[0] for name in getattr(sys.modules[point.module], INCLUDES, ()))
            loads = loads_of(str(getattr(sys.modules.get(point.module), "__file__", None)), position)
            # the version identifies the code, but not after an install from a folder or a repository (PEP 610)
            released = installed is not None and not installed.url
            if not with_code:
                code = Code(digest="", files={})
            elif point.dist and installed and released:
                code = _release(point.dist, point.module, installed.requirements, loads=loads, files=files)
            else:
                code = _code_of(point.module, loads=loads, files=files)
        except (Exception, SystemExit) as error:  # raised by the plugin's own code
            note_changes(altered, f"{place} {os.urandom(16).hex()}")
            yield replace(_unloadable(name, place, error), distribution=distribution, fatal=is_ours)
            continue
        place = f"{place}, editable" if installed is not None and installed.is_editable else place
        digest, build = (None, code.digest) if released else (code.digest, None)
        origin = Origin(name, version, digest, place=place, build=build)
        note_changes(altered, origin.identity)
        yield replace(_loaded(origin if is_ours else _with_encoding(origin), hooks, code, started), distribution=distribution)


def _from_folder(folder: Path, state: AbstractContextManager[None], files: CodeFiles) -> Iterator[LoadedPlugin]:
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
            yield _load_file(path.stem, path, root=path, state=state, files=files)
        elif (path / "__init__.py").is_file():
            yield _load_file(path.name, path / "__init__.py", root=path, state=state, files=files)


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source each time: Python compares bytecode with its source by the second, which misses a quick edit."""

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError("no bytecode")


def _load_file(name: str, path: Path, *, root: Path, state: AbstractContextManager[None], files: CodeFiles) -> LoadedPlugin:
    """Import `path`: the file `root`, or the `__init__.py` of the package `root`. Its name cannot hide an installed module."""
    started, started_ns = time.perf_counter(), time.time_ns()
    module_name = f"nodegraph_plugin_{name}_{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    PLUGIN_NAMES.add(module_name)
    altered: list[Looked] = []
    for loaded in [m for m in sys.modules if m == module_name or m.startswith(f"{module_name}.")]:
        del sys.modules[loaded]  # an earlier state of this plugin
    try:
        before, position = file_states_below(root), len(LOADS)
        with state, looking_at_modules(module_name) as altered:
            module = _import_file(module_name, path)
        roots = {root: None, **_included(module)}
        loads = loads_of(str(root), position)
        code = read_code(roots, getattr(module, EXCLUDES, ()), loads=loads, files=files)
        if changed := str(root) if file_states_below(root) != before else code.changed_since(started_ns):
            code = code.unknown(changed)
    except (Exception, SystemExit) as error:  # raised by the plugin's own code
        sys.modules.pop(module_name, None)
        note_changes(altered, f"{root} {os.urandom(16).hex()}")
        return _unloadable(name, str(root), error)
    origin = Origin(name, str(getattr(module, "__version__", "0")), code.digest, str(root))
    note_changes(altered, origin.identity)
    return _loaded(_with_encoding(origin), module, code, started)


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


_loads: dict[str, dict[str, Load]] = {}  # by the file or folder of a plugin: what was loaded when this process imported it


def loads_of(place: str, position: int) -> Collection[Load]:
    """What was loaded while a plugin was imported, from this position of `LOADS` on, and when it was imported before."""
    known = _loads.setdefault(place, {})
    known.update((load.path, load) for load in loads_in_this_thread(position))
    return known.values()


def _code_of(name: str, *, loads: Iterable[Load], files: CodeFiles) -> Code:
    """The code of the package that contains the module `name`, and of the packages that it includes.

    If the files changed after this process imported them, the code that runs is unknown.
    """
    module = sys.modules[name]
    roots = {**_roots(name.partition(".")[0]), **_included(module)}
    code = read_code(roots, getattr(module, EXCLUDES, ()), loads=loads, files=files)
    is_first = module.__dict__.setdefault(_DIGEST, code.digest) == code.digest
    return code if is_first or code.changed is not None else code.unknown(next(iter(code.files)))


def _included(module: types.ModuleType) -> dict[Path, str | None]:
    """The packages and modules that a plugin's module declares as part of its code. Raises ImportError if one is not installed."""
    found: dict[Path, str | None] = {}
    for name in getattr(module, INCLUDES, ()):
        roots = _roots(name)
        if not roots:
            raise ImportError(f"{INCLUDES} names '{name}', which is not installed")
        found |= roots
    return found


def _roots(name: str) -> dict[Path, str | None]:
    """The file or the folders of a package or module, with its name; empty if there is none."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        return dict.fromkeys(map(Path, spec.submodule_search_locations), name)
    return {Path(spec.origin): name} if spec is not None and spec.origin else {}


def _release(dist: Distribution, name: str, requirements: Iterable[str], *, loads: Collection[Load], files: CodeFiles) -> Code:
    """The code of an installed release that has the module `name`: the digests of its files, as they are listed in its RECORD.

    Two installs of one version may differ, such as a wheel that was built again. Files edited after the install are not noticed.
    The digest also covers the versions of Python and of the libraries in `requirements`, lines of Requires-Dist, and the content of
    modules that the release includes, or imports from outside of installed distributions.
    """
    module = sys.modules[name]
    listed = (line for line in (dist.read_text("RECORD") or "").splitlines() if ",sha256=" in line)
    lines = sorted(line for line in listed if not line.startswith("..") and ".dist-info/" not in line)
    parts = [*lines, python_version(), *versions_of_required(requirements)]
    included, others = _included(module), Code(digest="", files={})
    if included or loads or has_other_modules():
        names = [path for path in (line.rpartition(",sha256=")[0] for line in lines) if path.endswith(".py")]
        sources = {path: Path(str(dist.locate_file(path))) for path in names}
        importers = {path: file for path, file in sources.items() if file.is_file()}
        excludes = getattr(module, EXCLUDES, ())
        others = read_code(included, excludes, importers=importers, loads=loads, files=files)
        parts += [others.digest] if others.files or others.is_dynamic else []
    file = getattr(module, "__file__", None)
    return Code(
        digest=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        files=others.files,
        libraries=file_states([file] if file else []),
        names=others.names,
        packages=others.packages,
        is_dynamic=others.is_dynamic,
        is_release=True,
        changed=others.changed,
    )


def _loaded(origin: Origin, module: Any, code: Code, started: float) -> LoadedPlugin:
    seconds = time.perf_counter() - started
    return LoadedPlugin(name=origin.plugin, place=origin.place, origin=origin, seconds=seconds, module=module, code=code)


def _with_encoding(origin: Origin) -> Origin:
    """The origin of a plugin that may open text files without naming their encoding."""
    encoding = encoding_of_text()
    return replace(origin, build=f"{origin.build or ''} text in {encoding}") if encoding else origin


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
