"""The options of samplers, schedules and guidance: their keyword-only parameters that have a default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args, get_origin

Range = tuple[float | None, float | None]
"""The least and the largest value that an option takes; None is open."""

AT_LEAST_0: Final[Range] = (0.0, None)
NOISE: Final = {"eta": AT_LEAST_0, "s_noise": AT_LEAST_0}
"""The ranges of what most samplers that draw noise are told."""


def options_of(function: Callable[..., object]) -> dict[str, object]:
    """The options that a sampler, schedule or guidance has, with their defaults."""
    return {name: parameter.default for name, parameter in _parameters(function).items()}


def check_options(kind: str, function: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raise ValueError unless each of `options` is one that `function` has, and of its type.

    The type is the annotation's where that is a plain one or a Literal, else the default's; a whole number does for a number.
    `kind` is "sampler", "schedule" or "guidance", for the message.
    """
    known = _parameters(function)
    name = getattr(function, "__name__", repr(function))
    for option, value in options.items():
        if option not in known:
            close = get_close_matches(option, known, n=1)
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            hint = f"did you mean {close[0]!r}?" if close else "leave it out"
            raise ValueError(f"{kind} {name}: no option {option!r}; {has}; {hint}")
        parameter = known[option]
        if not any(_fits(value, expected) for expected in _expected(function, parameter)):
            wanted = _wanted(function, parameter)
            raise ValueError(
                f"{kind} {name}: option {option!r} expected {wanted}, found {value!r}; {parameter.default!r} is the default"
            )


def check_ranges(kind: str, function: Callable[..., object], ranges: Mapping[str, Range], options: Mapping[str, object]) -> None:
    """Raise ValueError unless each of `options` that is a number lies in its range; `kind` as for `check_options`."""
    for option, (low, high) in ranges.items():
        value = options.get(option)
        if not isinstance(value, int | float) or ((low is None or value >= low) and (high is None or value <= high)):
            continue
        expected = f"of at least {low:g}" if high is None else f"of at most {high:g}"
        if low is not None and high is not None:
            expected = f"from {low:g} to {high:g}"
        name = getattr(function, "__name__", repr(function))
        raise ValueError(f"{kind} {name}: option {option!r} expected a number {expected}, found {value!r}")


def require_at_least_0(sampler: str, **options: float) -> None:
    """Raise ValueError where one of these amounts (an eta, an s_noise) is negative; `sampler` is its name, for the message."""
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(
                f"sampler {sampler}: expected {name} of at least 0, found {value}; 1 is the usual amount of noise, 0 is none"
            )


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def _annotation(function: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """What the parameter is annotated with, or None where that cannot be known without importing more."""
    if not isinstance(parameter.annotation, str):
        return None if parameter.annotation is parameter.empty else parameter.annotation
    try:
        return eval(parameter.annotation, inspect.unwrap(function).__globals__)  # what typing.get_type_hints does
    except Exception:  # a name that is imported for type checkers only
        return None


def _expected(function: Callable[..., object], parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The types, or the values, of which the option takes any; (object,) where nothing is known."""
    annotation = _annotation(function, parameter)
    if annotation is not None:
        if get_origin(annotation) is not None and hasattr(annotation, "__metadata__"):
            annotation = get_args(annotation)[0]  # Annotated[X, ...]
        parts = get_args(annotation) if get_origin(annotation) not in (Literal, list, tuple, dict) else ()
        return parts or (annotation,)
    return (object,) if parameter.default is None else (type(parameter.default),)


def _fits(value: object, expected: Any) -> bool:
    if get_origin(expected) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(expected))
    if expected is None:
        return value is None
    kind = get_origin(expected) or expected
    if not isinstance(kind, type):
        return True
    if isinstance(value, bool) and kind in (int, float):
        return False
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _wanted(function: Callable[..., object], parameter: inspect.Parameter) -> str:
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", None: "nothing", type(None): "nothing"}
    said = []
    for expected in _expected(function, parameter):
        if get_origin(expected) is Literal:
            said.append(f"one of {', '.join(map(repr, get_args(expected)))}")
        else:
            said.append(words.get(expected, getattr(expected, "__name__", str(expected))))
    return " or ".join(said)
