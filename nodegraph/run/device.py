"""What `device` and `dtype` mean on this machine: the backend is asked once, and its answer is stored for later processes.

The answer depends on library, driver, processor and environment. The backend's `fingerprint` covers these without importing the
library, so a run that finds everything in the cache never asks.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nodegraph.errors import DeviceError
from nodegraph.files import create_private, parse_json, write_in_cache
from nodegraph.plugins.backend import AUTO, Backend, Numerics


def resolve(backend: Backend, device: str = AUTO, dtype: str = AUTO, memo: Path | None = None) -> Numerics:
    """What `device` and `dtype` mean here: from the file `memo` if it has the answer, otherwise from the backend.

    Raises DeviceError if the backend refuses the device or the dtype.
    """
    fingerprint = backend.fingerprint()
    remembered = _read(memo) if memo is not None and fingerprint else {}
    question = hashlib.sha256(json.dumps([fingerprint, device, dtype]).encode()).hexdigest()
    if question in remembered:
        return remembered[question]
    try:
        numerics = backend.resolve(device, dtype)
    except Exception as error:
        raise _refused(device, dtype, error) from error
    if memo is not None and fingerprint:
        _write(memo, {**remembered, question: numerics})
    return numerics


def check_names(backend: Backend, device: str, dtype: str) -> None:
    """Raise DeviceError for a misspelt device or dtype, whether or not a node will compute with it."""
    if device == dtype == AUTO:
        return
    try:
        backend.check_names(device, dtype)
    except Exception as error:
        raise _refused(device, dtype, error) from error


def kind_of_machine(backend: Backend) -> str:
    """A digest of what may make the same computation round differently on another machine: libraries, processor, threads."""
    return _digest_of_machine(backend.fingerprint(), _processors(), os.environ.get("OMP_NUM_THREADS"))


@functools.cache
def _processors() -> int | None:
    return os.cpu_count()  # the system is asked, which takes a while


@functools.lru_cache(maxsize=16)
def _digest_of_machine(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _refused(device: str, dtype: str, error: Exception) -> DeviceError:
    return DeviceError(f"[E305] device '{device}' with dtype '{dtype}' cannot be used: {error}. 'auto' uses what the machine has")


def _read(memo: Path) -> dict[str, Numerics]:
    try:
        return {question: Numerics(**answer) for question, answer in parse_json(memo.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # missing or damaged: the backend is asked, and the file is written again


def _write(memo: Path, remembered: Mapping[str, Numerics]) -> None:
    """Best effort: if the file cannot be written, the next process asks again."""
    text = json.dumps({question: asdict(answer) for question, answer in remembered.items()})
    with contextlib.suppress(OSError):
        create_private(memo.parent)
        write_in_cache(memo, text.encode())
