"""What a worker in another process needs to run the nodes of an engine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nodegraph.cache.cache import Cache
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.store.opening import open_store
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.manager import Plugins
from nodegraph.run.device import kind_of_machine, resolve
from nodegraph.run.events import Event
from nodegraph.run.model_memory import ModelMemory
from nodegraph.run.tasks.task import RunContext
from nodegraph.settings import Remote, Settings


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """The engine's settings, as plain data.

    `remote` is the shared store, if there is one. `plugin_dirs` are all folders of plugins, also those that the user has set.
    """

    cache_dir: Path
    remote: Remote | None = None
    plugin_dirs: tuple[Path, ...]
    device: str
    dtype: str
    model_memory: int | None = None

    def context(self) -> RunContext:
        """What the nodes of a worker work with, in this process. Raises PluginError if plugins cannot be loaded."""
        plugins, settings = Plugins(self.plugin_dirs), Settings(cache_dir=self.cache_dir, cache_size=None)
        files = FileDigests(self.cache_dir / "files.jsonl")
        memo = self.cache_dir / "numerics.json"
        return RunContext(
            cache=Cache(
                plugins.codecs, open_store(settings, self.remote, warn=_ignore), version=plugins.backend.version, files=files
            ),
            plugins=plugins,
            files=files,
            models=ModelMemory(plugins.backend, self.model_memory),
            numerics=cache(lambda: resolve(plugins.backend, self.device, self.dtype, memo)),
            emit=_drop,
            machine=kind_of_machine(plugins.backend),
            overlapped=lambda: True,  # other processes work on the same results: look once more before computing
        )


def _ignore(message: str) -> None:
    """Trouble with the cache shows in the process of the run, which reads what workers store."""


def _drop(event: Event) -> None:
    """The events of nodes go through their task; those of a run are not a worker's."""
