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
    if (deterministic, warn_only) != _read(torch)[3:5]:  # setting them imports torch's compiler, which takes seconds
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.allow_tf32 = tf32


def generator_states(numeric: bool) -> dict[str, Any]:
    """What differs once a number was drawn from the global generator of NumPy or of torch.

    None stands for a library that is not imported, or from whose generator no number was drawn since it was: a node may import it
    and draw. Torch is asked for numeric nodes only: others do not compute with tensors.
    """
    states: dict[str, Any] = {"numpy": None}
    if hasattr(random := sys.modules.get("numpy.random"), "mtrand"):  # otherwise another thread is importing it
        states["numpy"] = _numpy_state(random)
    if numeric:
        states["torch"] = None
        if hasattr(torch := sys.modules.get("torch"), "default_generator"):
            states["torch"] = _torch_state(torch)
    return states


_torch_at_first: bytes | None = None  # the state of torch's generator before its first number was drawn


def _torch_state(torch: Any) -> bytes | None:
    global _torch_at_first
    generator = torch.default_generator
    state: bytes = generator.get_state().numpy().tobytes()
    if _torch_at_first is None:
        _torch_at_first = torch.Generator().manual_seed(generator.initial_seed()).get_state().numpy().tobytes()
    return None if state == _torch_at_first else state


def _numpy_state(random: Any) -> Any:
    global _reader
    generator = random.mtrand._rand._bit_generator
    if _reader is None or _reader[0] is not generator:  # it can be replaced
        _reader = generator, _numpy_reader(random, generator)
    return _reader[1]()


_reader: tuple[Any, Callable[[], Any]] | None = None  # of NumPy's generator, which comes first


def _numpy_reader(random: Any, generator: Any) -> Callable[[], Any]:
    """Returns a function that reads the generator's memory: its position, and one word of its state, which changes every 624 draws.

    Its owner keeps every second normal number for the next call, which then does not change the generator. Reading
    `generator.state` makes an array, which takes long.
    """
    if type(generator).__name__ != "MT19937":
        return lambda: repr(generator.state)
    import ctypes

    words, position = generator.state["state"]["key"], generator.state["state"]["pos"]
    memory = (ctypes.c_uint32 * _MT19937_WORDS).from_address(generator.ctypes.state_address)
    if [*memory] != [*words, position]:
        return lambda: repr(generator.state)
    end = ctypes.addressof(memory) + 4 * (_MT19937_WORDS - 2)
    read = functools.partial(bytes, memoryview((ctypes.c_uint32 * 2).from_address(end)))
    owner, header = random.mtrand._rand, object.__basicsize__  # the header counts references
    owned = (ctypes.c_char * (type(owner).__basicsize__ - header)).from_address(id(owner) + header)
    read_owned = functools.partial(bytes, memoryview(owned))
    at_first = (read(), read_owned()) if position == random.mtrand.RandomState()._bit_generator.state["state"]["pos"] else None

    def state() -> tuple[bytes, bytes] | None:
        now = read(), read_owned()
        return None if now == at_first else now

    return state


_MT19937_WORDS: Final = 624 + 1  # the state, and the position in it
