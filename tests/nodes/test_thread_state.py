"""Switches of torch that hold in one thread, or that cannot be read: a node neither depends on them nor leaves them changed."""

from __future__ import annotations

import contextlib
import decimal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from nodegraph import Engine, NodeError, Workflow
from nodegraph_nodes.process_state import KnownSwitches

PLUGIN = """
from nodegraph import hookimpl, node

@node("Seen", numeric=True)
def seen(number: float) -> str:
    import torch
    made = torch.full((4,), number)
    with torch.device("cpu"):
        tiny = float((torch.full((4,), 2e-38) * 0.25).sum())
    flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cuda")
    return f"{tiny} {made.device} {flags} {torch.backends.cudnn.benchmark} {torch.backends.cudnn.deterministic}"

@node("Sums", numeric=True)
def sums(seed: int) -> list:
    import torch
    made = torch.randn(512, 300, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.conv2d(made[None, None], made[None, None, :9, :9])
    found = (made @ made.T).flatten()[::997], image.flatten()[::997], made.softmax(1).sum(0), made.exp().sum()[None]
    return torch.cat(found).tolist()

@node("Leaves", numeric=True)
def leaves(code: str) -> str:
    import torch
    exec(code)
    return ""

@node("Written")
def written(code: str) -> str:
    import decimal, numpy, torch
    text = f"{decimal.Decimal(1) / 3} {numpy.full(2, 1 / 3)} {torch.full((2,), 1 / 3)}"
    exec(code)
    return text

@node("Computed", numeric=True)
def computed(number: float) -> str:
    import numpy
    try:
        quotient = str(numpy.float64(number) / numpy.float64(0))
    except FloatingPointError:
        quotient = "an error"
    return f"{quotient} {numpy.add.reduce(numpy.full(100_003, 0.3, numpy.float16), dtype=numpy.float32)}"

@hookimpl
def register_nodes(register):
    for function in (seen, sums, leaves, written, computed):
        register(function)
"""


@pytest.fixture
def engine(tmp_path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "seeing.py").write_text(textwrap.dedent(PLUGIN))
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def one(type: str, **inputs) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


@contextlib.contextmanager
def without_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def cudnn(name: str) -> Iterator[None]:
    setattr(torch.backends.cudnn, name, True)
    try:
        yield
    finally:
        setattr(torch.backends.cudnn, name, False)


@contextlib.contextmanager
def autocast_of_a_gpu() -> Iterator[None]:
    torch.set_autocast_enabled("cuda", True)  # `torch.autocast` refuses to without a GPU
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)


STATES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "another default device": lambda: torch.device("meta"),
    "no denormal numbers": without_denormals,
    "autocast of a GPU": autocast_of_a_gpu,
    "cuDNN's benchmarks": lambda: cudnn("benchmark"),
    "cuDNN's deterministic algorithms": lambda: cudnn("deterministic"),
}


def switches() -> tuple[object, ...]:
    smallest, half = torch.finfo(torch.float64).tiny, 0.5
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.empty(0).device.type,
        smallest * half == 0,
        torch.is_autocast_enabled("cuda"),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.get_num_threads(),
        torch.backends.cuda.math_sdp_enabled(),
    )


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_switch_changes_no_result_and_is_restored(engine, state):
    expected = engine.run(one("Seen", number=1.0))["out"]
    with state():
        before = switches()
        assert engine.run(one("Seen", number=1.0), force=["node"])["out"] == expected
        assert switches() == before


@contextlib.contextmanager
def printing_of_torch() -> Iterator[None]:
    torch.set_printoptions(precision=2)
    try:
        yield
    finally:
        torch.set_printoptions(profile="default")


WRITTEN: dict[str, tuple[Callable[[], AbstractContextManager[object]], str]] = {
    "decimal numbers": (lambda: decimal.localcontext(prec=3), "decimal.getcontext().prec = 3"),
    "arrays": (lambda: np.printoptions(precision=3), "numpy.set_printoptions(precision=3)"),
    "tensors": (printing_of_torch, "torch.set_printoptions(precision=2)"),
}


@pytest.mark.parametrize(("state", "code"), WRITTEN.values(), ids=WRITTEN)
def test_how_numbers_are_written_changes_no_result_and_is_restored(engine, state, code):
    def text() -> str:
        return f"{decimal.Decimal(1) / 3} {np.full(2, 1 / 3)} {torch.full((2,), 1 / 3)}"

    expected, before = engine.run(one("Written", code=""))["out"], text()
    with state():
        changed = text()
        assert changed != before
        assert engine.run(one("Written", code=""), force=["node"])["out"] == expected
        assert text() == changed
    engine.run(one("Written", code=code))
    assert text() == before
    assert engine.run(one("Written", code=""), force=["node"])["out"] == expected


