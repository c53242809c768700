"""What a plugin registers, as the engine would see it, for the plugin's own tests."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from nodegraph_diffusion.sampling import SamplerSpec


def registered(plugin: ModuleType, kind: str) -> dict[str, Any]:
    """What the module's hook `register_<kind>` registers, by name; a sampler as the `SamplerSpec` of what is declared of it.

    Raises AssertionError where it has no such hook.
    """
    hook = getattr(plugin, f"register_{kind}", None)
    if hook is None:
        raise AssertionError(f"expected a hook register_{kind} in {plugin.__name__}, found none")
    found: dict[str, Any] = {}

    def register(name: str, value: Any, **declared: Any) -> None:
        spec = kind == "samplers" and not isinstance(value, SamplerSpec)
        found[name] = SamplerSpec(value, **declared) if spec else value

    hook(register)
    return found
