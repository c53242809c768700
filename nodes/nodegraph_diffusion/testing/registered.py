"""What a plugin registers, for the tests of the plugin."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from nodegraph_diffusion.guidance import GuidanceSpec
from nodegraph_diffusion.sampling import SamplerSpec
from nodegraph_diffusion.schedules import ScheduleSpec

_SPECS: dict[str, Any] = {"samplers": SamplerSpec, "schedules": ScheduleSpec, "guidance": GuidanceSpec}


def registered(plugin: ModuleType, kind: str) -> dict[str, Any]:
    """What the module's hook `register_<kind>` registers, by name, with its description (a `SamplerSpec` for a sampler).

    Raises AssertionError if it has no such hook.
    """
    hook = getattr(plugin, f"register_{kind}", None)
    if hook is None:
        raise AssertionError(f"expected a hook register_{kind} in {plugin.__name__}, found none")
    found: dict[str, Any] = {}

    def register(name: str, value: Any, **declared: Any) -> None:
        spec = _SPECS.get(kind)
        found[name] = value if spec is None or isinstance(value, spec) else spec(value, **declared)

    hook(register)
    return found
