"""A plugin whose node waits beside a model, so that a benchmark measures what happens around the work."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from nodegraph import Run, hookimpl, node
from nodegraph.plugin_api import OnDemand


class Model:
    """A value without a codec: the name of a network of 1 MiB, and the network, on demand."""

    def __init__(self, name: str, network: OnDemand[Any]) -> None:
        self.name, self.network = name, network


@node("OpenModel")
def open_model(file: str, log: str, seconds: float, run: Run) -> Model:
    """A model that stays in memory. Each load takes `seconds`, and appends a line to the file `log`."""

    def load() -> Any:
        import torch

        time.sleep(seconds)
        with Path(log).open("a") as lines:
            lines.write(f"{file} {os.getpid()}\n")
        return torch.nn.Linear(512, 512, bias=False)

    return Model(file, run.on_demand(file, load))


@node("Wait", numeric=True)
def wait(model: Model, number: int, seconds: float) -> str:
    """Stands for sampling: takes `seconds` beside the network, and returns 1,000 characters."""
    model.network.get()
    time.sleep(seconds)
    return f"{model.name} {number} ".ljust(1_000, ".")


@hookimpl
def register_nodes(register):  # type: ignore[no-untyped-def]
    """OpenModel and Wait."""
    for function in (open_model, wait):
        register(function)
