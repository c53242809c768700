"""Switches of torch that results depend on and that hold in the whole process."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final, NamedTuple

_KEPT: Final = object()  # the known value of a switch that is only restored, because keys contain it or it does not matter

_THREADS: Final = "get_num_threads"
_FLAGS: Final = (  # of torch._C, and their known values; the properties of torch.backends, which call them, take ten times as long
    ("_get_mkldnn_enabled", "_set_mkldnn_enabled", True),
    ("_get_mkldnn_deterministic", "_set_mkldnn_deterministic", False),
    ("_get_nnpack_enabled", "_set_nnpack_enabled", True),
    ("_get_deterministic_fill_uninitialized_memory", "_set_deterministic_fill_uninitialized_memory", True),
    ("_get_math_sdp_allow_fp16_bf16_reduction", "_set_math_sdp_allow_fp16_bf16_reduction", False),
    ("_get_cudnn_benchmark", "_set_cudnn_benchmark", False),
    ("_get_cudnn_deterministic", "_set_cudnn_deterministic", False),
    ("_get_flash_sdp_enabled", "_set_sdp_use_flash", _KEPT),
    ("_get_mem_efficient_sdp_enabled", "_set_sdp_use_mem_efficient", _KEPT),
    ("_get_math_sdp_enabled", "_set_sdp_use_math", _KEPT),
    ("_get_cudnn_sdp_enabled", "_set_sdp_use_cudnn", _KEPT),
    (_THREADS, "set_num_threads", _KEPT),
)
_GPU_FLAGS: Final = (  # are read only by a torch that is built for GPUs
    ("_get_cudnn_enabled", "_set_cudnn_enabled", True),
    ("_get_cudnn_depthwise_kernel", "_set_cudnn_depthwise_kernel", "auto"),
    ("_get_cublas_allow_fp16_accumulation", "_set_cublas_allow_fp16_accumulation", False),
    ("_get_overrideable_sdp_enabled", "_set_sdp_use_overrideable", True),
    ("_get_fa3_sdp_enabled", "_set_sdp_use_fa3", False),
    ("_get_sdp_priority_order", "_set_sdp_priority_order", [1, 2, 0, 3, 4]),
    ("_get_miopen_immediate", "_set_miopen_immediate", False),
)
_GPU_REDUCTIONS: Final = (  # whether less precision is allowed, and whether products may be split
    ("_get_cublas_allow_fp16_reduced_precision_reduction", "_set_cublas_allow_fp16_reduced_precision_reduction"),
    ("_get_cublas_allow_bf16_reduced_precision_reduction", "_set_cublas_allow_bf16_reduced_precision_reduction"),
)
_QUANTIZED: Final = ("x86", "onednn")  # what torch chooses, best first
_KNOWN_PRINTING: Final = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


class _Switch(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], object]
    known: Any
    name: str = ""


_switches: tuple[_Switch, ...] = ()
_readers: tuple[Callable[[], Any], ...] = ()
_known: tuple[Any, ...] = ()  # the first of them; the others are only restored


def enter_known_switches(torch: ModuleType) -> tuple[Any, ...]:
    """Give the switches their known values. Returns those before."""
    if not _switches:
        _find(torch)
    before = (*map(operator.call, _readers),)
    if before[: len(_known)] != _known:
        _write(before, (*_known, *before[len(_known) :]))
    return before


def leave_known_switches(before: tuple[Any, ...]) -> None:
    """Give the switches the values of before, whatever the nodes did."""
    now = (*map(operator.call, _readers),)
    if now != before:
        _write(now, before)


def restore_known_switches(before: tuple[Any, ...]) -> bool:
    """Give the switches their known values again, and those that are only restored the ones of before.

    The number of threads stays, as results may differ by rounding. Returns whether a node has changed any.
    """
    now = (*map(operator.call, _readers),)
    wanted = (*_known, *before[len(_known) :])
    if now == wanted:
        return False
    pairs = zip(_switches, now, wanted, strict=True)
    wanted = tuple(found if switch.name == _THREADS else value for switch, found, value in pairs)
    _write(now, wanted)
    return now != wanted


def _write(now: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    for switch, found, value in zip(_switches, now, wanted, strict=True):
        if found != value:  # setting some of them imports torch's compiler, which takes seconds
            switch.write(value)


def _find(torch: ModuleType) -> None:
    global _switches, _readers, _known
    found = sorted(_all(torch), key=lambda switch: switch.known is _KEPT)
    _known = tuple(switch.known for switch in found if switch.known is not _KEPT)
    _readers = tuple(switch.read for switch in found)
    _switches = tuple(found)


def _all(torch: Any) -> Iterable[_Switch]:
    native = torch._C
    gpu = torch.backends.cuda.is_built()
    yield _Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32)
    yield _Precisions(native, gpu, _rounds_products(torch)).switch()
    get_warning, set_algorithms = native._get_deterministic_algorithms_warn_only, torch.use_deterministic_algorithms
    yield _Switch(get_warning, lambda only: set_algorithms(native._get_deterministic_algorithms(), warn_only=only), False)
    get_algorithms = native._get_deterministic_algorithms
    yield _Switch(get_algorithms, lambda value: set_algorithms(value, warn_only=get_warning()), False)
    options = vars(torch._tensor_str.PRINT_OPTS)
    yield _Switch(options.copy, options.update, options | _KNOWN_PRINTING)
    yield _attribute(torch.backends.mha, "_is_fastpath_enabled", True)
    yield _module_hooks(torch.nn.modules.module)
    einsum = torch.backends.opt_einsum
    if einsum.is_available():  # otherwise there is nothing to choose
        yield _attribute(einsum.m, "enabled", True)
        yield _attribute(einsum.m, "strategy", "auto")
    engines = torch.backends.quantized.supported_engines
    for name in (name for name in _QUANTIZED if name in engines):
        yield _Switch(native._get_qengine, native._set_qengine, torch.backends.quantized._get_qengine_id(name))
        break
    for getter, setter, known in (*_FLAGS, *(_GPU_FLAGS if gpu else ())):
        if getter == "_get_nnpack_enabled" and not torch._nnpack_available():
            continue
        if hasattr(native, getter) and hasattr(native, setter):  # some versions lack some of them
            yield _Switch(getattr(native, getter), getattr(native, setter), known, getter)
    if gpu:
        yield from _choices_of_gpus(native)
    yield from _sums_in_half_precision(native)


def _sums_in_half_precision(native: Any) -> Iterable[_Switch]:
    """Whether the processor may add in half precision, if it can. Others refuse the switch, which takes time to read."""
    read = getattr(native, "_get_cpu_allow_fp16_reduced_precision_reduction", None)
    write = getattr(native, "_set_cpu_allow_fp16_reduced_precision_reduction", None)
    if read is None or write is None:
        return
    before = read()
    with contextlib.suppress(RuntimeError):
        write(True)
        write(before)
        yield _Switch(read, write, False)


def _choices_of_gpus(native: Any) -> Iterable[_Switch]:
    for getter, setter in _GPU_REDUCTIONS:
        yield _pair(getattr(native, getter), getattr(native, setter))
    yield _Switch(native._get_linalg_preferred_backend, native._set_linalg_preferred_backend, native._LinalgBackend.Default)
    default = getattr(native, "_get_blas_default_backend", lambda: native._BlasBackend.Cublas)
    yield _Switch(native._get_blas_preferred_backend, native._set_blas_preferred_backend, default())


def _rounds_products(torch: Any) -> bool:
    """Whether oneDNN computes with less precision here if it may. Other processors ignore the switches, which are slow to read."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported is None or supported())


