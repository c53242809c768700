"""State of the process that results depend on: torch's switches, and the generators of random numbers that all code shares."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

_lock = threading.Lock()
_nodes = 0  # that run now
_before: tuple[Any, ...] | None = None  # the switches when the first of them began, if they had other values


@contextlib.contextmanager
def known_switches() -> Iterator[None]:
    """Give torch's switches their default values during the block: autocast, oneDNN, default dtype, TF32, deterministic algorithms.

    Afterwards they are as before, whatever the block did. Nodes that run at the same time share them.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    _enter(torch)
    autocast = torch.is_autocast_enabled("cpu")  # of this thread
    if autocast:
        torch.set_autocast_enabled("cpu", False)
    try:
        yield
    finally:
        if torch.is_autocast_enabled("cpu") != autocast:
            torch.set_autocast_enabled("cpu", autocast)
        _leave(torch)


def _enter(torch: ModuleType) -> None:
    global _nodes, _before
    with _lock:
        if _nodes == 0:
            _before = _read(torch)
            if _before != _known(torch):
                _write(torch, _known(torch))
        _nodes += 1


def _leave(torch: ModuleType) -> None:
    global _nodes
    with _lock:
        _nodes -= 1
        if _nodes == 0 and _before is not None and _read(torch) != _before:
            _write(torch, _before)


def _known(torch: ModuleType) -> tuple[Any, ...]:
    return (torch.float32, True, "highest", False, False, True)


def _read(torch: ModuleType) -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.backends.mkldnn.enabled,
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.allow_tf32,
    )


def _write(torch: ModuleType, switches: tuple[Any, ...]) -> None:
    dtype, mkldnn, precision, deterministic, warn_only, tf32 = switches
    torch.set_default_dtype(dtype)
    torch.backends.mkldnn.enabled = mkldnn
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.allow_tf32 = tf32


def generator_states(numeric: bool) -> dict[str, Any]:
    """What differs once a number was drawn from the global generator of NumPy or of torch, for libraries that are imported.

    Torch is asked for numeric nodes only: others do not compute with tensors.
    """
    states: dict[str, Any] = {}
    if (random := sys.modules.get("numpy.random")) is not None:
        states["numpy"] = _numpy_state(random)
    if numeric and (torch := sys.modules.get("torch")) is not None:
        states["torch"] = bytes(torch.default_generator.get_state().numpy().data)
    return states


def _numpy_state(random: ModuleType) -> Any:
    global _reader
    generator = random.mtrand._rand._bit_generator
    if _reader is None or _reader[0] is not generator:  # it can be replaced
        _reader = generator, _numpy_reader(generator)
    return _reader[1]()


_reader: tuple[Any, Callable[[], Any]] | None = None  # of NumPy's generator, which comes first


def _numpy_reader(generator: Any) -> Callable[[], Any]:
    """Returns a function that reads the generator's memory: its position, and one word of its state, which changes every 624 draws.

    Reading `generator.state` makes an array, which takes long.
    """
    if type(generator).__name__ != "MT19937":
        return lambda: repr(generator.state)
    import ctypes

    words, position = generator.state["state"]["key"], generator.state["state"]["pos"]
    memory = (ctypes.c_uint32 * _MT19937_WORDS).from_address(generator.ctypes.state_address)
    if [*memory] != [*words, position]:
        return lambda: repr(generator.state)
    end = ctypes.addressof(memory) + 4 * (_MT19937_WORDS - 2)
    return functools.partial(bytes, memoryview((ctypes.c_uint32 * 2).from_address(end)))


_MT19937_WORDS: Final = 624 + 1  # the state, and the position in it