@contextlib.contextmanager
def small_buffers() -> Iterator[None]:
    before = np.setbufsize(16)
    try:
        yield
    finally:
        np.setbufsize(before)


ARITHMETIC: dict[str, tuple[Callable[[], AbstractContextManager[object]], str]] = {
    "division by zero is an error": (lambda: np.errstate(all="raise"), "import numpy; numpy.seterr(all='raise')"),
    "small buffers": (small_buffers, "import numpy; numpy.setbufsize(16)"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("state", "code"), ARITHMETIC.values(), ids=ARITHMETIC)
def test_arithmetic_of_numpy_changes_no_result_and_is_restored(engine, state, code):
    def settings() -> tuple[object, ...]:
        return np.geterr(), np.getbufsize()

    before = settings()
    with state():
        changed = settings()
        assert changed != before
        result = engine.run(one("Computed", number=1.0))["out"]
        assert settings() == changed
    assert engine.run(one("Computed", number=1.0), force=["node"])["out"] == result
    assert result.startswith("inf ")
    engine.run(one("Leaves", code=code))
    assert settings() == before


def test_half_a_picture_is_an_error_whatever_the_program_allows_pillow(tmp_path, monkeypatch):
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    workflow = Workflow("half")
    workflow.output("out", workflow.add("LoadImage", name="node", path=str(tmp_path / "half.png")).image)
    with pytest.raises(NodeError, match="cannot be read"):
        Engine(None).run(workflow)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


LEFT = {
    "no gradients": "torch.set_grad_enabled(False)",
    "another default device": "torch.set_default_device('meta')",
    "no denormal numbers": "torch.set_flush_denormal(True)",
    "autocast": "torch.set_autocast_enabled('cuda', True)",
    "threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "attention": "torch.backends.cuda.enable_math_sdp(False)",
    "cuDNN's benchmarks": "torch.backends.cudnn.benchmark = True",
}


@pytest.mark.parametrize("code", LEFT.values(), ids=LEFT)
def test_switch_that_a_node_leaves_changed_is_restored(engine, code):
    before = switches()
    engine.run(one("Leaves", code=code))
    assert switches() == before


@pytest.mark.parametrize("threads", [2, 3])
def test_results_of_another_number_of_threads_differ_by_rounding(engine, threads):
    """As docs/cache.md says: by about 1e-6 of the largest value."""
    before = torch.get_num_threads()
    found = []
    try:
        for number in (1, threads):
            torch.set_num_threads(number)
            found.append(torch.tensor(engine.run(one("Sums", seed=1), force=["node"])["out"], dtype=torch.float64))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)
    largest = found[0].abs().max()
    assert float((found[0] - found[1]).abs().max()) <= 4e-6 * float(largest)


def test_number_of_threads_is_not_noticed(engine):
    """It is not in the key, although sums of many numbers are rounded differently."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        engine.run(one("Seen", number=1.0))
        torch.set_num_threads(2)
        assert engine.run(one("Seen", number=1.0)).cached == ("node",)
    finally:
        torch.set_num_threads(threads)


OTHER_THREADS = """
import torch
from nodegraph_nodes.process_state import KnownSwitches

torch.set_flush_denormal(True)
torch.set_num_threads(4)
numbers = torch.full((10_000_000,), 2e-38)
numbers.mul(2)  # starts the other threads
with KnownSwitches():
    print(int((numbers * 0.25 == 0).sum()))
"""


@pytest.mark.slow
def test_denormal_numbers_of_other_threads_are_not_noticed():
    """The switch holds for each thread, and those of OpenMP cannot be reached."""
    ran = subprocess.run([sys.executable, "-c", OTHER_THREADS], capture_output=True, text=True, timeout=300, check=True)
    if int(ran.stdout) == 0:
        pytest.skip("torch computes in one thread here")
    assert int(ran.stdout) < 10_000_000


def test_denormal_numbers_of_a_thread_of_the_program_are_not_noticed():
    """A node may let a thread compute that was there before."""
    smallest, half = torch.finfo(torch.float64).tiny, 0.5
    with ThreadPoolExecutor(1) as thread:
        thread.submit(torch.set_flush_denormal, True).result()
        with KnownSwitches():
            assert thread.submit(lambda: smallest * half).result() == 0 < smallest * half
        thread.submit(torch.set_flush_denormal, False).result()


def test_networks_can_still_be_made_without_memory():
    """A default device that is set to the CPU does not hide one that a node sets inside."""
    with torch.device("cpu"), KnownSwitches(), torch.device("meta"):
        assert torch.nn.Linear(2, 2).weight.device.type == "meta"