def _attribute(module: Any, name: str, known: Any) -> _Switch:
    return _Switch(functools.partial(getattr, module, name), functools.partial(setattr, module, name), known)


def _module_hooks(module: Any) -> _Switch:
    """The hooks for all modules, as `register_module_forward_hook` adds them. The known value, None, is that there are none.

    The mappings that hold them are set aside, not emptied: another thread may be calling hooks, or remove one meanwhile.
    """
    names = [name for name, value in vars(module).items() if name.startswith("_global_") and isinstance(value, dict)]
    tables = [getattr(module, name) for name in names]

    def read() -> Any:
        return (*tables, module._global_is_full_backward_hook) if any(tables) else None

    def write(wanted: Any) -> None:
        *tables[:], module._global_is_full_backward_hook = wanted or (*(OrderedDict[int, Any]() for _ in names), None)
        for name, table in zip(names, tables, strict=True):
            setattr(module, name, table)

    return _Switch(read, write, None)


def _pair(read: Callable[[], Any], write: Callable[..., object]) -> _Switch:
    if isinstance(read(), tuple):
        return _Switch(read, lambda value: write(*value), (True, True))
    return _Switch(read, write, True)  # an earlier version


_OPERATIONS: Final = tuple((backend, name) for backend in ("cuda", "mkldnn") for name in ("conv", "rnn", "matmul"))
_PARENTS: Final = (
    ("generic", "all"),
    ("cuda", "all"),
    ("mkldnn", "all"),
)  # an operation without a precision has that of its parent


