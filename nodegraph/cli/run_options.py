"""The options that commands which run a workflow have in common: `run`, `sweep`, `watch`, `lock` and `verify`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.options import (
    Option,
    address_option,
    base_option,
    cache_dir_option,
    cache_remote_option,
    cache_size_option,
    device_option,
    dtype_option,
    executor_option,
    force_option,
    gpus_option,
    inline_option,
    label_option,
    open_option,
    out_option,
    overrides,
    overwrite_option,
    plugin_dir_option,
    preset_option,
    preview_option,
    set_option,
    ship_option,
    target_option,
    workers_option,
)
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.light_dataclass import dataclass

if TYPE_CHECKING:
    from nodegraph.cli.running import Display
    from nodegraph.graph.overrides import Override
    from nodegraph.plugins.manager import Plugins


_VERIFY: Final = "--verify-cache"


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    from nodegraph.settings import load_verify_share

    return None if value is None else load_verify_share(value.strip(), _VERIFY)


_verify_option: Option = click.option(
    _VERIFY,
    "verify",
    is_flag=False,
    flag_value="1",
    metavar="[SHARE]",
    callback=_share,
    help="Compute this share of the cached results again, such as 0.01, and compare; without SHARE, all of them. Replace those "
    "that differ, and exit with 3 then.  [env var: NODEGRAPH_VERIFY]",
)


@dataclass(frozen=True, kw_only=True)
class OptionValues:
    """What the command line gives for a run; an option that the command does not have has its default."""

    settings: Sequence[tuple[str, str]] = ()
    presets: Sequence[Path] = ()
    bases: Sequence[Path] = ()
    out: Path = Path("out")
    overwrite: bool = False
    targets: Sequence[str] = ()
    force: Sequence[str] = ()
    no_metadata: bool = False
    keep_going: bool = False
    cache_dir: Path | None = None
    cache_size: str | None = None
    verify: float | None = None
    locked: bool = False
    no_cache: bool = False
    device: str = "auto"
    dtype: str = "auto"
    preview: Path | None = None
    plugin_dirs: Sequence[Path] = ()
    inline: str | None = "never"
    opened: bool = False
    executor: str = "threads"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    worker_labels: Sequence[tuple[str, str]] = ()
    ship_models: bool = False
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.verify and self.no_cache:
            message = "--verify-cache checks results in the cache, which --no-cache does not read. Leave out one of them."
            raise click.UsageError(message)
        for_ray = (self.address, self.workers, self.gpus_per_worker is not None, self.worker_labels, self.ship_models)
        if self.executor != "ray" and any(for_ray):
            raise click.UsageError("--address, --workers, --gpus-per-worker, --worker-label and --ship-models need --executor ray.")

    def plugins(self, ctx: click.Context) -> Plugins:
        """The plugins of this call of the program."""
        return plugins_of(ctx, self.plugin_dirs)

    @property
    def changes(self) -> list[Override]:
        """The values of presets and of `--set`. Raises WorkflowError for a preset that is wrong."""
        return overrides(self.settings, self.presets)

    @property
    def display(self) -> Display:
        """What the run shows."""
        from nodegraph.cli.running import Display
        from nodegraph.cli.viewer import find_viewer
        from nodegraph.settings import load_inline

        return Display(
            quiet=self.quiet,
            verbose=self.verbose,
            as_json=self.as_json,
            preview=self.preview,
            inline=load_inline(self.inline),
            viewer=find_viewer() if self.opened else None,
        )

    @property
    def engine_options(self) -> dict[str, Any]:
        """The options of the `Engine`."""
        from nodegraph.cli.running import cache_options

        cache = cache_options(self.cache_dir, self.cache_size, no_cache=self.no_cache)
        return {"device": self.device, "dtype": self.dtype, **cache, **self._workers}

    @property
    def _workers(self) -> dict[str, Any]:
        """Where nodes run, if it is not this process."""
        if self.executor != "ray":
            return {}
        from nodegraph.run.workers.ray.workers import RayWorkers

        return {
            "workers": RayWorkers(
                self.address,
                workers=self.workers,
                gpus_per_worker=self.gpus_per_worker,
                labels=dict(self.worker_labels),
                ship_models=self.ship_models,
                previews=self.preview is not None,
            )
        }

    @property
    def run_options(self) -> dict[str, Any]:
        """The options of `Engine.run`, except for values."""
        return {
            "targets": self.targets or None,
            "force": self.force,
            "keep_going": self.keep_going,
            "out": self.out,
            "overwrite": self.overwrite,
            "verify": self.verify,
            "locked": self.locked,
            "metadata": not self.no_metadata,
        }


class RunCommand(ExtensibleCommand):
    """A command with `--verify-cache [SHARE]`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_share(args))


