"""How often models are loaded: by affinity and in turns, if a worker has room for all models, and for half of them."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Final
from unittest import mock

from benchmarks.scaling.sweeps import engine_with, swept, workflow
from benchmarks.simulation.policies import AFFINITY, POLICIES
from nodegraph.run.workers.ray import workers as ray_workers

MODELS: Final = 6
ROOMS: Final = (6, 3)  # models that fit into a worker
LOADED_UNITS: Final = 60  # each takes one of the models at random
WORK: Final = 0.05  # seconds of a unit
LOAD: Final = 0.5  # seconds of loading a model
MEBIBYTE: Final = 2**20


def models_at_random() -> list[str]:
    chosen = random.Random(0)
    return [f"m{chosen.randrange(MODELS)}" for _ in range(LOADED_UNITS)]


def loads(policy: str, room: int, folder: Path) -> dict[str, float]:
    """How often two workers with room for that many models load one, how often the same worker the same one, and the seconds."""
    own = folder / f"{policy} {room}"
    own.mkdir()
    choose = mock.patch.object(ray_workers, "next_pair", POLICIES[policy]()) if policy != AFFINITY else contextlib.nullcontext()
    with choose, engine_with(own, 2, model_memory=int((room + 0.5) * MEBIBYTE)) as (engine, _):
        (own / "loads").unlink()
        seconds = swept(engine, workflow(own, WORK, load=LOAD), LOADED_UNITS, own, models=models_at_random())
    lines = Counter((own / "loads").read_text().splitlines())
    return {"all": lines.total(), "of one worker and model": max(lines.values()), "least possible": MODELS, "seconds": seconds}


def all_loads(folder: Path) -> dict[str, dict[str, float]]:
    """The figures of `loads` for each policy and each room."""
    return {f"{name}, room for {room}": loads(name, room, folder) for room in ROOMS for name in POLICIES}
