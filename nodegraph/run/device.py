"""What `device` and `dtype` mean on this machine: asked of a plugin once, and remembered for processes that compute nothing.

The answer hangs on library, driver, processor and environment; a plugin tells these cheaply (`numerics_fingerprint`), without
importing the library, so that a run which finds everything in the cache never asks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pluggy

from nodegraph.errors import PluginError
from nodegraph.files import write_whole

AUTO = "auto"


@dataclass(frozen=True)
class Numerics:
    """A device, a dtype, and the class of results that they give: what goes into the keys of nodes that compute with tensors."""

    device: str
    dtype: str
    name: str


def resolve(hook: pluggy.HookRelay, device: str = AUTO, dtype: str = AUTO, memo: Path | None = None) -> Numerics:
    """What `device` and `dtype` mean here, from `memo` where it is remembered, else from the plugins.

    Without a plugin that knows, the device is the CPU and the class "none". Raises PluginError if a plugin refuses the device or
    the dtype.
    """
    fingerprint = hook.numerics_fingerprint()
    remembered = _read(memo) if memo is not None and fingerprint is not None else {}
    question = hashlib.sha256(json.dumps([fingerprint, device, dtype]).encode()).hexdigest()
    if question in remembered:
        return remembered[question]
    try:
        answer: Mapping[str, str] | None = hook.resolve_numerics(device=device, dtype=dtype)
    except Exception as error:
        raise PluginError(
            f"[E305] device '{device}' with dtype '{dtype}' cannot be used: {error}. 'auto' takes what is there"
        ) from error
    if answer is None:
        return Numerics("cpu" if device == AUTO else device, dtype, "none")
    numerics = Numerics(answer["device"], answer["dtype"], answer["class"])
    if memo is not None and fingerprint is not None:
        _write(memo, {**remembered, question: numerics})
    return numerics


def kind_of_machine(hook: pluggy.HookRelay) -> str:
    """What tells machines apart on which the same computation may round in another way: libraries, processor, threads."""
    told = [hook.numerics_fingerprint(), os.cpu_count(), os.environ.get("OMP_NUM_THREADS")]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _read(memo: Path) -> dict[str, Numerics]:
    try:
        return {question: Numerics(**answer) for question, answer in json.loads(memo.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # absent or damaged: it is asked and written again


def _write(memo: Path, remembered: Mapping[str, Numerics]) -> None:
    """Best effort: where the memo cannot be written, the next process asks again."""
    text = json.dumps({question: asdict(answer) for question, answer in remembered.items()})
    with contextlib.suppress(OSError):
        write_whole(memo, text.encode())
