"""Training nodes that are killed go on with the same result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nodegraph.node_types.signature import spec_of
from nodegraph_diffusion.training.loop.state import read_record
from nodegraph_training.plugin import register_nodes
from tests.support.interrupted_nodes import SAVED, InFolder, often_saved, trainings

ROOT = Path(__file__).parents[2]


def tensors_of(trained: Any) -> dict[str, torch.Tensor]:
    values = trained if isinstance(trained, tuple) else (trained,)
    return {f"{index}/{name}": tensor for index, value in enumerate(values) for name, tensor in value.tensors.items()}


@pytest.mark.slow
def test_every_training_node_that_is_killed_continues_with_identical_weights(tmp_path):
    torch.set_num_threads(1)
    command = [sys.executable, "-m", "tests.support.interrupted_nodes", str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "in the middle of all"
    process.kill()  # SIGKILL
    process.communicate()
    found = trainings()
    functions: list[Callable[..., Any]] = []
    register_nodes(functions.append)
    names = {spec_of(function).name for function in functions}
    assert {name.split(",")[0] for name in found} == {name for name in names if name.startswith("Train")} - {"TrainingOptions"}
    for name, train in found.items():
        folder = tmp_path / name
        record = read_record(folder / "state" / "state.safetensors")
        assert record is not None, name
        assert record["step"] == SAVED, name
        with often_saved():
            continued, whole = tensors_of(train(InFolder(folder))), tensors_of(train(InFolder(tmp_path / "whole" / name)))
        assert [key for key in whole if not torch.equal(continued[key], whole[key])] == [], name
        assert continued.keys() == whole.keys()
