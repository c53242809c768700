"""The numeric class: device, dtype and what a result's bits depend on."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nodegraph import Engine
from nodegraph_nodes.models import device as numerics


def test_fingerprint_needs_no_torch():
    code = "import sys; from nodegraph_nodes.models import device; device.fingerprint(); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "False"), ran.stderr


def test_fingerprint_is_stable_and_names_torch():
    assert numerics.fingerprint() == numerics.fingerprint()
    assert torch.__version__.split("+")[0] in numerics.fingerprint()


@pytest.mark.parametrize("variable", numerics.VARIABLES)
def test_fingerprint_depends_on_the_environment(variable, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    before = numerics.fingerprint()
    monkeypatch.setenv(variable, "0")
    assert numerics.fingerprint() != before


def test_interpreter_with_another_name_has_the_same_fingerprint(monkeypatch):
    """`python` and `python3` of one environment share the memo, so that neither imports torch in a cached run."""
    before = numerics.fingerprint()
    monkeypatch.setattr(sys, "executable", f"{sys.executable}-of-another-name")
    assert numerics.fingerprint() == before
    monkeypatch.setattr(sys, "prefix", "/another/environment")
    assert numerics.fingerprint() != before


def test_instruction_sets_are_words():
    assert all(flag and " " not in flag for flag in numerics.cpu_flags())


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp16", "float16"), ("FP16", "float16"), ("half", "float16"), ("bf16", "bfloat16"), ("torch.float32", "float32")],
)
def test_names_of_other_programs_for_dtypes_are_known(name, dtype):
    assert numerics.resolve("cpu", name) == numerics.resolve("cpu", dtype)


def test_given_device_and_dtype_are_used():
    found = numerics.resolve("cpu", "float16")
    assert (found.device, found.dtype) == ("cpu", "float16")
    assert found.name.startswith("cpu ")
    minor = ".".join(torch.__version__.split(".")[:2])
    assert found.name.endswith(f" float16 torch {minor}")


@pytest.mark.parametrize(
    ("flags", "dtype", "instructions"),
    [
        ({"avx2", "avx512f"}, "float32", None),
        ({"avx2", "avx512_bf16"}, "bfloat16", "avx512_bf16"),
        ({"avx2", "avx512_bf16", "amx_bf16"}, "bfloat16", "amx"),
        ((), "float32", None),
    ],
)
def test_auto_dtype_is_bfloat16_on_fast_cpus(flags, dtype, instructions, monkeypatch):
    monkeypatch.setattr(numerics, "cpu_flags", lambda: frozenset(flags))
    found = numerics.resolve("cpu", "auto")
    assert found.dtype == dtype
    assert [name for name in ("amx", "avx512_bf16") if f" {name} " in found.name] == ([instructions] if instructions else [])


def test_class_depends_on_dtype():
    assert numerics.resolve("cpu", "float32").name != numerics.resolve("cpu", "bfloat16").name


@pytest.mark.parametrize("name", numerics.ATTENTIONS)
def test_class_depends_on_attention_settings(name, monkeypatch):
    before = numerics.resolve("cpu", "float32").name, numerics.fingerprint()
    monkeypatch.setattr(torch.backends.cuda, f"{name}_sdp_enabled", lambda: False)
    after = numerics.resolve("cpu", "float32").name, numerics.fingerprint()
    assert f" no-{name} " in after[0]
    assert before[0] != after[0]
    assert before[1] != after[1]  # otherwise the memo of another process would be used


def test_class_depends_on_matmul_precision():
    before = numerics.resolve("cpu", "float32").name, numerics.fingerprint()
    torch.set_float32_matmul_precision("medium")
    try:
        after = numerics.resolve("cpu", "float32").name, numerics.fingerprint()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert all(one != other for one, other in zip(before, after, strict=True))


@pytest.mark.slow
def test_importing_torch_keeps_the_fingerprint():
    code = "from nodegraph_nodes.models import device; a = device.fingerprint(); import torch; print(a == device.fingerprint())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "True"), ran.stderr


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is an accelerator")
def test_auto_device_falls_back_to_the_cpu():
    assert numerics.resolve("auto", "float32").device == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_auto_device_prefers_the_gpu():
    found = numerics.resolve("auto", "auto")
    assert found.device == "cuda"
    assert found.name.startswith("cuda sm_")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "cpu:x", "meta", "hip"])
def test_missing_device_is_an_error(device):
    with pytest.raises(ValueError, match=r"expected auto or a device of this machine \(cpu, cuda, cuda:N, mps\), found"):
        numerics.resolve(device, "auto")


def test_missing_device_is_named():
    with pytest.raises(ValueError, match=r"mps\), found 'gpu'$"):  # without torch's list of devices
        numerics.resolve("gpu", "auto")
    with pytest.raises(ValueError, match=r"mps\), found 'cpu:x', which it does not have \(.+\)$"):
        numerics.resolve("cpu:x", "auto")


@pytest.mark.parametrize("dtype", ["float64", "fp8", ""])
def test_unknown_dtype_is_an_error(dtype):
    with pytest.raises(ValueError, match=f"expected a dtype of auto, float32, bfloat16, float16, found '{dtype}'"):
        numerics.resolve("cpu", dtype)


def test_misspelt_names_are_refused_without_torch():
    code = (
        "import sys\n"
        "from nodegraph import DeviceError, Engine\n"
        "for names in ({'dtype': 'fp61'}, {'device': 'gpu'}, {'device': None}):\n"
        "    try:\n        Engine(None, **names)\n    except DeviceError as error:\n        print(error)\n"
        "print(Engine(None, device='cuda:1', dtype='fp16'), 'torch' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    devices = "expected auto or a device of this machine (cpu, cuda, cuda:N, mps), found"
    dtypes = "expected a dtype of auto, float32, bfloat16, float16, found"
    end = "'auto' uses what the machine has"
    assert ran.stdout.splitlines() == [
        f"[E305] device 'auto' with dtype 'fp61' cannot be used: {dtypes} 'fp61'. {end}",
        f"[E305] device 'gpu' with dtype 'auto' cannot be used: {devices} 'gpu'. {end}",
        f"[E305] device 'None' with dtype 'auto' cannot be used: {devices} 'None'. {end}",
        "<Engine: device cuda:1, dtype fp16, results in memory> False",
    ]


def test_dtype_of_torch_names_itself():
    assert Engine(None, device=torch.device("cpu"), dtype=torch.float16).dtype == "torch.float16"
    assert numerics.resolve("cpu", "torch.float16").dtype == "float16"
