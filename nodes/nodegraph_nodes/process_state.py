"""State of the process that results depend on: torch's switches, and the generators of random numbers that all code shares."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

from nodegraph.plugin_api import note_shared_change
from nodegraph_nodes.imported_torch import imported_torch
from nodegraph_nodes.library_switches import (
    enter_known_arithmetic,
    enter_known_printing,
    enter_whole_pictures,
    leave_known_arithmetic,
    leave_known_printing,
    leave_whole_pictures,
    restore_whole_pictures,
)
from nodegraph_nodes.torch_switches import enter_known_switches, leave_known_switches, restore_known_switches

WATCHED: Final = ("torch", "numpy", "nodegraph_nodes", "nodegraph_diffusion")
"""The libraries whose state is watched, and those whose values a plugin may compute with without an import of torch."""

_SMALLEST: Final = 2.2250738585072014e-308  # above 0 that is not denormal
_HALF: Final = 0.5  # a name: the compiler would compute a product of two literals

_lock = threading.Lock()
_making_readers = threading.Lock()
_acquire, _release = _lock.acquire, _lock.release  # `with` takes twice as long
_nodes = 0  # that run now
_before: tuple[Any, ...] | None = None  # the switches of the process before they ran; None if torch is not imported


class KnownSwitches:
    """Give torch's switches their default values during the block.

    These are autocast, gradients, inference mode, the default device and denormal numbers in this thread, and those
    of the process in `torch_switches`. Afterwards they are as before, whatever the block did, and so are the number of threads and
    the implementations of attention. Nodes that run at the same time share the switches of the process: if one has changed them
    when a node begins or ends, they are set again, and the results of all these nodes are not kept. The switches of other libraries
    are set, too.
    """

    # a generator as a context manager takes far longer
    __slots__ = ("_arithmetic", "_autocast", "_modes", "_printing", "_thread", "_torch")

    def __enter__(self) -> None:
        global _nodes, _before
        self._modes: contextlib.ExitStack | None = None
        self._printing, self._arithmetic = enter_known_printing(), enter_known_arithmetic()
        torch = self._torch = imported_torch()
        _acquire()
        try:
            if _nodes == 0:
                enter_whole_pictures()
            else:
                _restore_shared_switches()
            _nodes += 1
            if torch is not None and _before is None:
                _before = enter_known_switches(torch)
        finally:
            _release()
        if torch is not None:
            self._autocast = _enter_known_autocast(torch)
            self._thread = _read_thread(torch)
            if self._thread != _KNOWN_THREAD:
                self._modes = _known_modes(torch, self._thread)

    def __exit__(self, *error: object) -> None:
        global _nodes, _before
        torch = self._torch
        try:
            if torch is not None:
                if self._modes is not None:
                    self._modes.close()
                if (after := _read_thread(torch)) != self._thread:
                    _write_thread(torch, after, self._thread)
                if self._autocast is not None:
                    _write_autocast(torch, self._autocast)
        finally:
            _acquire()
            try:
                _nodes -= 1
                if _nodes == 0:
                    leave_whole_pictures()
                    before, _before = _before, None
                    if before is not None:
                        leave_known_switches(before)
                else:
                    _restore_shared_switches()
            finally:
                _release()
                leave_known_printing(self._printing)
                leave_known_arithmetic(self._arithmetic)


def _restore_shared_switches() -> None:
    """Give the switches of the process their known values again while other nodes run, if one of them has changed them."""
    is_changed = restore_whole_pictures()
    if _before is not None and restore_known_switches(_before):
        is_changed = True
    if is_changed:
        note_shared_change()


_KNOWN_THREAD: Final = (False, False, True, False, False, 0)


def _read_thread(torch: ModuleType) -> tuple[Any, ...]:
    """The switches of this thread."""
    native = torch._C
    has_autocast = native._is_any_autocast_enabled()  # for one device takes five times as long
    return (
        has_autocast and torch.is_autocast_enabled("cpu"),
        has_autocast and torch.is_autocast_enabled("cuda"),
        torch.is_grad_enabled(),
        _SMALLEST * _HALF == 0,  # the processor takes denormal numbers for 0; torch does not tell
        torch.is_inference_mode_enabled(),
        native._len_torch_function_stack(),  # a default device is one
    )


def _enter_known_autocast(torch: Any) -> tuple[Any, ...] | None:
    """Give autocast its dtypes in this thread. Returns those before; None if they were the same.

    Reading them takes long, so they are not read again afterwards: the next node sets them, whatever this one leaves.
    """
    of_cpu = torch.get_autocast_dtype("cpu")
    of_gpus = torch.get_autocast_dtype("cuda") if torch._C._has_cuda else torch.float16
    if of_cpu is torch.bfloat16 and of_gpus is torch.float16:
        return None
    _write_autocast(torch, (torch.bfloat16, torch.float16))
    return of_cpu, of_gpus


def _write_autocast(torch: Any, dtypes: tuple[Any, ...]) -> None:
    torch.set_autocast_dtype("cpu", dtypes[0])
    torch.set_autocast_dtype("cuda", dtypes[1])


def _known_modes(torch: ModuleType, found: tuple[Any, ...]) -> contextlib.ExitStack:
    """Set the switches of this thread. Returns what leaves the modes that this takes."""
    with contextlib.ExitStack() as stack:
        if found[4]:
            stack.enter_context(torch.inference_mode(False))
        if found[5]:
            stack.enter_context(torch.device("cpu"))
        _write_thread(torch, _read_thread(torch), _KNOWN_THREAD)
        return stack.pop_all()


def _write_thread(torch: ModuleType, now: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    cpu, cuda, gradients, no_denormals, _, modes = wanted
    torch.set_autocast_enabled("cpu", cpu)
    torch.set_autocast_enabled("cuda", cuda)
    torch.set_grad_enabled(gradients)
    torch.set_flush_denormal(no_denormals)
    if now[5] > modes == 0:
        torch.set_default_device(None)  # a node set one


def generator_states(watched: bool) -> dict[str, Any]:
    """What differs once a number was drawn from the global generator of NumPy or of torch.

    None stands for a library that is not imported, or from whose generator no number was drawn since it was: a node may import it
    and draw. Torch is asked for watched nodes only: others do not compute with tensors.
    """
    try:
        generator = sys.modules["numpy.random"].mtrand._rand._bit_generator
    except (KeyError, AttributeError):  # it is not imported, or another thread is importing it
        state = None
    else:
        known, position_and_word, owner, first = _numpy or _NOTHING
        if known is not generator:  # it can be replaced
            _, position_and_word, owner, first = _look_at_numpy(generator)
        state = position_and_word[0], owner.raw
        if state == first:
            state = None
    if not watched:
        return {"numpy": state}
    torch = imported_torch()
    return {"numpy": state, "torch": _torch_state(torch) if hasattr(torch, "default_generator") else None}


def _torch_state(torch: Any) -> bytes | None:
    global _torch_reader
    generator, known = torch.default_generator, _torch_reader
    if known is None or known[0] is not generator:
        with _making_readers:  # a second reader that is made meanwhile would take a draw of this node for the first state
            known = _torch_reader
            if known is None or known[0] is not generator:
                known = _torch_reader = generator, *_read_and_first_state(torch, generator)
    state = known[1]()
    return None if state == known[2] else state


_torch_reader: tuple[Any, Callable[[], bytes], bytes | None] | None = None  # a generator, and its state before its first draw


def _read_and_first_state(torch: Any, generator: Any) -> tuple[Callable[[], bytes], bytes | None]:
    read = _memory_reader(torch, generator) or functools.partial(_state_of, generator)
    first = read()
    is_at_first = _state_of(generator) == _state_of(torch.Generator().manual_seed(generator.initial_seed()))
    return read, first if is_at_first and read() == first else None  # otherwise another thread has drawn meanwhile


def _state_of(generator: Any) -> bytes:
    state: bytes = generator.get_state().numpy().tobytes()
    return state


def _memory_reader(torch: Any, generator: Any) -> Callable[[], bytes] | None:
    """Returns a function that reads the memory of a generator, which takes a tenth of `get_state`. None if it looks unexpected.

    The memory is: seed, counters, 624 words of state, and two normal numbers that may be kept for the next call, each before a
    flag. The words, and the position in them before these, change with each draw. The memory is found, and its reading is tried,
    in a generator of the same kind that nothing else uses.
    """
    import ctypes

    tried = torch.Generator()
    words = memoryview(_state_of(tried)[_HEADER_BYTES:][: 8 * _WORDS]).cast("Q")  # each takes twice the bytes here
    expected = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    start = ctypes.string_at(tried._cdata, _SEARCHED_BYTES).find(expected[:16]) - _POSITION_BYTES
    if start < 0:
        return None

    def reader(generator: Any) -> Callable[[], bytes]:
        first = generator._cdata + start
        size = _POSITION_BYTES + 4 * _WORDS
        read = memoryview((ctypes.c_char * size).from_address(first)).tobytes
        numbers = memoryview((ctypes.c_ubyte * _KEPT_BYTES).from_address(first + size)).cast("B")

        def state() -> bytes:
            if numbers[_END_OF_FLOAT]:  # a number whose flag is not set is whatever was in memory before
                return read() + b"f" + numbers[_FLOAT] + (numbers[_DOUBLE] if numbers[_END_OF_DOUBLE] else b"")
            return read() + b"d" + numbers[_DOUBLE] if numbers[_END_OF_DOUBLE] else read()

        return state

    read, states = reader(tried), []
    if read()[_POSITION_BYTES:] != expected:
        return None
    for draw in (torch.rand, torch.randn, torch.randn):  # the second normal number is one that was kept
        states.append(read())
        draw(1, generator=tried, device="cpu", dtype=torch.float64)
    states.append(read())
    with_float = tried.get_state()  # its end: a number in single precision, and whether there is one
    with_float.numpy()[-8:] = [*b"\1\2\3\4\1\0\0\0"]
    tried.set_state(with_float)
    states.append(read())
    ends = [state[_POSITION_BYTES + 4 * _WORDS :] for state in states]
    is_expected = len({*states}) == len(states) and [end[:1] for end in ends] == [b"", b"", b"d", b"", b"f"]
    return reader(generator) if is_expected and ends[-1] == b"f\1\2\3\4" else None


_HEADER_BYTES: Final = 24  # in a state that torch returns
_POSITION_BYTES: Final = 4
_WORDS: Final = 624
_KEPT_BYTES: Final = 24
_END_OF_FLOAT: Final = 8  # in the kept bytes; the flag is there
_END_OF_DOUBLE: Final = 20
_FLOAT: Final = slice(4, _END_OF_FLOAT)
_DOUBLE: Final = slice(12, _END_OF_DOUBLE)
_SEARCHED_BYTES: Final = 512


class _StateAsText:
    """The state of a generator of another kind than NumPy's own one, in place of its owner's memory."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    @property
    def raw(self) -> str:
        return repr(self._generator.state)


