"""Values become text in one place, and so do types: a second place would disagree with the first."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

CLASSES = {"str", "int", "float", "bool", "list", "tuple", "dict", "Path"}

JSON = {
    "nodegraph/cache/file_digests.py": "lines of a memo",
    "nodegraph/cache/store/remote/claims.py": "claims and leases",
    "nodegraph/cache/store/work.py": "notes of unfinished work",
    "nodegraph/cli/plugins/schema.py": "a JSON Schema",
    "nodegraph/cli/running.py": "--json",
    "nodegraph/cli/projects/config.py": "--json",
    "nodegraph/cli/projects/doctor.py": "--json",
    "nodegraph/cli/projects/init.py": "--json",
    "nodegraph/cli/projects/stubs.py": "--json",
    "nodegraph/cli/storage/cache.py": "--json",
    "nodegraph/cli/storage/facts.py": "--json",
    "nodegraph/cli/storage/runs.py": "--json",
    "nodegraph/cli/exchange/export_graph.py": "--json",
    "nodegraph/cli/exchange/import_graph.py": "--json",
    "nodegraph/cli/storage/shared_store.py": "--json",
    "nodegraph/cli/group.py": "--json",
    "nodegraph/cli/plugins/nodes.py": "--json",
    "nodegraph/cli/plugins/plugins.py": "--json",
    "nodegraph/cli/plugins/registries.py": "--json",
    "nodegraph/cli/workflows/check.py": "--json",
    "nodegraph/cli/workflows/diff.py": "--json",
    "nodegraph/cli/workflows/examples.py": "--json",
    "nodegraph/cli/workflows/explain.py": "--json",
    "nodegraph/cli/workflows/show.py": "--json",
    "nodegraph/cli/workflows/sweep.py": "--json",
    "nodegraph/cli/workflows/verify.py": "--json",
    "nodegraph/plugins/codecs.py": "stored and exported values",
    "nodegraph/run/device.py": "digests and a memo",
    "nodegraph/run/record.py": "records",
    "nodegraph/sweeps/identity.py": "what a point is",
    "nodegraph/sweeps/table.py": "tables and a journal",
    "nodegraph/workflow/scalars.py": "text in quotes, which YAML shares with JSON",
}


@functools.cache
def engine() -> dict[str, ast.Module]:
    """The source of each module of the engine."""
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_bytes()) for path in sorted((ROOT / "nodegraph").rglob("*.py"))}


def found(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    return ((name, node) for name, tree in engine().items() for node in ast.walk(tree) if isinstance(node, kind))


REPR_OF_VALUE = "nodegraph/graph/expansion/flat.py"
"""Has an object that looks like the value it stands for."""


def test_words_for_types_are_in_one_table():
    """Only `port_types` says how a type reads; `json_schema` has the names that JSON Schema has for types."""

    def is_type(key: ast.expr | None) -> bool:
        return isinstance(key, ast.Name) and key.id in CLASSES

    tables = [name for name, table in found(ast.Dict) if isinstance(table, ast.Dict) and sum(map(is_type, table.keys)) > 1]
    assert sorted(tables) == ["nodegraph/node_types/port_types.py", "nodegraph/workflow/editors/json_schema.py"]


def test_values_in_messages_are_described():
    """Messages show values with `text.described`: !r and repr would show Python's True and None. The others compare."""
    formatted = {
        name for name, part in found(ast.FormattedValue) if isinstance(part, ast.FormattedValue) and part.conversion == ord("r")
    }
    called = {name for name, call in found(ast.Call) if isinstance(call, ast.Call) and ast.unparse(call.func) == "repr"}
    assert formatted == {"nodegraph/light_dataclass.py"}  # which shows objects as the standard library does
    of_plugins = {"nodegraph/plugins/registered.py", "nodegraph/plugins/code/module_state.py"}
    in_python = {"nodegraph/node_types/yaml_core.py", "nodegraph/workflow/editors/stubs.py"}
    assert called <= {"nodegraph/text.py", *in_python, *of_plugins, REPR_OF_VALUE}


def test_json_is_for_data():
    """JSON is written where it is stored, printed by --json or hashed; messages and listings do not use it."""
    calls = {name for name, call in found(ast.Call) if isinstance(call, ast.Call) and ast.unparse(call.func) == "json.dumps"}
    assert sorted(calls) == sorted(JSON)


def test_yaml_is_written_for_workflows():
    """`as_yaml` writes workflow files and shows parts of them. Messages describe values instead."""
    users = {name for name, node in found(ast.ImportFrom) if isinstance(node, ast.ImportFrom) and "as_yaml" in ast.unparse(node)}
    assert sorted(users) == [
        "nodegraph/cli/plugins/describe.py",
        "nodegraph/cli/storage/runs.py",
        "nodegraph/cli/workflows/check.py",
        "nodegraph/cli/workflows/resolved.py",
        "nodegraph/cli/workflows/show.py",
        "nodegraph/graph/expansion/values.py",
        "nodegraph/reproduce/sides.py",
        "nodegraph/run/lock/changes.py",
        "nodegraph/run/lock/lock_file.py",
        "nodegraph/workflow/dump.py",
    ]
    document = engine()["nodegraph/workflow/dump.py"]
    messages = [part for part in ast.walk(document) if isinstance(part, ast.Call) and ast.unparse(part.func).endswith("_problem")]
    assert not any("as_yaml" in ast.unparse(message) for message in messages)
