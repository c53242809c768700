"""Starting Ray or joining a cluster, and what can be wrong with it."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from nodegraph.errors import DeviceError, SettingsError
from nodegraph.run.workers.ray.actor import Worker, WorkerSetup

_OLDEST: Final = (2, 54)  # earlier versions have known security holes: CVE-2025-62593, CVE-2026-27482
_SKIPPED: Final = "RAY_DEDUP_LOGS_SKIP_REGEX"  # what Ray does not print to stdout; it reads this when it is imported
_COPIED: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NODEGRAPH_PLUGIN_DIR")  # Ray sets the first one to 1


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where Ray is, and what the workers are.

    `address` is that of a cluster, or "auto"; without one, a Ray of this process starts on this machine. `workers` is how many
    actors; default: one for each GPU slot, or one for each machine without GPUs. `gpus_per_worker` may be a fraction. `labels`
    select nodes of the cluster, such as `{"ray.io/accelerator-type": "A100"}`. With `dashboard`, Ray's dashboard starts, too.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SettingsError(f"[E401] there have to be 1 or more workers, found {self.workers}")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise SettingsError(f"[E401] a worker cannot have {self.gpus_per_worker} GPUs. Expected 0 or more")


class Cluster:
    """A connection to Ray. `count` is how many workers it is to have."""

    def __init__(self, options: RayOptions) -> None:
        """Connect. Raises SettingsError if Ray is not installed, and DeviceError if it cannot give what is asked for."""
        self._options = options
        self.ray = import_ray()
        self._is_ours = not self.ray.is_initialized()
        if self._is_ours:
            self._connect()
        resources = self.ray.cluster_resources()
        gpus = float(resources.get("GPU", 0))
        machines = sum(name.startswith("node:") and name != "node:__internal_head__" for name in resources)
        wanted = options.gpus_per_worker
        self.gpus = (1.0 if gpus else 0.0) if wanted is None else float(wanted)
        slots = int(gpus / self.gpus + 1e-9) if self.gpus else max(machines, 1)
        self.count = options.workers or slots
        if self.gpus and (options.workers or 1) > slots:
            self.close()
            raise DeviceError(
                f"[E305] {options.workers or 1} workers with {_number(self.gpus)} GPUs each were asked for, "
                f"and {self.where} has {_number(gpus)} GPUs. Ask for fewer workers, or for --gpus-per-worker 0"
            )

    @property
    def where(self) -> str:
        return "this machine" if self._options.address is None else f"the Ray cluster at {self._options.address}"

    def start(self, setup: bytes) -> Any:
        """Start an actor. It is there when its first method returns."""
        actor = self.ray.remote(concurrency_groups={"aside": 3})(Worker)  # `run` has one thread of its own
        options: dict[str, Any] = {
            "num_cpus": 0 if self._options.address is None else 1,  # on one machine its owner has said how many
            "num_gpus": self.gpus,
            "max_restarts": -1,
            "max_task_retries": 0,  # a unit that has lost its actor goes to another one; Ray would keep it for the same
        }
        if self._options.labels:
            options["label_selector"] = dict(self._options.labels)
        return actor.options(**options).remote(setup, {name: os.environ.get(name) for name in _COPIED})

    def close(self) -> None:
        """Leave the cluster; a Ray of this process ends."""
        if self._is_ours and self.ray.is_initialized():
            self.ray.shutdown()

    def _connect(self) -> None:
        address = self._options.address
        logging.getLogger("ray").setLevel(logging.ERROR)
        settings: dict[str, Any] = {"address": address or "local", "log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            settings["include_dashboard"] = self._options.dashboard
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self.ray.init(**settings)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            where = "on this machine" if address is None else f"at {address}"
            hint = "" if address is None else ". Is it running, and is the address right? 'ray status' shows it"
            raise DeviceError(f"[E305] Ray cannot be reached {where}: {reason.rstrip('.')}{hint}") from error


def import_ray() -> ModuleType:
    """The library Ray. Raises SettingsError if it is missing or too old."""
    if "ray" not in sys.modules:
        os.environ.setdefault(_SKIPPED, "(?s).*")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise SettingsError("[E401] the executor 'ray' needs Ray. Install it: pip install 'nodegraph[ray]'") from error
    version = tuple(int(number) for number in re.findall(r"\d+", ray.__version__)[:2])
    if version < _OLDEST:
        raise SettingsError(
            f"[E401] Ray {ray.__version__} has known security holes. Expected 2.54 or later: pip install 'nodegraph[ray]'"
        )
    return ray


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


__all__ = ["Cluster", "RayOptions", "WorkerSetup", "import_ray"]
