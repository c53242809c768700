"""The packages and their imports, read from the source: the diagram of architecture.md, and what the layer test compares."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import networkx as nx

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final[Mapping[str, Path]] = {
    "nodegraph": ROOT / "nodegraph",
    "nodegraph_diffusion": ROOT / "nodes/nodegraph_diffusion",
    "nodegraph_nodes": ROOT / "nodes/nodegraph_nodes",
    "nodegraph_training": ROOT / "nodes/nodegraph_training",
    "nodegraph_comfyui": ROOT / "nodes/nodegraph_comfyui",
}

Imports = dict[str, set[str]]
"""For each module the modules that it imports, by dotted name."""


def modules() -> dict[str, Path]:
    """Every module of our packages by its dotted name; a package has the name of its folder."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports() -> Imports:
    """What each module imports from our packages, imports inside functions and under TYPE_CHECKING included."""
    known = modules()
    return {name: {target for target in _targets(name, path, known) if target != name} for name, path in known.items()}


def children(imported: Imports) -> dict[str, Imports]:
    """For each package its modules and packages, and which of them each one imports.

    The package's own `__init__` is left out: it may import everything inside.
    """
    inside: dict[str, Imports] = {}
    for name in imported:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            inside.setdefault(".".join(parts[:depth]), {}).setdefault(parts[depth], set())
    for source, targets in imported.items():
        for target in targets:
            package, child, other = _fork(source, target)
            if package in inside and child in inside[package] and other in inside[package] and child != other:
                inside[package][child].add(other)
    return inside


def diagram() -> str:
    """The packages as a Mermaid flowchart: an arrow from each package to those it imports, without the arrows that follow."""
    imported = imports()
    inside = children(imported)
    lines = ["```mermaid", "flowchart TD"]
    for package, folder in PACKAGES.items():
        lines.append(f"    subgraph {package}")
        packages = [name for name in sorted(inside[package]) if (folder / name).is_dir()]
        lines += [f"        {package}_{name}[{name}]" for name in packages]
        reduced = _without_implied({name: inside[package][name] & set(packages) for name in packages})
        lines += [f"        {package}_{name} --> {package}_{target}" for name in packages for target in sorted(reduced[name])]
        lines.append("    end")
    lines += [f"    {source} --> {target}" for source, target in _between(imported)]
    return "\n".join([*lines, "```"])


def _targets(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(name, path, node)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for imported in names:
            while imported and imported not in known:
                imported = imported.rpartition(".")[0]
            if imported:
                yield imported


def _base(name: str, path: Path, node: ast.ImportFrom) -> str:
    """The package or module after `from`, as an absolute name."""
    if not node.level:
        return node.module or ""
    parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _fork(source: str, target: str) -> tuple[str, str, str]:
    """The innermost package that holds both, and the child of it that holds each ("" for the package itself)."""
    ours, theirs = source.split("."), target.split(".")
    depth = 0
    while depth < min(len(ours), len(theirs)) and ours[depth] == theirs[depth]:
        depth += 1
    return ".".join(ours[:depth]), "".join(ours[depth : depth + 1]), "".join(theirs[depth : depth + 1])


def _without_implied(graph: Imports) -> Imports:
    """The graph without the arrows that a longer path implies. Raises networkx.NetworkXError if packages import in a circle."""
    reduced = nx.transitive_reduction(nx.DiGraph(graph))
    return {name: set(reduced.successors(name)) for name in graph}


def _between(imported: Imports) -> list[tuple[str, str]]:
    """Which of our three packages imports which other."""
    pairs = {(source.split(".")[0], target.split(".")[0]) for source, targets in imported.items() for target in targets}
    return sorted((source, target) for source, target in pairs if source != target)


if __name__ == "__main__":
    print(diagram())