_numpy: tuple[Any, Sequence[int], Any, Any] | None = None  # what `_look_at_numpy` returned
_NOTHING: Final[tuple[Any, Sequence[int], Any, Any]] = None, (0,), None, None


def _look_at_numpy(generator: Any) -> tuple[Any, Sequence[int], Any, Any]:
    """Returns NumPy's global generator, what shows that a number was drawn from it, and the same before the first draw.

    What shows it is the generator's position with one word of its state, which changes every 624 draws, and the memory of its
    owner, which keeps every second normal number for the next call and then does not change the generator. Reading
    `generator.state` makes an array, which takes long. The last one is None if a number was drawn already.
    """
    global _numpy
    with _making_readers:
        if _numpy is None or _numpy[0] is not generator:
            _numpy = _memory_of_numpy(generator) or (generator, (0,), _StateAsText(generator), None)
        return _numpy


def _memory_of_numpy(generator: Any) -> tuple[Any, Sequence[int], Any, Any] | None:
    """See `_look_at_numpy`; None if the memory does not look as expected."""
    if type(generator).__name__ != "MT19937":
        return None
    import ctypes

    random = sys.modules["numpy.random"].mtrand
    words, position = generator.state["state"]["key"], generator.state["state"]["pos"]
    memory = (ctypes.c_uint32 * _MT19937_WORDS).from_address(generator.ctypes.state_address)
    if [*memory] != [*words, position]:
        return None
    end = ctypes.addressof(memory) + 4 * (_MT19937_WORDS - 2)
    position_and_word = memoryview((ctypes.c_uint32 * 2).from_address(end)).cast("B").cast("Q")
    header = object.__basicsize__  # which counts references
    owner = (ctypes.c_char * (type(random._rand).__basicsize__ - header)).from_address(id(random._rand) + header)
    first = position_and_word[0], owner.raw
    is_at_first = position == random.RandomState()._bit_generator.state["state"]["pos"]
    return generator, position_and_word, owner, first if is_at_first and (position_and_word[0], owner.raw) == first else None


_MT19937_WORDS: Final = 624 + 1  # the state, and the position in it
