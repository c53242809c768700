"""Completion in a shell: the values that options and arguments can have, and their safe output.

Only imported while a shell asks. What a workflow or a plugin calls a thing is offered only if a shell takes it as one plain word.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete, add_completion_class

from nodegraph.cli.plugin_options import plugins_of
from nodegraph.terminal import one_line

if TYPE_CHECKING:
    from nodegraph.plugins.manager import Plugins
    from nodegraph.workflow.workflow import Workflow

_SAFE: Final = re.compile(r"[A-Za-z0-9_.+=-]+")


class _Safe(ShellComplete):
    """Offers plain words only, with help on one line."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        found = super().get_completions(args, incomplete)
        return [
            CompletionItem(item.value, item.type, None if item.help is None else one_line(item.help))
            for item in found
            if item.type != "plain" or _SAFE.fullmatch(item.value)
        ]


class _Bash(_Safe, BashComplete):
    """Writes no space after a word that is not complete, such as `seed=`, and offers files beside words."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", 'COMPREPLY+=("$value"); if [[ $value == *[=.] ]]; then compopt -o nospace; fi'
    ).replace(  # bash lists files by itself only if there are no words
        "COMPREPLY=()\n            compopt -o default",
        'compopt -o default -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$value")',
    )


class _Zsh(_Safe, ZshComplete):
    """Writes no space after a word that is not complete."""

    source_template = (
        ZshComplete.source_template.replace(
            'if [[ "$type" == "plain" ]]; then',
            'if [[ "$type" == "plain" && "$key" == *[=.] ]]; then\n'
            '            unfinished+=("$key${${descr:#_}:+:$descr}")\n'
            '        elif [[ "$type" == "plain" ]]; then',
        )
        .replace(
            '    if [ -n "$completions" ]; then',
            "    if [ -n \"$unfinished\" ]; then\n        _describe -V unsorted unfinished -U -S ''\n    fi\n\n"
            '    if [ -n "$completions" ]; then',
        )
        .replace("local -a completions\n", "local -a completions unfinished\n")
    )


class _Fish(_Safe, FishComplete):
    pass


def prepare() -> None:
    """Use the classes of this module for the shells that click supports. Warnings would appear in the line that is typed."""
    sys.stderr = io.StringIO()
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)


def node_types(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The node types, each with its first line as help."""
    entries = _plugins(ctx).nodes.entries()
    return [
        CompletionItem(entry.name, help=entry.value.doc.partition("\n")[0]) for entry in entries if _fits(entry.name, incomplete)
    ]


def registered(ctx: click.Context, kind: str, incomplete: str) -> list[CompletionItem]:
    """The names in the registry `kind`."""
    registry = _plugins(ctx).registries.get(kind)
    return [CompletionItem(name) for name in (registry.names() if registry else ()) if _fits(name, incomplete)]


def workflows(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What a command takes as its workflow: files, and the names of examples."""
    return [CompletionItem(incomplete, type="file"), *examples(ctx, incomplete)]


def examples(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The names of examples."""
    return registered(ctx, "examples", incomplete)


def settings(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What `--set` takes for the file on the command line: `param=`, and `node.`, after which the inputs of the node follow."""
    workflow = _workflow(ctx)
    if workflow is None:
        return []
    if "." not in incomplete:
        params = [CompletionItem(f"{param.name}=", help=param.help or None) for param in workflow.params.values()]
        return [
            item for item in [*params, *(CompletionItem(f"{node}.") for node in workflow.nodes)] if _fits(item.value, incomplete)
        ]
    return [CompletionItem(f"{name}=") for name in _ports(ctx, workflow, incomplete, outputs=False) if _fits(name, incomplete)]


def targets(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What `--target` takes for the file on the command line: outputs, nodes, and `node.port`."""
    workflow = _workflow(ctx)
    if workflow is None:
        return []
    ports = _ports(ctx, workflow, incomplete, outputs=True) if "." in incomplete else ()
    names = dict.fromkeys([*workflow.outputs, *workflow.nodes, *ports])
    return [CompletionItem(name) for name in names if _fits(name, incomplete)]


def nodes(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The nodes of the file on the command line."""
    workflow = _workflow(ctx)
    return [CompletionItem(name) for name in (workflow.nodes if workflow else ()) if _fits(name, incomplete)]


def _ports(ctx: click.Context, workflow: Workflow, incomplete: str, *, outputs: bool) -> Iterator[str]:
    """The inputs that take values, or the outputs, of the node in `incomplete`: `node.port`."""
    from nodegraph.node_types.literals import is_plain

    node, registry = workflow.nodes.get(incomplete.partition(".")[0]), _plugins(ctx).nodes
    if node is not None and node.type.startswith("#"):
        inner = workflow.workflows.get(node.type[1:])
        if inner is not None:
            yield from (f"{node.name}.{name}" for name in (inner.outputs if outputs else inner.params))
    elif node is not None and node.type in registry:
        spec = registry.get(node.type).value
        for port in spec.outputs if outputs else filter(is_plain, spec.inputs):
            yield f"{node.name}.{port.name}"


def _plugins(ctx: click.Context) -> Plugins:
    return plugins_of(ctx, ctx.params.get("plugin_dirs") or [])


def _workflow(ctx: click.Context) -> Workflow | None:
    """The workflow on the command line, as far as it can be read."""
    from nodegraph.errors import WorkflowError
    from nodegraph.graph.load import example_file
    from nodegraph.workflow.text_file import decode, read_bytes
    from nodegraph.workflow.workflow import Workflow

    file = ctx.params.get("file") or next(iter(ctx.args), "-")  # click leaves it in `args` if an option has no value yet
    if str(file) == "-":
        return None
    try:
        path = Path(file)
        if path.is_dir() or not path.exists():
            path = example_file(path, _plugins(ctx)) or path
        return Workflow.parse_parts(decode(read_bytes(path), ""), file="", name="", base=Path())[0]
    except WorkflowError:
        return None


def _fits(name: str, incomplete: str) -> bool:
    return name.startswith(incomplete)
