"""Storing what a node returned, unless something that its key covers was changed while it ran."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodegraph.cache.cache import Cache
from nodegraph.cache.dependencies import joined, with_codecs
from nodegraph.cache.snapshots import Snapshot, digests_of_items
from nodegraph.cache.store.records import Computation
from nodegraph.cache.store.work import WorkNote
from nodegraph.errors import CacheError
from nodegraph.files import FileState, file_states
from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins.code.running import PLUGINS_WITH_PLUGINS
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.state.shared_changes import shared_changes
from nodegraph.plugins.used_code import UsedCode
from nodegraph.run.known_results import key_of_value, value_of
from nodegraph.run.node.node_run import NodeRun
from nodegraph.run.node.work import WorkWatch
from nodegraph.run.tasks.task import NodeTask, Outcome, RunContext


def files_changed(task: NodeTask, before: Mapping[Path, FileState | None], context: RunContext) -> bool:
    """Whether a file in the key changed since it was in the state `before`, or one that an input without a codec may read.

    A file that was changed and changed back may have been read in between.
    """
    if task.opened and file_states(task.opened) != task.opened:
        return True
    if not task.files:
        return False
    same_content = (context.files.unchanged(path, digest) for path, digest in task.files.items())
    return file_states(task.files) != before or not all(same_content)


def store_outcome(
    task: NodeTask,
    spec: NodeSpec,
    values: Mapping[str, Any],
    *,
    codecs: Mapping[str, Codec | None],
    seconds: float,
    changed: bool,
    run: NodeRun,
    context: RunContext,
) -> Outcome:
    """Store the result under its key, unless a file in the key changed while the node ran."""
    cache = context.cache
    key, is_hidden = _key(task, spec, changed=changed, run=run)
    stored_key = key if spec.keep else None
    snapshots, messages = cache.take(values, codecs, store=stored_key is not None or bool(task.passed_on))
    for message in messages:
        run.notice(message)
    if key is not None and (reason := _changed_while_stored(snapshots, run)) is not None:
        key, stored_key, is_hidden = None, None, True
        run.notice(reason)
    imports = run.code.imports()
    digests, codec_names = _digests(task, spec, snapshots, key=key, cache=cache)
    verified, wrong = False, None
    if task.checked and (key is not None or is_hidden):
        from nodegraph.run.node.stored_result import check_stored

        verified, wrong = check_stored(task, digests, context)
    if stored_key is not None:
        if not task.checked:
            _note_difference(stored_key, digests, run, context)
        inherited = joined(imports, task.inherited)
        cache.put(stored_key, snapshots, digests, _computation(task, seconds, run, context, imports=inherited), files=task.files)
    for name in task.passed_on:
        value_key = stored_key
        if stored_key is None and name in digests:
            value_key = key_of_value(digests[name], name)
            cache.put(value_key, {name: snapshots[name]}, digests, _computation(task, seconds, run, context, imports=imports))
        if value_key is None or cache.stored(value_key, name) is None:
            raise CacheError(
                f"its output '{name}' ({type(values[name]).__name__}) is not stored, and the nodes that need it run in other "
                f"processes. Make the cache directory writable, or run without other processes"
            )
    return Outcome(
        seconds=seconds,
        values=snapshots,
        digests=digests,
        notices=tuple(run.notices),
        stored=stored_key is not None,
        depends=with_codecs(imports, codec_names),
        verified=verified,
        wrong=wrong,
        doubtful=key is None and task.key is not None,
    )


def _key(task: NodeTask, spec: NodeSpec, *, changed: bool, run: NodeRun) -> tuple[str | None, bool]:
    """The key that the result has, None if it is not kept, and whether the result depends on something that its key does not cover.

    The run gets a notice that says why it is not kept.
    """
    if changed:
        run.notice(
            "a file that it reads was changed during the run; its result is used but not kept. Other results of this run may come "
            "from the file as it was before"
        )
        return None, False
    if task.uncached_reason is not None:
        run.notice(f"its result is not kept: {task.uncached_reason}")
    elif (message := run.code.change()) is not None:
        run.notice(message)
        return None, False
    elif task.key is not None and (message := _not_in_key(spec, run)) is not None:
        run.notice(message)
        return None, True
    return task.key, False


def _digests(
    task: NodeTask, spec: NodeSpec, snapshots: Mapping[str, Snapshot], *, key: str | None, cache: Cache
) -> tuple[dict[str, str], frozenset[str]]:
    """The digests of a node's outputs, by port: those of their values, or those that follow from the key. And their codecs."""
    digests: dict[str, str] = {}
    codecs: frozenset[str] = frozenset()
    for port in spec.outputs:
        snapshot = snapshots[port.name]
        digest = snapshot.digest
        codecs |= snapshot.codecs
        if digest is not None and (spec.keep or key is None) and not cache.codecs.never(port.type):
            digests |= snapshot.digests_at(port.name)
        elif key is not None:
            digests[port.name] = value_of(key, port.name, keep=spec.keep)
    return {**digests, **digests_of_items(task.wanted, snapshots, digests)}, codecs


