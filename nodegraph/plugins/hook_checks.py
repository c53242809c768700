"""Mistakes in the hooks of a plugin that would otherwise have no message, or one that is hard to understand."""

from __future__ import annotations

import inspect
from typing import Any, Final

import pluggy

REGISTER: Final = "register_"
"""How the names of hooks begin that register things."""


def specified(manager: pluggy.PluginManager) -> dict[str, Any]:
    """All specified hooks, by name."""
    return {name: hook for name, hook in vars(manager.hook).items() if getattr(hook, "spec", None)}


def wrong_arguments(manager: pluggy.PluginManager, module: Any) -> str:
    """A description of the first hook in `module` that has a parameter which the hook does not pass; "" if there is none."""
    hooks = specified(manager)
    for name in filter(hooks.__contains__, dir(module)):
        passed = hooks[name].spec.argnames
        signature = inspect.signature(getattr(module, name))
        unknown = [parameter for parameter in signature.parameters if parameter not in passed]
        if unknown:
            which = f"{'a parameter' if len(unknown) == 1 else 'parameters'} {' and '.join(map(repr, unknown))}"
            return f"its hook {name}{signature} has {which}. Expected {' and '.join(passed) or 'no parameters'}"
    return ""


def undecorated(manager: pluggy.PluginManager, module: Any) -> list[str]:
    """The functions of `module` that have the name of a `register_...` hook but are not decorated."""
    implemented = {hook.name for hook in manager.get_hookcallers(module) or ()}
    named = ((name, vars(module).get(name)) for name in specified(manager) if name.startswith(REGISTER))
    return [name for name, function in named if inspect.isfunction(function) and name not in implemented]
