"""State of the process that results depend on: torch's switches, and the generators of random numbers that all code shares."""

from __future__ import annotations

import contextlib
import functools
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from nodegraph_nodes.library_switches import enter_known_libraries, leave_known_libraries

WATCHED: Final = ("torch", "numpy", "nodegraph_nodes", "nodegraph_diffusion")
"""The libraries whose state is watched, and those whose values a plugin may compute with without an import of torch."""

_lock = threading.Lock()
_nodes = 0  # that run now
_before: tuple[Any, ...] | None = None  # the switches when the first of them began, if they had other values


_SMALLEST: Final = 2.2250738585072014e-308  # above 0 that is not denormal
_HALF: Final = 0.5  # a name: the compiler would compute a product of two literals


@contextlib.contextmanager
def known_switches() -> Iterator[None]:
    """Give torch's switches their default values during the block.

    These are autocast, gradients, inference mode, the default device and denormal numbers in this thread; in the process: oneDNN,
    the default dtype, options of printing, TF32, deterministic algorithms and those that cuDNN chooses. Afterwards they are as
    before, whatever the block did, and so are the number of threads and the implementations of attention. Nodes that run at the
    same time share the switches of the process. The switches of other libraries are set, too.
    """
    before = enter_known_libraries()
    try:
        with _known_switches_of_torch():
            yield
    finally:
        leave_known_libraries(before)


@contextlib.contextmanager
def _known_switches_of_torch() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    _enter(torch)
    before = _read_thread(torch)
    try:
        if before == _KNOWN_THREAD:
            yield
        else:
            with _known_thread(torch, before):
                yield
    finally:
        if (after := _read_thread(torch)) != before:
            _write_thread(torch, after, before)
        _leave(torch)


_KNOWN_THREAD: Final = (False, False, True, False, False, 0)


def _read_thread(torch: ModuleType) -> tuple[Any, ...]:
    """The switches of this thread."""
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.is_grad_enabled(),
        _SMALLEST * _HALF == 0,  # the processor takes denormal numbers for 0; torch does not tell
        torch.is_inference_mode_enabled(),
        torch._C._len_torch_function_stack(),  # a default device is one
    )


@contextlib.contextmanager
def _known_thread(torch: ModuleType, found: tuple[Any, ...]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if found[4]:
            stack.enter_context(torch.inference_mode(False))
        if found[5]:
            stack.enter_context(torch.device("cpu"))
        _write_thread(torch, _read_thread(torch), _KNOWN_THREAD)
        yield


def _write_thread(torch: ModuleType, now: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    cpu, cuda, gradients, no_denormals, _, modes = wanted
    torch.set_autocast_enabled("cpu", cpu)
    torch.set_autocast_enabled("cuda", cuda)
    torch.set_grad_enabled(gradients)
    torch.set_flush_denormal(no_denormals)
    if now[5] > modes == 0:
        torch.set_default_device(None)  # a node set one


def _enter(torch: ModuleType) -> None:
    global _nodes, _before
    with _lock:
        if _nodes == 0:
            _before = _read(torch)
            if (known := (*_KNOWN, *_before[len(_KNOWN) :])) != _before:
                _write(torch, known)
        _nodes += 1


def _leave(torch: ModuleType) -> None:
    global _nodes
    with _lock:
        _nodes -= 1
        if _nodes == 0 and _before is not None and _read(torch) != _before:
            _write(torch, _before)


_KNOWN: Final = (True, True, "highest", False, False, True, False, False, (4, 1000, 3, 80, None))


def _read(torch: ModuleType) -> tuple[Any, ...]:
    """The switches of the process. Those in `_KNOWN` come first; the others are only restored."""
    native = torch._C  # its functions are what the properties of torch.backends call, which take ten times as long
    return (
        native.get_default_dtype() is torch.float32 or native.get_default_dtype(),
        native._get_mkldnn_enabled(),
        native._get_float32_matmul_precision(),
        native._get_deterministic_algorithms(),
        native._get_deterministic_algorithms_warn_only(),
        native._get_cudnn_allow_tf32(),
        native._get_cudnn_benchmark(),
        native._get_cudnn_deterministic(),
        _PRINTING(torch._tensor_str.PRINT_OPTS),
        native.get_num_threads(),
        native._get_flash_sdp_enabled(),
        native._get_mem_efficient_sdp_enabled(),
        native._get_math_sdp_enabled(),
        native._get_cudnn_sdp_enabled(),
    )


_PRINT_OPTIONS: Final = ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")
_PRINTING: Final = operator.attrgetter(*_PRINT_OPTIONS)
_ATTENTIONS: Final = ("flash", "mem_efficient", "math", "cudnn")


def _write(torch: ModuleType, switches: tuple[Any, ...]) -> None:
    dtype, mkldnn, precision, deterministic, warn_only, tf32, benchmark, cudnn_deterministic, *others = switches
    printing, threads, *attentions = others
    now = _read(torch)
    torch.set_default_dtype(torch.float32 if dtype is True else dtype)
    torch.backends.mkldnn.enabled = mkldnn
    torch.set_float32_matmul_precision(precision)
    if (deterministic, warn_only) != now[3:5]:  # setting them imports torch's compiler, which takes seconds
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = benchmark
    torch.backends.cudnn.deterministic = cudnn_deterministic
    torch.set_printoptions(**dict(zip(_PRINT_OPTIONS, printing, strict=True)))
    if threads != now[9]:
        torch.set_num_threads(threads)
    for name, enabled in zip(_ATTENTIONS, attentions, strict=True):
        getattr(torch.backends.cuda, f"enable_{name}_sdp")(enabled)


def generator_states(watched: bool) -> dict[str, Any]:
    """What differs once a number was drawn from the global generator of NumPy or of torch.

    None stands for a library that is not imported, or from whose generator no number was drawn since it was: a node may import it
    and draw. Torch is asked for watched nodes only: others do not compute with tensors.
    """
    states: dict[str, Any] = {"numpy": None}
    if hasattr(random := sys.modules.get("numpy.random"), "mtrand"):  # otherwise another thread is importing it
        states["numpy"] = _numpy_state(random)
    if watched:
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
