"""Which device and dtype `auto` means on this machine, and which differences between machines may change a result."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from nodegraph.plugin_api import AUTO, Numerics, installed_version
from nodegraph_nodes.imported_torch import imported_torch

DTYPES = ("float32", "bfloat16", "float16")
DTYPE_ALIASES = {
    **dict.fromkeys(("fp32", "f32", "float", "single"), "float32"),
    **dict.fromkeys(("bf16", "bfloat"), "bfloat16"),
    **dict.fromkeys(("fp16", "f16", "half"), "float16"),
}
"""What other programs call the dtypes."""
_EXPECTED_DEVICE = "expected auto or a device of this machine (cpu, cuda, cuda:N, mps)"
DEVICES = ("cpu", "cuda", "mps")
ATTENTIONS = ("flash", "mem_efficient", "math", "cudnn")  # implementations that torch chooses from
NUMERIC_VARIABLES: Final = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "TORCH_MKLDNN_MATMUL_MIN_DIM"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "MKL_VML_MODE", "OPENBLAS_CORETYPE", "BLIS_ARCH_TYPE"),
    *("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "CUBLAS_EMULATION_STRATEGY"),
    *("CUBLASLT_WORKSPACE_SIZE", "DISABLE_ADDMM_CUDA_LT", "TORCH_BLAS_PREFER_CUBLASLT", "TORCH_BLAS_PREFER_HIPBLASLT"),
    *("TORCH_LINALG_PREFER_CUSOLVER", "TORCH_LINALG_PREFER_MAGMA", "TORCH_CUDNN_V8_API_DISABLED"),
    *("TORCH_CUDNN_USE_HEURISTIC_MODE_B", "ROCBLAS_INTERNAL_FP16_ALT_IMPL", "MIOPEN_DEBUG_CONVOLUTION_DETERMINISTIC"),
    *("PYTORCH_MPS_FAST_MATH", "PYTORCH_MPS_PREFER_METAL"),
)
"""Variables of the environment with which torch, NumPy and the libraries below them compute in another way."""
_PLACES: Final = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # variables that say which device a name means
VARIABLES: Final = (*_PLACES, *NUMERIC_VARIABLES)
_at_start: Final = {name: os.environ.get(name) for name in NUMERIC_VARIABLES}
_AS_BYTES: Final = "_data"  # the variables as `os` keeps them: reading them one by one takes longer than a node
_last_answer: tuple[dict[Any, Any], list[str]] | None = None  # of `numeric_variables`, and the environment that it was for


def numeric_variables() -> list[str]:
    """The variables that are set, with their values.

    A library may have read one before the program changed it: such a variable is named with both values.
    """
    global _last_answer
    environment = getattr(os.environ, _AS_BYTES, os.environ)
    if _last_answer is None or _last_answer[0] != environment:
        before, found = environment.copy(), _numeric_variables()
        if before != environment:  # changed by another thread
            return found
        _last_answer = before, found
    return [*_last_answer[1]]


def _numeric_variables() -> list[str]:
    found = []
    for name, first in _at_start.items():
        value = os.environ.get(name)
        if value != first:
            found.append(f"{name}={first},{value}")
        elif value is not None:
            found.append(f"{name}={value}")
    return found


def fingerprint() -> str:
    """Describe everything that the meaning of `auto` depends on, without importing torch."""
    parts = {
        **_lasting_parts(sys.prefix),
        "variables": [*(os.environ.get(name) for name in _PLACES), *numeric_variables()],
        "settings": settings() if imported_torch() is not None else "sdpa",
    }
    return repr(parts)


@cache
def _lasting_parts(prefix: str) -> dict[str, str]:
    """What stays the same while this process runs: libraries, driver and processor. Finding it out takes longer than a node."""
    driver = Path("/proc/driver/nvidia/version")
    return {
        "torch": _installed_torch(),
        "python": f"{os.path.realpath(prefix)} {platform.python_version()}",  # an interpreter has several names
        "driver": driver.read_text().splitlines()[0] if driver.exists() else "",
        "cpu": f"{platform.machine()} {' '.join(sorted(cpu_flags()))}",
    }


@cache
def _installed_torch() -> str:
    """The version of torch that is installed. Reading it takes milliseconds."""
    return installed_version("torch") or "none"


@cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets that the processor reports; empty if the system does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.split())


def resolve(device: str, dtype: str) -> Numerics:
    """The device, the dtype, and the class of results that goes into keys; `auto` is resolved. Imports torch.

    Raises ValueError if this machine does not have the device, or if the dtype is unknown.
    """
    dtype = _check_dtype(dtype)
    _check_kind(device)
    import torch

    found = _accelerator() if device == AUTO else device
    kind = found.partition(":")[0]
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:  # the latter if torch is built without CUDA
        raise ValueError(
            f"{_EXPECTED_DEVICE}, found '{found}', which it does not have ({str(error).splitlines()[0].rstrip('.')})"
        ) from error
    if dtype == AUTO:
        dtype = _usual_dtype(found, kind)
    minor = ".".join(torch.__version__.split(".")[:2])
    name = f"{kind} {_architecture(found, kind)} {settings()} {dtype} torch {minor}"
    return Numerics(device=found, dtype=dtype, name=name)


def check_names(device: str, dtype: str) -> None:
    """Raise ValueError, as `resolve` does, if a name is that of no device or dtype on any machine. Does not import torch."""
    _check_dtype(dtype)
    _check_kind(device)


def _check_dtype(name: str) -> str:
    """The dtype, or `auto`, that `name` means. Raises ValueError if it means none."""
    short = name.removeprefix("torch.")
    dtype = DTYPE_ALIASES.get(short.lower(), short)
    if dtype not in (AUTO, *DTYPES):
        raise ValueError(f"expected a dtype of auto, {', '.join(DTYPES)}, found '{name}'")
    return dtype


def _check_kind(device: str) -> None:
    """Raise ValueError if this is the name of no device that torch computes on here, such as `cuda:0`."""
    if device.partition(":")[0] not in (AUTO, *DEVICES):
        raise ValueError(f"{_EXPECTED_DEVICE}, found '{device}'")


def settings() -> str:
    """What is chosen for this process: attention, implementations of it that are disabled, precision of float32, variables."""
    import torch

    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was chosen with the newer API, which nodes do not see
        precision = "highest"
    words = ["sdpa", *disabled_attentions(), *([] if precision == "highest" else [f"matmul-{precision}"]), *numeric_variables()]
    return " ".join(words)


def disabled_attentions() -> list[str]:
    """The implementations of attention that this process disables, as they are named in keys. Does not import torch."""
    torch = imported_torch()
    if torch is None:
        return []
    return [f"no-{name}" for name in ATTENTIONS if not getattr(torch.backends.cuda, f"{name}_sdp_enabled")()]


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _usual_dtype(device: str, kind: str) -> str:
    """The fastest dtype that is exact enough for the UNet. The other parts always compute in float32: see docs/models.md."""
    import torch

    if kind == "cpu":
        return "bfloat16" if _bfloat16_instructions() else "float32"
    if kind == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16"
    return "float16"


def _architecture(device: str, kind: str) -> str:
    import torch

    if kind == "cuda":
        return "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    if kind == "cpu":
        instructions = _bfloat16_instructions()
        return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}{instructions and f' {instructions}'}"
    return platform.machine()


def _bfloat16_instructions() -> str:
    """The processor's fastest instructions for products of bfloat16; empty if it has none."""
    names = {"amx_bf16": "amx", "avx512_bf16": "avx512_bf16"}
    return next((name for flag, name in names.items() if flag in cpu_flags()), "")
