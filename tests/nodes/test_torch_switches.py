"""Switches of torch that hold in the process: a node neither depends on them nor leaves them changed, whichever API sets them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from nodegraph import Engine, Workflow
from nodegraph_nodes import torch_switches
from nodegraph_nodes.process_state import KnownSwitches

PLUGIN = """
from nodegraph import hookimpl, node

@node("Product", numeric=True)
def product(seed: int) -> list:
    import torch
    made = torch.rand(64, 64, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.conv2d(made[None, None], made[None, None, :5, :5])
    return [float((made @ made).sum()), float(image.sum()), torch.backends.mkldnn.conv.fp32_precision]

@node("Leaves", numeric=True)
def leaves(code: str) -> str:
    import torch
    exec(code)
    return ""

@hookimpl
def register_nodes(register):
    register(product)
    register(leaves)
"""

BACKENDS = torch.backends
NATIVE = torch._C
EVERYWHERE: dict[str, tuple[Callable[[], Any], str]] = {
    "attention that is faster": (BACKENDS.mha.get_fastpath_enabled, "torch.backends.mha.set_fastpath_enabled(False)"),
    "convolutions of oneDNN": (lambda: BACKENDS.mkldnn.conv.fp32_precision, "torch.backends.mkldnn.conv.fp32_precision = 'bf16'"),
    "products of oneDNN": (lambda: BACKENDS.mkldnn.matmul.fp32_precision, "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'"),
    "recurrent networks of oneDNN": (
        lambda: BACKENDS.mkldnn.rnn.fp32_precision,
        "torch.backends.mkldnn.rnn.fp32_precision = 'bf16'",
    ),
    "all precisions": (lambda: BACKENDS.fp32_precision, "torch.backends.fp32_precision = 'tf32'"),
    "products of GPUs": (lambda: BACKENDS.cuda.matmul.fp32_precision, "torch.backends.cuda.matmul.fp32_precision = 'tf32'"),
    "products of oneDNN that are repeatable": (
        lambda: BACKENDS.mkldnn.deterministic,
        "torch.backends.mkldnn.deterministic = True",
    ),
    "sums of attention": (
        BACKENDS.cuda.fp16_bf16_reduction_math_sdp_allowed,
        "torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)",
    ),
    "sums of the processor in half precision": (
        NATIVE._get_cpu_allow_fp16_reduced_precision_reduction,
        "torch._C._set_cpu_allow_fp16_reduced_precision_reduction(True)",  # a processor without half precision raises RuntimeError
    ),
    "memory that is filled": (
        lambda: torch.utils.deterministic.fill_uninitialized_memory,
        "torch.utils.deterministic.fill_uninitialized_memory = False",
    ),
    "NNPACK": (NATIVE._get_nnpack_enabled, "torch.backends.nnpack.set_flags(False)"),
    "quantized products": (lambda: BACKENDS.quantized.engine, "torch.backends.quantized.engine = 'qnnpack'"),
}
HOOKS = {
    "before modules": ("forward_pre_hooks", "register_module_forward_pre_hook"),
    "after modules": ("forward_hooks", "register_module_forward_hook"),
    "gradients": ("backward_hooks", "register_module_full_backward_hook"),
    "before gradients": ("backward_pre_hooks", "register_module_full_backward_pre_hook"),
    "gradients in the earlier way": ("backward_hooks", "register_module_backward_hook"),
    "new parameters": ("parameter_registration_hooks", "register_module_parameter_registration_hook"),
    "new buffers": ("buffer_registration_hooks", "register_module_buffer_registration_hook"),
    "new modules": ("module_registration_hooks", "register_module_module_registration_hook"),
}
MODULE = torch.nn.modules.module
EVERYWHERE |= {
    f"hooks {name}": (
        lambda table=table: len(getattr(MODULE, f"_global_{table}")),
        f"torch.nn.modules.module.{function}(lambda *arguments: None)",
    )
    for name, (table, function) in HOOKS.items()
}
ON_GPUS: dict[str, tuple[Callable[[], Any], str]] = {
    f"{name} in {dtype}": (
        lambda dtype=dtype, name=name: getattr(BACKENDS.cuda.matmul, f"allow_{dtype}_{name}"),
        f"torch.backends.cuda.matmul.allow_{dtype}_{name} = {value}",
    )
    for dtype, name, value in [
        ("fp16", "reduced_precision_reduction", False),
        ("bf16", "reduced_precision_reduction", False),
        ("fp16", "accumulation", True),
    ]
} | {
    "precisions of GPUs": (lambda: BACKENDS.cudnn.fp32_precision, "torch.backends.cudnn.fp32_precision = 'ieee'"),
    "convolutions of cuDNN": (lambda: BACKENDS.cudnn.conv.fp32_precision, "torch.backends.cudnn.conv.fp32_precision = 'ieee'"),
    "recurrent networks of cuDNN": (lambda: BACKENDS.cudnn.rnn.fp32_precision, "torch.backends.cudnn.rnn.fp32_precision = 'ieee'"),
    "cuDNN": (lambda: BACKENDS.cudnn.enabled, "torch.backends.cudnn.enabled = False"),
    "order of attentions": (NATIVE._get_sdp_priority_order, "torch._C._set_sdp_priority_order([2, 1, 0, 3, 4])"),
}

if BACKENDS.opt_einsum.is_available():
    EVERYWHERE["order of contractions"] = lambda: BACKENDS.opt_einsum.enabled, "torch.backends.opt_einsum.enabled = False"


@pytest.fixture(autouse=True)
def restored(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program's switches before and after a test are torch's defaults. The processor seems to have bfloat16."""
    monkeypatch.setattr(torch_switches, "_rounds_products", lambda torch: True)
    if "gpu" in request.fixturenames:
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    for name in ("_switches", "_readers", "_known"):
        monkeypatch.setattr(torch_switches, name, ())
    before = torch_switches.enter_known_switches(torch)
    yield
    torch_switches.leave_known_switches(before)


@pytest.fixture
def gpu() -> None:
    """Torch seems to be built for GPUs."""


@pytest.fixture
def engine(tmp_path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "products.py").write_text(textwrap.dedent(PLUGIN))
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def one(type: str, **inputs) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


def check(read: Callable[[], Any], code: str) -> None:
    known = read()
    with KnownSwitches():
        exec(code)
        changed = read()
        assert changed != known
    assert read() == known
    exec(code)
    with KnownSwitches():
        assert read() == known
    assert read() == changed


@pytest.mark.parametrize(("read", "code"), EVERYWHERE.values(), ids=EVERYWHERE)
def test_switch_of_the_process_is_known_to_nodes_and_restored(read, code):
    if "qnnpack" in code and "qnnpack" not in BACKENDS.quantized.supported_engines:
        pytest.skip("torch has no other engine here")
    if "nnpack.set" in code and not NATIVE._get_nnpack_enabled():
        pytest.skip("torch has no NNPACK here")
    try:
        check(read, code)
    except RuntimeError as error:
        if "not supported by the CPU" not in str(error):
            raise
        pytest.skip("the processor has no arithmetic in half precision")


@pytest.mark.parametrize(("read", "code"), ON_GPUS.values(), ids=ON_GPUS)
def test_switch_of_gpus_is_known_to_nodes_and_restored(gpu, read, code):
    check(read, code)


@pytest.mark.parametrize("code", [code for _, code in ON_GPUS.values() if "fp32_precision" in code])
def test_precision_of_all_operations_is_restored_after_one_of_them_was_chosen(gpu, code):
    """It has no effect on those that were chosen, but on what a later node does."""
    for operation in torch_switches._CUDNN:
        NATIVE._set_fp32_precision_setter(*operation, "tf32")
    check(lambda: BACKENDS.cudnn.fp32_precision if "cudnn.fp32" in code else precisions(), code)


def test_hook_that_is_removed_while_nodes_run_stays_removed():
    """And one that is called for all modules changes nothing in a node."""
    layer = torch.nn.Linear(1, 1, bias=False).requires_grad_(False)
    layer.weight.fill_(1.0)
    handle = MODULE.register_module_forward_hook(lambda module, inputs, output: output * 2)
    try:
        assert float(layer(torch.ones(1))) == 2.0
        with KnownSwitches():
            assert float(layer(torch.ones(1))) == 1.0
        assert float(layer(torch.ones(1))) == 2.0
        with KnownSwitches():
            handle.remove()
    finally:
        handle.remove()
    assert float(layer(torch.ones(1))) == 1.0


EARLIER = "torch.set_float32_matmul_precision('medium')"
NEWER = "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'"
MIXED = {
    "newer": (NEWER,),
    "earlier, newer": (
        EARLIER,
        "torch.backends.mkldnn.matmul.fp32_precision = 'ieee'",
        "torch.backends.cuda.matmul.fp32_precision = 'ieee'",
    ),
    "newer, earlier": ("torch.backends.fp32_precision = 'tf32'", EARLIER),
    "cuDNN, newer": ("torch.backends.cudnn.allow_tf32 = False", "torch.backends.cudnn.conv.fp32_precision = 'tf32'"),
    "newer, cuDNN": ("torch.backends.cudnn.rnn.fp32_precision = 'ieee'", "torch.backends.cudnn.allow_tf32 = False"),
}


def precisions() -> list[object]:
    """What each getter of both APIs returns, or that it raises."""
    getters = [torch.get_float32_matmul_precision, lambda: BACKENDS.cudnn.allow_tf32, lambda: BACKENDS.cuda.matmul.allow_tf32]
    found: list[object] = []
    for getter in getters:
        try:
            found.append(getter())
        except RuntimeError:
            found.append("mixed")
    choices = (*torch_switches._PARENTS, *torch_switches._OPERATIONS)
    return [*found, *(torch._C._get_fp32_precision_getter(*choice) for choice in choices)]


@pytest.mark.parametrize("codes", MIXED.values(), ids=MIXED)
def test_either_api_of_precisions_may_be_used_before_a_run_and_inside_a_node(gpu, engine, codes):
    expected, known = engine.run(one("Product", seed=1))["out"], precisions()
    engine.run(one("Leaves", code="; ".join(codes)))
    assert precisions() == known
    for code in codes:
        exec(code)
    before = precisions()
    assert engine.run(one("Product", seed=1), force=["node"])["out"] == expected
    assert engine.run(one("Product", seed=1)).cached == ("node",)
    engine.run(one("Leaves", code="; ".join(reversed(codes))), force=["node"])
    assert precisions() == before


@pytest.mark.parametrize(("device", "default"), [("cpu", torch.bfloat16), ("cuda", torch.float16)])
def test_dtype_of_autocast_is_known_to_nodes_and_restored(device, default):
    if device == "cuda" and not torch.backends.cuda.is_built():
        pytest.skip("torch is built without GPUs")
    try:
        with KnownSwitches():
            torch.set_autocast_dtype(device, torch.float32)
        with KnownSwitches():
            assert torch.get_autocast_dtype(device) == default
        assert torch.get_autocast_dtype(device) == torch.float32
    finally:
        torch.set_autocast_dtype(device, default)


def test_switch_that_has_no_effect_here_is_not_noticed(monkeypatch):
    """Reading it would take time for every node."""
    monkeypatch.setattr(torch_switches, "_rounds_products", lambda torch: False)
    monkeypatch.setattr(torch_switches, "_switches", ())
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    with KnownSwitches():
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    torch.backends.mkldnn.conv.fp32_precision = "none"
