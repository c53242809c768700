"""The options of samplers, schedules and guidance: their keyword-only parameters with a default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

Range = tuple[float | None, float | None]
"""The smallest and the largest value of an option; None means no limit."""


def options_of(function: Callable[..., object]) -> dict[str, object]:
    """The options of a sampler, schedule or guidance, with their defaults."""
    return {name: parameter.default for name, parameter in _parameters(function).items()}


def check_options(kind: str, function: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raise ValueError unless `function` has each of `options`, and the values have their types.

    The type is the annotation's if that is a plain type or a Literal, else the default's. A whole number is accepted for a float.
    `kind` is "sampler", "schedule" or "guidance", for the message.
    """
    known = _parameters(function)
    name = getattr(function, "__name__", repr(function))
    for option, value in options.items():
        if option not in known:
            close = get_close_matches(option, known, n=1)
            available = f"it has {', '.join(sorted(known))}" if known else "it has none"
            hint = f"did you mean {close[0]!r}?" if close else "leave it out"
            raise ValueError(f"{kind} {name}: no option {option!r}; {available}; {hint}")
        parameter = known[option]
        if not any(_matches(value, expected) for expected in _expected_types(function, parameter)):
            expected = _expected_text(function, parameter)
            raise ValueError(
                f"{kind} {name}: option {option!r} expected {expected}, found {value!r}; {parameter.default!r} is the default"
            )


def check_ranges(kind: str, function: Callable[..., object], ranges: Mapping[str, Range], options: Mapping[str, object]) -> None:
    """Raise ValueError unless each number in `options` is in its range; `kind` as for `check_options`."""
    for option, (low, high) in ranges.items():
        value = options.get(option)
        if not isinstance(value, int | float) or ((low is None or value >= low) and (high is None or value <= high)):
            continue
        expected = f"of at least {low:g}" if high is None else f"of at most {high:g}"
        if low is not None and high is not None:
            expected = f"from {low:g} to {high:g}"
        name = getattr(function, "__name__", repr(function))
        raise ValueError(f"{kind} {name}: option {option!r} expected a number {expected}, found {value!r}")


def checked_ranges(function: Callable[..., Any], ranges: Mapping[str, Range] | None) -> dict[str, Range]:
    """`ranges` as a dict. Raises ValueError for a range of an option that `function` does not have."""
    known = options_of(function)
    for option in ranges or {}:
        if option not in known:
            available = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"expected ranges of options, found one for {option!r}; {available}")
    return dict(ranges or {})


def require_callable_with(function: Any, kind: str, arguments: tuple[str, ...], keywords: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless `function` can be called with these arguments and keywords, and its other parameters have defaults.

    `kind` as for `check_options`.
    """
    form = f"{kind}({', '.join(arguments)}{', *, ' if keywords else ''}{', '.join(keywords)}, **options)"
    if not callable(function):
        raise ValueError(f"expected a function {form}, found {type(function).__name__}")
    try:
        inspect.signature(function).bind(*arguments, **dict.fromkeys(keywords))
    except (TypeError, ValueError) as error:
        found = f"{getattr(function, '__name__', function)}{_signature_text(function)}"
        raise ValueError(
            f"expected a function {form}, whose options are keyword-only with defaults, found {found}: {error}"
        ) from error


def _signature_text(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def _annotation(function: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """The annotation of the parameter, or None if it is missing or cannot be evaluated without importing more."""
    if not isinstance(parameter.annotation, str):
        return None if parameter.annotation is parameter.empty else parameter.annotation
    try:
        return eval(parameter.annotation, inspect.unwrap(function).__globals__)  # what typing.get_type_hints does
    except Exception:  # a name that is imported for type checkers only
        return None


def _expected_types(function: Callable[..., object], parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The types, Literals or None that the option accepts; (object,) if nothing is known."""
    annotation = _annotation(function, parameter)
    if annotation is not None:
        if get_origin(annotation) is not None and hasattr(annotation, "__metadata__"):
            annotation = get_args(annotation)[0]  # Annotated[X, ...]
        parts = get_args(annotation) if get_origin(annotation) not in (Literal, list, tuple, dict) else ()
        return parts or (annotation,)
    return (object,) if parameter.default is None else (type(parameter.default),)


def _matches(value: object, expected: Any) -> bool:
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


def _expected_text(function: Callable[..., object], parameter: inspect.Parameter) -> str:
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", None: "nothing", type(None): "nothing"}
    parts = []
    for expected in _expected_types(function, parameter):
        if get_origin(expected) is Literal:
            parts.append(f"one of {', '.join(map(repr, get_args(expected)))}")
        else:
            parts.append(words.get(expected, getattr(expected, "__name__", str(expected))))
    return " or ".join(parts)
