"""The start of the actors: each says what it is, and must be like the process of the run."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from nodegraph.errors import DeviceError, PluginError
from nodegraph.plugins.backend import Numerics
from nodegraph.plugins.manager import Plugins
from nodegraph.run.events import Event, Notice
from nodegraph.run.workers.ray.actor import codes_of, versions
from nodegraph.run.workers.ray.cluster import Cluster
from nodegraph.run.workers.ray.messages import WorkerFacts
from nodegraph.run.workers.ray.reach import Mark
from nodegraph.run.workers.ray.units import Actor

PATIENCE: Final = 10.0
"""Seconds of waiting for workers until a note says so."""

_TICK: Final = 0.5  # seconds between two looks at whether waiting is over
_LONGEST: Final = 500  # characters of a reason


def wait_for_first(
    cluster: Cluster,
    actors: Sequence[Actor],
    check: Callable[[WorkerFacts], None],
    *,
    mark: Mark,
    notify: Callable[[Event], None],
    is_over: Callable[[], bool],
) -> Numerics | None:
    """Wait until an actor can work, and take those that can by then. Returns what they compute with; None if `is_over`.

    Raises DeviceError or PluginError if one cannot work, also as `check` does.
    """
    ray, numerics = cluster.ray, None
    waiting = {actor.handle.facts.options(concurrency_group="aside").remote(mark): actor for actor in actors}
    began, notified = time.monotonic(), False
    while not any(actor.is_ready for actor in actors) and not is_over():
        first, _ = ray.wait([*waiting], num_returns=1, timeout=_TICK)
        if not first and not notified and time.monotonic() - began >= PATIENCE:
            notified = True
            notify(Notice(None, waiting_for(len(actors), cluster), is_waiting=True))
        for ref in ray.wait([*waiting], num_returns=len(waiting), timeout=0)[0] if first else ():
            facts = _facts(ray, ref, cluster)
            welcome(waiting.pop(ref), facts, check)
            numerics = facts.numerics
    return numerics


def waiting_for(count: int, cluster: Cluster) -> str:
    """A note that so many workers have not started yet."""
    workers = "a worker" if count == 1 else f"{count} workers"
    needs = f"with {cluster.share} each " if cluster.gpus and count > 1 else f"with {cluster.share} " if cluster.gpus else ""
    return f"waiting for {workers} {needs}from {cluster.where}; others may be using it"


def _facts(ray: Any, ref: Any, cluster: Cluster) -> WorkerFacts:
    try:
        facts: WorkerFacts = pickle.loads(ray.get(ref))
    except Exception as error:
        raise DeviceError(
            f"[E305] a worker of {cluster.where} cannot start: {reason_of(error)}. Is nodegraph installed there, in this version?"
        ) from error
    return facts


def welcome(actor: Actor, facts: WorkerFacts, check: Callable[[WorkerFacts], None]) -> None:
    """Let an actor work if what it says of itself is right. Raises PluginError, and as `check` does."""
    if facts.error is not None:
        raise PluginError(f"[E302] a worker on {facts.host} cannot work: {facts.error}")
    check(facts)
    actor.is_ready = actor.has_run = True
    actor.host, actor.process = facts.host, facts.process


def check_facts(facts: WorkerFacts, *, plugins: Plugins, numerics: Numerics | None) -> None:
    """Check that an actor has the versions and plugins of this process, and computes in the class of `numerics`.

    Raises PluginError or DeviceError.
    """
    where, expected = f"a worker on {facts.host}", versions(plugins)
    for name in sorted(expected.keys() | facts.versions.keys()):
        if expected.get(name) != facts.versions.get(name):
            raise PluginError(
                f"[E302] {where} has other versions. Expected {name} {expected.get(name, 'not to be there')}, "
                f"found {facts.versions.get(name, 'none')}. Install the same versions everywhere"
            )
    codes = codes_of(plugins)
    for name in sorted(codes.keys() | facts.plugins.keys()):
        if codes.get(name) != facts.plugins.get(name):
            raise PluginError(
                f"[E302] {where} has other code of the plugin '{name}'. Expected {codes.get(name, 'no such plugin')}, "
                f"found {facts.plugins.get(name, 'no such plugin')}. Install the same plugins everywhere"
            )
    if numerics is not None and facts.numerics is not None and facts.numerics.name != numerics.name:
        raise DeviceError(
            f"[E305] {where} computes in another class. Expected '{numerics.name}', found '{facts.numerics.name}'. "
            f"Choose machines of one kind with labels, or name --device and --dtype"
        )


def reason_of(error: Exception) -> str:
    """What happened, in a line: of an error in an actor its own message."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:_LONGEST]
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return text[:_LONGEST] or type(error).__name__