class _Precisions:
    """The precision of products and convolutions in float32.

    Torch has two APIs for it. The earlier one raises RuntimeError from its getters if their values do not agree with those of the
    newer one, as after `torch.backends.mkldnn.matmul.fp32_precision = "bf16"`. Both are read, and both are restored.
    """

    def __init__(self, native: Any, gpu: bool, rounds: bool) -> None:
        self._native = native
        self._gpu = gpu
        self._operations = (("mkldnn", "conv"), ("mkldnn", "rnn")) if rounds else ()
        self._get: Callable[[str, str], str] = native._get_fp32_precision_getter
        self._set: Callable[[str, str, str], object] = native._set_fp32_precision_setter

    def switch(self) -> _Switch:
        """The switch whose known value is None: torch's defaults."""
        get, get_matmul = self._get, self._native._get_float32_matmul_precision
        operations = self._operations
        get_cudnn = self._native._get_cudnn_allow_tf32 if self._gpu else None

        def read() -> Any:
            # the earlier API covers the other operations: it raises if something else was chosen with the newer one. A choice for
            # all of them has no effect on those of cuDNN that were chosen before, but on later ones
            try:
                if get_matmul() == "highest" and (get_cudnn is None or (get_cudnn() and get("cuda", "all") == "none")):
                    for backend, name in operations:
                        if get(backend, name) != "none":
                            break
                    else:
                        return None
            except RuntimeError:
                pass
            return self._read_all()

        return _Switch(read, self._write_all, None)

    def _read_all(self) -> tuple[Any, ...]:
        """The values of the earlier API, and what was chosen for each operation, without what it has from its parent."""
        parents = self._clear_parents()
        operations = [self._get(*operation) for operation in _OPERATIONS]
        self._set("cuda", "all", "ieee")
        for index, operation in enumerate(_OPERATIONS):
            if operation in _CUDNN and operations[index] == "tf32" and self._get(*operation) == "ieee":
                operations[index] = _UNTOUCHED
        self._clear_parents()
        for operation in set(_OPERATIONS).difference(_CUDNN):
            self._set(*operation, "none")  # which agrees with every value of the earlier API
        found = (self._native._get_float32_matmul_precision(), self._cudnn_of_earlier_api(), *parents, *operations)
        self._write_all(found)
        return found

    def _write_all(self, wanted: tuple[Any, ...] | None) -> None:
        matmul, cudnn, *others = wanted or _DEFAULT_PRECISIONS
        self._clear_parents()
        self._native._set_float32_matmul_precision(matmul)
        if self._cudnn_of_earlier_api() != cudnn:
            self._native._set_cudnn_allow_tf32(cudnn)
        for choice, precision in zip((*_OPERATIONS, *_PARENTS), (*others[len(_PARENTS) :], *others[: len(_PARENTS)]), strict=True):
            if precision != _UNTOUCHED:
                self._set(*choice, precision)
            elif self._get(*choice) != "tf32":
                self._set(*choice, "tf32")

    def _clear_parents(self) -> list[str]:
        """Let the operations inherit nothing. Returns what was chosen for their parents."""
        before = []
        for parent in _PARENTS:
            before.append(self._get(*parent))
            self._set(*parent, "none")
        return before

    def _cudnn_of_earlier_api(self) -> bool:
        """What the earlier API says about cuDNN. The operations of cuDNN have TF32 afterwards."""
        for operation in _CUDNN:
            if self._get(*operation) != "tf32":
                self._set(*operation, "tf32")
        try:
            return bool(self._native._get_cudnn_allow_tf32())
        except RuntimeError:  # it does not agree with TF32
            return False


_UNTOUCHED: Final = (
    "default"  # an operation of cuDNN that was never chosen: TF32, or what its parent has; torch reads it, but cannot set it
)
_CUDNN: Final = (("cuda", "conv"), ("cuda", "rnn"))
_DEFAULT_PRECISIONS: Final = (
    "highest",
    True,
    *("none" for _ in _PARENTS),
    *(_UNTOUCHED if operation in _CUDNN else "none" for operation in _OPERATIONS),
)
