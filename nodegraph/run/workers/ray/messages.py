"""What passes between the process of a run and the actors of Ray: small pickled tuples, never values of nodes."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final, NamedTuple

from nodegraph.errors import NodegraphError
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.backend import Numerics
from nodegraph.run.events import NodeEvent, NodeProgress
from nodegraph.run.tasks.task import NodeTask, Outcome
from nodegraph.run.workers.ray.reach import Seen

_LONG_BYTES: Final = 1 << 14
_LEVEL: Final = 1  # of compression, the fastest
_HEADER: Final = struct.Struct("<Q?")


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """What an actor says of itself when it has started.

    `versions` are those of libraries by name, `plugins` the identity of each plugin's code. `seen` is what it found of the mark of
    the process of the run. `error` is why it cannot work; the rest is empty then.
    """

    host: str
    process: int
    versions: Mapping[str, str]
    plugins: Mapping[str, str]
    numerics: Numerics | None = None
    seen: Seen = field(default_factory=Seen)
    error: str | None = None


class Report(NamedTuple):
    """Event number `number` (from 1) of a unit, of the node at `place`. `preview` is the value of a preview, or None."""

    number: int
    place: int
    event: NodeEvent
    preview: Any = None


class UnitResult(NamedTuple):
    """What became of a unit: the outcomes of its nodes in order, as far as it came, and the events not yet confirmed.

    `lost_models` are the digests of models that the actor has computed with before, and has in memory no longer.
    """

    outcomes: tuple[Outcome | BaseException, ...]
    reports: tuple[Report, ...]
    lost_models: tuple[str, ...] = ()


def packed_tasks(tasks: Sequence[NodeTask]) -> bytes:
    """The tasks of a unit as bytes; long ones, such as those that describe a model, are compressed."""
    pickled = pickle.dumps(tasks, pickle.HIGHEST_PROTOCOL)
    return pickled if len(pickled) < _LONG_BYTES else zlib.compress(pickled, _LEVEL)


def unpacked_tasks(data: bytes) -> Sequence[NodeTask]:
    """The tasks that `packed_tasks` made these bytes of."""
    tasks: Sequence[NodeTask] = pickle.loads(data if data[:1] == pickle.PROTO else zlib.decompress(data))
    return tasks


def order(number: int, tasks: bytes, *, previews: bool) -> bytes:
    """What an actor receives to run unit `number`: one value, as each argument of a call takes time."""
    return _HEADER.pack(number, previews) + tasks


def opened_order(data: bytes) -> tuple[int, Sequence[NodeTask], bool]:
    """The number of the unit, its tasks, and whether previews are wanted."""
    number, previews = _HEADER.unpack_from(data)
    return number, unpacked_tasks(data[_HEADER.size :]), previews


def packed(outcome: Outcome | BaseException) -> Outcome | BaseException:
    """The outcome as it can be sent: an error that cannot be pickled becomes one with the same text."""
    if isinstance(outcome, BaseException):
        return _packed_error(outcome)
    return outcome if outcome.error is None else outcome._replace(error=_packed_error(outcome.error))


def _packed_error(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return NodegraphError(f"{type(error).__name__}: {error}")
    return error


def packed_event(event: NodeEvent) -> NodeEvent:
    """The event without its function."""
    return replace(event, preview=None) if isinstance(event, NodeProgress) and event.preview is not None else event
