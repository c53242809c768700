"""Starting Ray or joining a cluster, and what can be wrong with it."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from types import ModuleType
from typing import Any, Final

from nodegraph.errors import DeviceError, SettingsError
from nodegraph.light_dataclass import dataclass
from nodegraph.run.workers.ray.actor import Worker, WorkerSetup

_OLDEST: Final = (2, 54)  # earlier versions have known security holes: CVE-2025-62593, CVE-2026-27482
_MISSING: Final = "[E401] the executor 'ray' needs Ray. Install it: pip install 'nodegraph[ray]'"
_SKIPPED: Final = "RAY_DEDUP_LOGS_SKIP_REGEX"  # what Ray does not print to stdout; it reads this when it is imported
_COPIED: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NODEGRAPH_PLUGIN_DIR")  # Ray sets the first one to 1


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where Ray is, and what the workers are.

    `address` is that of a cluster, or "auto"; without one, a Ray of this process starts on this machine. `workers` is how many
    actors; default: one for each GPU slot, or one for each machine without GPUs. `gpus_per_worker` may be a fraction. `labels`
    select machines of the cluster, as Ray's label selectors do: `{"ray.io/accelerator-type": "in(A100, H100)"}`. With
    `ship_models`, files that a machine lacks are sent to it. With `dashboard`, Ray's dashboard starts, too.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ship_models: bool = False
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
        try:
            self._take_stock()
        except DeviceError:
            self.close()
            raise

    def _take_stock(self) -> None:
        """Set how many workers there are to be. Raises DeviceError if there are no such machines, or too few."""
        options = self._options
        all_machines = [machine for machine in self.ray.nodes() if machine["Alive"]]
        machines = [machine for machine in all_machines if has_labels(machine.get("Labels", {}), options.labels)]
        if not machines:
            raise DeviceError(_no_machine(self.where, options.labels, [machine.get("Labels", {}) for machine in all_machines]))
        gpus = [float(machine["Resources"].get("GPU", 0)) for machine in machines]
        wanted = options.gpus_per_worker
        self.gpus = (1.0 if any(gpus) else 0.0) if wanted is None else float(wanted)
        if self.gpus:
            slots = most = sum(int(count / self.gpus + 1e-9) for count in gpus)
        else:
            slots = len(machines)
            most = sum(int(machine["Resources"].get("CPU", 0)) for machine in machines) if self.cpus else options.workers or slots
        self.count = options.workers or slots
        if self.count > most or not self.count:
            asked = max(self.count, 1)
            workers = f"{asked} worker{'s' if asked > 1 else ''} with {self.share}{' each' if asked > 1 else ''}"
            there = _counted(sum(gpus) if self.gpus else most, "GPU" if self.gpus else "CPU")
            also = f" on {len(machines)} machines, room for {most}" if self.gpus and len(machines) > 1 else ""
            labelled = " with these labels" if options.labels else ""
            way_out = "Ask for fewer workers" + (", or for --gpus-per-worker 0" if self.gpus else "")
            found = f"{'were' if asked > 1 else 'was'} asked for, and {self.where} has {there}{also}{labelled}"
            raise DeviceError(f"[E305] {workers} {found}. {way_out}")

    @property
    def cpus(self) -> int:
        """How many CPUs of the cluster an actor takes: none on one machine, whose owner has said how many workers there are."""
        return 0 if self._options.address is None else 1

    @property
    def share(self) -> str:
        """What each worker gets, in words."""
        return _counted(self.gpus, "GPU") if self.gpus else _counted(self.cpus, "CPU")

    @property
    def where(self) -> str:
        return "this machine" if self._options.address is None else f"the Ray cluster at {self._options.address}"

    def start(self, setup: bytes) -> Any:
        """Start an actor. It is there when its first method returns."""
        actor = self.ray.remote(concurrency_groups={"aside": 3})(Worker)  # `run` has one thread of its own
        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "max_restarts": -1,
            "enable_task_events": False,  # Ray would report each call to the head of the cluster
            "max_task_retries": 0,  # a unit that has lost its actor goes to another one; Ray would keep it for the same
        }
        if self._options.labels:
            # Ray takes "in(A, B)", and then waits forever for a machine with the label " B"
            options["label_selector"] = {name: "".join(value.split()) for name, value in self._options.labels.items()}
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
        except Exception as error:  # Ray raises this class itself, too
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
        raise SettingsError(_MISSING) from error
    version = tuple(int(number) for number in re.findall(r"\d+", ray.__version__)[:2])
    if version < _OLDEST:
        raise SettingsError(
            f"[E401] Ray {ray.__version__} has known security holes. Expected 2.54 or later: pip install 'nodegraph[ray]'"
        )
    return ray


def require_ray() -> None:
    """Raise SettingsError if Ray is not installed. Imports nothing."""
    if importlib.util.find_spec("ray") is None:
        raise SettingsError(_MISSING)


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a machine with these labels is one that Ray chooses for `wanted`.

    A value is that of the label, or `in(A, B)` for one of several; `!` before either means all others.
    """
    return all(_is_one_of(labels.get(name), condition) for name, condition in wanted.items())


def _is_one_of(label: str | None, condition: str) -> bool:
    text = condition.strip()
    is_inverted, text = text.startswith("!"), text.removeprefix("!").strip()
    listed = re.fullmatch(r"in\s*\((.*)\)", text)
    values = [value.strip() for value in listed[1].split(",")] if listed else [text]
    return (label in values) != is_inverted


def _no_machine(where: str, wanted: Mapping[str, str], found: Sequence[Mapping[str, str]]) -> str:
    asked = " and ".join(f"{name}={value}" for name, value in wanted.items())
    there = sorted({f"{name}={labels[name]}" for labels in found for name in wanted if name in labels})
    known = f"There are {', '.join(there)}" if there else "No machine has such a label"
    return f"[E305] {where} has no machine with the label {asked}. {known}. 'ray list nodes' shows all labels"


def _counted(value: float, what: str) -> str:
    number = str(int(value)) if value == int(value) else str(value)
    return f"{number} {what}{'' if value == 1 else 's'}"


__all__ = ["Cluster", "RayOptions", "WorkerSetup", "has_labels", "import_ray", "require_ray"]
