"""The options of samplers and schedules: their keyword-only parameters that have a default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches


def options_of(function: Callable[..., object]) -> dict[str, object]:
    """The options that a sampler or schedule has, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def check_options(kind: str, function: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raise ValueError unless each of `options` is one that `function` has, of the type of its default.

    A whole number does where the default is not one; `kind` is "sampler" or "schedule", for the message.
    """
    known = options_of(function)
    name = getattr(function, "__name__", repr(function))
    for option, value in options.items():
        if option not in known:
            close = get_close_matches(option, known, n=1)
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            hint = f"did you mean {close[0]!r}?" if close else "leave it out"
            raise ValueError(f"{kind} {name}: no option {option!r}; {has}; {hint}")
        default = known[option]
        expected = (int, float) if isinstance(default, float) else type(default)
        is_bool = isinstance(value, bool) and not isinstance(default, bool)
        if default is not None and (is_bool or not isinstance(value, expected)):
            wanted = "a number" if isinstance(default, float) else f"a value like {default!r}"
            raise ValueError(f"{kind} {name}: option {option!r} expected {wanted}, found {value!r}; {default!r} is the default")
