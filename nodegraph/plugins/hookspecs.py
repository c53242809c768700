"""The hooks. A plugin implements those it needs, decorated with `nodegraph.hookimpl`.

A hook named `register_<kind>` receives `register`; the host decides about names and collisions. A pack may add hooks
of its own domain with `add_hooks`: each further `register_<kind>` makes a registry of that kind, which node inputs refer to as
`Choice("<kind>")` and `nodegraph <kind>` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from nodegraph.plugins.codecs import Codec
    from nodegraph.run.events import Event

hookspec = pluggy.HookspecMarker("nodegraph")
hookimpl = pluggy.HookimplMarker("nodegraph")


@hookspec(historic=True)
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    """Add hooks of a domain: call `pluginmanager.add_hookspecs(module)`."""


@hookspec
def register_nodes(register: Callable[[Callable[..., Any]], None]) -> None:
    """Offer node types: `register(function)` for each function decorated with `@node`."""


@hookspec
def register_codecs(register: Callable[[type, Codec], None]) -> None:
    """Say how values of a port type are stored and exported: `register(type, codec)`."""


@hookspec(firstresult=True)
def registered(kind: str, name: str, value: Any, declared: Mapping[str, Any]) -> Any:
    """Look at what a plugin registers in the registry `kind` of a pack, with `register(name, value, **declared)`.

    Gives what stands there in its place, or None for itself. ValueError refuses it, with the reason.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to the command line: decorate functions with `@cli.command()`."""


@hookspec
def on_event(event: Event) -> None:
    """Hear what happens while a run goes on; see `nodegraph.run.events`. What is raised here is a warning, not a failure."""


@hookspec(firstresult=True)
def numerics_fingerprint() -> str | None:
    """What the meaning of device and dtype `auto` hangs on, told cheaply: versions of library and driver, CPU, visible devices."""


@hookspec(firstresult=True)
def resolve_numerics(device: str, dtype: str) -> Mapping[str, str] | None:
    """What `device` and `dtype` mean on this machine: {"device", "dtype", "class"}; `class` goes into the keys of numeric nodes."""


@hookspec(firstresult=True)
def is_out_of_memory(error: BaseException) -> bool | None:
    """Whether `error` says that an accelerator, or the machine, ran out of memory. None: not known here."""


@hookspec
def free_memory() -> None:
    """Give back memory that can be given back (caches of an allocator)."""


@hookspec(firstresult=True)
def memory_of(value: Any) -> Mapping[tuple[str, int], int] | None:
    """The bytes of a loaded model's blocks of memory, by place ("cpu", "cuda:0") and address. None: not known here."""


@hookspec(firstresult=True)
def memory_budget(place: str) -> int | None:
    """How many bytes of models may stay in an accelerator's memory. None: as many as in main memory."""


@hookspec(firstresult=True)
def moved(value: Any, place: str) -> Any:
    """A loaded model like `value` whose memory lies in `place`; `value` itself stays as it is. None: it cannot be moved."""


@hookspec(firstresult=True)
def load_preview_decoder(path: Path) -> Callable[[Callable[[], Any]], Any] | None:
    """A better eye for previews, from what lies at `path`: given a `NodeProgress.preview`, it makes the value to look at.

    Nothing heavy is loaded before it is first called. ValueError says that nothing at `path` can be used or, from the function
    itself, that it is not for this preview. None: not known here.
    """
