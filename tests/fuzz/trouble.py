"""What fuzzed nodes do besides computing: they change their inputs, keep references, fail, stop, draw, and change the process.

What a node does in a round is drawn from the seed of the round and the node's type and literals, so that it can be repeated. The
exception is what is changed later, by other nodes or by the thread of `Trouble`: that depends on which node runs when.
"""

from __future__ import annotations

import os
import random as global_random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from nodegraph.plugin_api import Cancelled
from tests.fuzz.values import bits, has_model, plain, spoil

FAILURE = "this node fails on purpose"

MAX_LEAKED = 40

SPOIL_SECONDS = 0.001
"""How long the thread waits that changes what nodes leaked. Waking it more often takes more time than the nodes do."""


class Trouble:
    """The trouble of one process. A node type calls `run` instead of its function."""

    def __init__(self) -> None:
        self._seed: object = None  # of the round
        self.drew: set[bytes] = set()  # identities of the nodes that drew from a global generator in this round
        self.change_file: Callable[[Random], None] = lambda random: None
        self.codec_fails = False
        self.is_single = True  # no other run goes on: the environment and the current directory can be restored
        self._leaked: deque[Any] = deque(maxlen=MAX_LEAKED)
        self._local = threading.local()
        self._active = threading.Event()
        self._spoiling = threading.Lock()
        self._spoiler: threading.Thread | None = None

    # --- what the worker calls

    def begin(self, seed: object, *, single: bool, spoiling: bool) -> None:
        """Begin a round; `seed` None: nodes only compute. With `spoiling`, a thread changes what nodes leaked meanwhile."""
        self._seed, self.is_single = seed, single
        self.codec_fails = self.happens(0.1, "codec")
        self.drew = set()
        if spoiling:
            if self._spoiler is None:
                self._spoiler = threading.Thread(target=self._spoil_forever, name="spoiler", daemon=True)
                self._spoiler.start()
            self._active.set()

    def end(self) -> None:
        """End the round. What the last nodes leaked may be changed from now on."""
        self._active.clear()

    def spoil_leaked(self, random: Random) -> None:
        """Change something that a node kept a reference to."""
        try:
            leaked = self._leaked[random.randrange(len(self._leaked))]
        except (IndexError, ValueError):
            return
        if has_model(leaked) and random.random() < 0.9:
            return  # a model that is changed all the time is never computed
        with self._spoiling:  # two threads that give a tensor other memory at the same time break torch
            spoil(leaked, random)

    def _spoil_forever(self) -> None:
        random = Random()
        while self._active.wait():
            self.spoil_leaked(random)
            time.sleep(SPOIL_SECONDS)

    # --- what nodes call

    def run(self, name: str, body: Callable[..., Any], arguments: Mapping[str, Any], *, numeric: bool) -> Any:
        """Call the function of a node, with trouble."""
        self._release()
        if self._seed is None:
            return body(**arguments)
        literals = {port: value for port, value in arguments.items() if isinstance(value, int | str | float)}
        random = Random(f"{self._seed} {name} {literals}")
        if random.random() < 0.4:
            return body(**arguments)
        if random.random() < 0.05:
            self._fail_before(name, arguments, random)
        if random.random() < 0.1:
            time.sleep(random.random() / 1000)
        if random.random() < 0.25:
            self.spoil_leaked(Random(random.random()))
        result = body(**arguments)
        if random.random() < 0.02 and name != "Same":
            return _wrong(result, random)
        if random.random() < 0.04:
            self.drew.add(identity(name, arguments))
            _draw(random, numeric=numeric)
        if random.random() < 0.4:
            result = self._spoil_inputs(result, arguments, random)
        if random.random() < 0.35:
            self._keep([result] if random.random() < 0.5 else [result, *arguments.values()])
        if random.random() < 0.05:
            _change_process(random, numeric=numeric, single=self.is_single)
        return result

    def happens(self, share: float, *what: object) -> bool:
        """Whether something happens in this round that happens in this share of cases."""
        return self._seed is not None and Random(f"{self._seed} {what}").random() < share

    def _fail_before(self, name: str, arguments: Mapping[str, Any], random: Random) -> None:
        kind = random.choice([0, 1, 2, 3, 3, 3, 4, 5, 6, 7])
        if kind == 0:
            raise Cancelled(FAILURE)
        if kind == 1:
            raise SystemExit(FAILURE)
        if kind == 2:
            raise MemoryError(FAILURE)
        if kind <= 4:  # memory is enough when the engine calls the node once more
            if getattr(self._local, "out_of_memory", None) == (self._seed, name):
                self._local.out_of_memory = None
                return
            self._local.out_of_memory = (self._seed, name)
            for value in arguments.values():
                if kind == 3 and not has_model(value):
                    spoil(value, Random(random.random()))
            raise MemoryError(FAILURE)
        raise random.choice([ValueError, RuntimeError, KeyError])(FAILURE)

    def _spoil_inputs(self, result: Any, arguments: Mapping[str, Any], random: Random) -> Any:
        """Change the inputs of a node that has computed its result, which is then an object of its own."""
        changed = [value for value in arguments.values() if not has_model(value) or random.random() < 0.05]
        if not any(has_model(value) for value in changed):
            result = own(result)
        for value in changed:
            spoil(value, Random(random.random()))
        return result

    def _keep(self, values: list[Any]) -> None:
        """Keep references. They are used once this thread runs its next node: before, the engine may not have the result yet."""
        fresh = self._local.__dict__.setdefault("fresh", [])
        fresh.extend(values)

    def _release(self) -> None:
        fresh = self._local.__dict__.get("fresh")
        if fresh:
            self._leaked.extend(fresh)
            fresh.clear()


def identity(name: str, arguments: Mapping[str, Any]) -> bytes:
    """What a node has in common with others of the same type and inputs."""
    return bits([name, {port: plain(value) for port, value in arguments.items() if not hasattr(value, "resident")}])


def own(value: Any) -> Any:
    """A copy that shares nothing with `value`, except for models."""
    import copy

    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(own, value))
    return value if has_model(value) else copy.deepcopy(value)


def _wrong(result: Any, random: Random) -> Any:
    """A result that the engine refuses."""
    tensor = getattr(result, "pixels", None)
    if tensor is not None and tensor.numel():
        wrong = tensor.clone()
        wrong[(0,) * wrong.ndim] = float("nan")
        return type(result)(random.choice([wrong, tensor[0], tensor.double()]))
    return random.choice([object(), None])


def _draw(random: Random, *, numeric: bool) -> None:
    import torch

    ways: list[Callable[[], object]] = [global_random.random, np.random.rand, lambda: global_random.gauss(0, 1)]
    if numeric:
        ways.append(lambda: torch.rand(1))
    random.choice(ways)()


def _change_process(random: Random, *, numeric: bool, single: bool) -> None:
    if single:
        os.environ["FUZZED"] = str(random.randrange(9))
        os.chdir(random.choice(["/", str(Path.home())]))
    if numeric:
        import torch

        torch.set_default_dtype(torch.float64)
        torch.backends.mkldnn.enabled = False
        torch.set_float32_matmul_precision("medium")
        torch.set_flush_denormal(True)
        torch.set_grad_enabled(False)
        if random.random() < 0.3:
            torch.set_autocast_enabled("cpu", True)