def work_watch(task: NodeTask, files: Mapping[Path, FileState | None], code: UsedCode, context: RunContext) -> WorkWatch:
    """What watches the unfinished work of a node that begins to run now, while its files are in these states."""
    return WorkWatch(
        WorkNote(task.type, task.workflow, task.node, {}),
        depends=lambda: joined(task.inherited, code.imports()),
        is_sound=lambda: task.uncached_reason is None and not files_changed(task, files, context) and code.change() is None,
        are_same=context.cache.are_same,
    )


def _not_in_key(spec: NodeSpec, run: NodeRun) -> str | None:
    """A notice about something that the node used and that its key does not cover."""
    if run.drew:
        return (
            "a global generator of random numbers was used while it ran, as random.random() does; its result is used but not kept. "
            "Take a seed as an input, and make a generator from it"
        )
    if run.used_engine or run.code.entry.origin.place in PLUGINS_WITH_PLUGINS:
        who = "it" if run.used_engine else "a node of its plugin"
        return (
            f"{who} used an engine or plugins itself, and its key does not cover their code and files; its result is used but not "
            f"kept. Add the nodes that it needs to this workflow, or declare @node(..., pure=False)"
        )
    if run.read_numerics and not spec.numeric:
        return (
            "it reads the device or dtype of the run, which its key does not cover; its result is used but not kept. Declare "
            "@node(..., numeric=True)"
        )
    return None


def _changed_while_stored(snapshots: Mapping[str, Snapshot], run: NodeRun) -> str | None:
    """A notice about something that may make the stored values others than they should be, until the codecs had written them."""
    for port, snapshot in snapshots.items():
        if snapshot.drew:
            return (
                f"the codec of '{port}' used a global generator of random numbers, as random.random() does; the result is used but "
                f"not kept. A codec must store and read each value in the same way every time"
            )
    if run.shared_changes != shared_changes():
        return (
            "a switch that all nodes share, such as the default dtype or the locale, was changed while several nodes ran; its "
            "result is used but not kept. Run it again without the node that sets the switch"
        )
    return None


def _computation(task: NodeTask, seconds: float, run: NodeRun, context: RunContext, *, imports: Mapping[str, str]) -> Computation:
    return Computation(
        type=task.type,
        workflow=task.workflow,
        node=task.node,
        seconds=seconds,
        notices=tuple(run.notices),
        machine=context.machine,
        imports=imports,
    )


def _note_difference(key: str, digests: Mapping[str, str], run: NodeRun, context: RunContext) -> None:
    """Add a notice if the same inputs gave another result before, on the same kind of machine."""
    cache, before = context.cache, context.cache.peek(key)
    if before is None or before.computation.machine != context.machine:
        return
    of_other_codecs = {port for port, stored in before.stored.items() if cache.codec_of(stored) is None}
    changed = [port for port, digest in before.digests.items() if digests.get(port, digest) != digest]
    other = [port for port in changed if port not in of_other_codecs]
    if other:
        run.notice(
            f"it is not deterministic: the same inputs gave another '{other[0]}' before. If that is meant, declare "
            f"@node(..., pure=False)"
        )