_HELP: Final[Mapping[str, str]] = {
    "no_metadata": "Write outputs that do not say how they were made.",
    "keep_going": "If a node fails, still run every node that does not depend on it.",
    "locked": "Run only if models, files, versions and the workflow match the lock file of FILE.",
    "no_cache": "Do not read or write the cache on disk.",
    "as_json": "Print JSON instead of text.",
    "quiet": "Show no progress and no notes on stderr.",
    "verbose": "Show the keys of nodes, and a traceback of every failure.",
}


def _flag(*names: str) -> Callable[[str], Option]:
    return lambda help: click.option(*names, is_flag=True, help=help)


_OPTIONS: Final[Mapping[str, Option | Callable[[str], Option]]] = {
    "settings": set_option,
    "presets": preset_option,
    "bases": base_option,
    "out": out_option,
    "overwrite": overwrite_option,
    "targets": target_option,
    "force": force_option,
    "no_metadata": _flag("--no-metadata"),
    "keep_going": _flag("--keep-going"),
    "cache_dir": cache_dir_option,
    "cache_size": cache_size_option,
    "cache_remote": cache_remote_option,
    "verify": _verify_option,
    "locked": _flag("--locked"),
    "no_cache": _flag("--no-cache"),
    "device": device_option,
    "dtype": dtype_option,
    "preview": preview_option,
    "plugin_dirs": plugin_dir_option,
    "executor": executor_option,
    "address": address_option,
    "workers": workers_option,
    "gpus_per_worker": gpus_option,
    "worker_labels": label_option,
    "ship_models": ship_option,
    "inline": inline_option,
    "opened": open_option,
    "as_json": _flag("--json", "as_json"),
    "quiet": _flag("-q", "--quiet"),
    "verbose": verbose_option,
}
"""By the fields of `OptionValues`, in the order of the help. Those with a text in `_HELP` are made with it.

"cache_remote" has no field: it counts for all that the command does.
"""

ON_WORKERS: Final = ("executor", "address", "workers", "gpus_per_worker", "worker_labels", "ship_models")
"""Those that say where nodes run."""

ON_A_MACHINE: Final = ("cache_dir", "cache_size", "cache_remote", "device", "dtype", "plugin_dirs", "quiet", "verbose")
"""The options of whatever computes."""

AGAIN_AND_AGAIN: Final = (
    *ON_A_MACHINE,
    *("settings", "presets", "out", "overwrite", "targets", "keep_going", "no_cache", "preview", "inline"),
)
"""Those of a run that is repeated by itself."""

ALL: Final = tuple(_OPTIONS)
"""Those of `run`."""


def run_options(names: Sequence[str], **help: str) -> Option:
    """Add these options to a command, whose function receives all of them as `options`; `help` replaces the help of some."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_options(*args: Any, **values: Any) -> Any:
            options = OptionValues(**{field.name: values.pop(field.name) for field in fields(OptionValues) if field.name in values})
            return function(*args, options=options, **values)

        command: Callable[..., Any] = with_options
        for name in reversed(ALL):
            if name in names:
                option: Any = _OPTIONS[name]
                command = (option(help.get(name, _HELP[name])) if name in _HELP else option)(command)
        return command

    return decorate


def _with_share(args: Sequence[str]) -> list[str]:
    """`args`, in which the word after `--verify-cache` is joined to it, unless it is an option or the workflow file."""
    joined: list[str] = []
    for word in args:
        if joined[-1:] != [_VERIFY]:
            joined.append(word)
        elif _is_number(word) or not (word.startswith("-") or _is_file(word)):
            joined[-1] = f"{_VERIFY}={word}"
        else:
            joined[-1:] = [f"{_VERIFY}=1", word]
    return [
        word.replace("=-", "= -") if word.startswith(f"{_VERIFY}=-") else word for word in joined
    ]  # click takes -1 for an option


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_file(word: str) -> bool:
    path = Path(word)
    return path.suffix in (".yaml", ".yml", ".json") or path.exists()
