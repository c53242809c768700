"""Which node types may compute with the libraries that the backend watches, by what the code of their plugins imports."""

from __future__ import annotations

import os
import re
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from nodegraph.node_types.port_types import AnyType, Class, Union, parse
from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins.code.plugin_code import Code, read_code
from nodegraph.plugins.registry import Registry

_ENGINE: Final = frozenset({"nodegraph", "click", "pluggy"})  # computes nothing
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset, deque, defaultdict, OrderedDict})
_NAME: Final = re.compile(r"[\w.-]+").match


class WatchedNodes(dict[str, bool]):
    """Whether the plugin of a node type imports one of `libraries`, or modules by computed names, by the name of the type.

    Each answer is found when the first node of its plugin runs: it may read source and metadata. Where nothing tells, it is True.
    `codes` has the code of each plugin by the name of its top-level package.
    """

    def __init__(self, nodes: Registry[NodeSpec], codes: Mapping[str, Code], libraries: Iterable[str]) -> None:
        super().__init__()
        self._nodes, self._codes, self._libraries = nodes, codes, frozenset(map(_normal, libraries))
        self._by_package: dict[str, bool] = {}

    def __missing__(self, name: str) -> bool:
        spec = self._nodes.get(name).value
        self[name] = found = bool(self._libraries) and (
            any(_takes_anything(port.type) for port in spec.inputs) or self._may_use(spec.function)
        )
        return found

    def _may_use(self, function: Any) -> bool:
        package = str(getattr(function, "__module__", None) or "").partition(".")[0]
        if package not in self._by_package:
            self._by_package[package] = _normal(package) in self._libraries or self._imports(package)
        return self._by_package[package]

    def _imports(self, package: str) -> bool:
        code = self._codes.get(package)
        if code is not None and code.is_release:  # its own files were not read
            code = _read_release(package)
        if code is None or code.is_dynamic:
            return True
        return self._need(_top_level(file) for file in code.libraries)

    def _need(self, names: Iterable[str]) -> bool:
        """Whether one of these installed libraries is watched, or requires one that is, directly or indirectly."""
        pending, seen = [*map(_normal, names)], set(_ENGINE)
        while pending:
            name = pending.pop()
            if name in self._libraries:
                return True
            if name not in seen:
                seen.add(name)
                required = self._requirements(name)
                if required is None:
                    return True
                pending += required
        return False

    def _requirements(self, name: str) -> list[str] | None:
        """What the distribution called `name` requires, and which watched libraries it can use; None if it is not installed."""
        import importlib.metadata

        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            return None
        found = ((_normal(match[0]), "extra" in line) for line in lines if (match := _NAME(line)) is not None)
        return [name for name, is_extra in found if name in self._libraries or (not is_extra and _is_installed(name))]


def _takes_anything(type_: Any) -> bool:
    """Whether a value for a port of this type may be of any class."""
    pending = [parse(type_)]
    while pending:
        part = pending.pop()
        if isinstance(part, AnyType) or (isinstance(part, Class) and not part.arguments and _may_hold_anything(part.cls)):
            return True
        pending += part.alternatives if isinstance(part, Union) else part.arguments if isinstance(part, Class) else ()
    return False


def _may_hold_anything(cls: Any) -> bool:
    """Whether a value of this class, without the types of its items, may be or hold an object of any class.

    That is so for containers, and for classes that others need not name as their base, such as protocols and those of
    `collections.abc`.
    """
    if not isinstance(cls, type) or cls is object or cls in _CONTAINERS:
        return True
    return bool(getattr(cls, "_is_protocol", False) or getattr(cls, "__abstractmethods__", ()))


def _read_release(package: str) -> Code | None:
    """The code of an installed package; None if it has no source."""
    file = getattr(sys.modules.get(package), "__file__", None)
    try:
        root = Path(file).parent if file and os.path.basename(file) == "__init__.py" else Path(file or "")  # noqa: PTH119
        return read_code({root: package}) if file else None
    except OSError:
        return None


def _top_level(file: str) -> str:
    """The name of the top-level module that has `file`: "numbers" for "site-packages/numbers/__init__.py"."""
    path = Path(file)
    return path.parent.name if path.name.startswith("__init__.") else path.name.partition(".")[0]


def _is_installed(name: str) -> bool:
    import importlib.metadata

    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
