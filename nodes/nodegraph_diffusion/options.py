"""The options of samplers, schedules and guidance: their keyword-only parameters with a default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, UnionType
from typing import Annotated, Any, Final, Literal, TypeGuard, Union, get_args, get_origin

Range = tuple[float | None, float | None]
"""The smallest and the largest value of an option; None means no limit."""

_WORDS: Final[Mapping[Any, str]] = {
    Any: "anything",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
    None: "nothing",
    type(None): "nothing",
}


def options_of(function: Callable[..., object]) -> dict[str, object]:
    """The options of a sampler, schedule or guidance, with their defaults."""
    if _is_plain(function):
        return dict(function.__kwdefaults__ or {})
    return {name: parameter.default for name, parameter in _parameters(function).items()}


def check_options(kind: str, function: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raise ValueError unless `function` has each of `options`, and the values have their types.

    The type is the annotation, or the default's if there is none that can be evaluated. Items of lists, tuples and mappings are
    checked, too. A whole number is accepted for a float. `kind` is "sampler", "schedule" or "guidance", for the message.
    """
    known = _parameters(function)
    name = name_of(function)
    for option, value in options.items():
        if option not in known:
            from difflib import get_close_matches

            close = get_close_matches(option, known, n=1)
            available = f"it has {', '.join(sorted(known))}" if known else "it has none"
            hint = f"did you mean {close[0]!r}?" if close else "leave it out"
            raise ValueError(f"{kind} {name}: no option {option!r}; {available}; {hint}")
        parameter = known[option]
        option_type = _option_type(function, parameter)
        if not _fits(option_type, value):
            expected = _type_text(option_type)
            raise ValueError(
                f"{kind} {name}: option {option!r} expected {expected}, found {value!r}. "
                f"Leave it out for the default, {parameter.default!r}"
            )


def check_ranges(kind: str, function: Callable[..., object], ranges: Mapping[str, Range], options: Mapping[str, object]) -> None:
    """Raise ValueError unless each number in `options` is in its range.

    `kind` is "sampler", "schedule" or "guidance", for the message.
    """
    for option, (low, high) in ranges.items():
        value = options.get(option)
        if not isinstance(value, int | float) or ((low is None or value >= low) and (high is None or value <= high)):
            continue
        expected = f"of at least {low:g}" if high is None else f"of at most {high:g}"
        if low is not None and high is not None:
            expected = f"from {low:g} to {high:g}"
        name = name_of(function)
        raise ValueError(f"{kind} {name}: option {option!r} expected a number {expected}, found {value!r}")


def checked_ranges(function: Callable[..., Any], ranges: Mapping[str, Range] | None) -> dict[str, Range]:
    """`ranges` as a dict. Raises ValueError for a range of an option that `function` does not have."""
    known = options_of(function) if ranges else {}
    for option in ranges or {}:
        if option not in known:
            available = f"it has {', '.join(known)}" if known else "it has none"
            raise ValueError(f"expected ranges of options, found one for {option!r}; {available}")
    return dict(ranges or {})


def name_of(function: Any) -> str:
    """The name of a function, or what `repr` says of another thing that can be called."""
    return str(getattr(function, "__name__", repr(function)))


def require_callable_with(function: Any, kind: str, arguments: tuple[str, ...], keywords: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless `function` can be called with these arguments and keywords, and its other parameters have defaults.

    `kind` is "sampler", "schedule" or "guidance", for the message.
    """
    if _is_plain(function):
        code, options = function.__code__, function.__kwdefaults__ or {}
        required = set(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]) - options.keys()
        if code.co_argcount == len(arguments) and required == {*keywords}:
            return
    form = f"{kind}({', '.join(arguments)}{', *, ' if keywords else ''}{', '.join(keywords)}, **options)"
    if not callable(function):
        raise ValueError(f"expected a function {form}, found {type(function).__name__}")
    try:
        inspect.signature(function).bind(*arguments, **dict.fromkeys(keywords))
    except (TypeError, ValueError) as error:
        found = f"{name_of(function)}{_signature_text(function)}"
        raise ValueError(
            f"expected a function {form}, whose options are keyword-only with defaults, found {found}: {error}"
        ) from error


def _is_plain(function: object) -> TypeGuard[FunctionType]:
    """Whether a function has the parameters of its code. They are read at every start, for which `inspect.signature` is slow."""
    return isinstance(function, FunctionType) and vars(function).keys().isdisjoint(("__wrapped__", "__signature__"))


def _signature_text(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def _option_type(function: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """The annotation of the parameter; the type of its default if that is missing or names what only type checkers import."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, inspect.unwrap(function).__globals__)  # what typing.get_type_hints does
        except Exception:
            annotation = parameter.empty
    if annotation is parameter.empty:
        return Any if parameter.default is None else type(parameter.default)
    return annotation


def _fits(option_type: Any, value: Any) -> bool:
    """Whether `value` is of the type, its items included. A whole number is a float; a boolean is not a number."""
    origin, arguments = get_origin(option_type), get_args(option_type)
    if option_type is Any:
        return True
    if option_type is None:
        return value is None
    if origin is Annotated:
        return _fits(arguments[0], value)
    if origin in (Union, UnionType):
        return any(_fits(part, value) for part in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    cls = origin or option_type
    if isinstance(value, bool) and cls in (int, float):
        return False
    if cls is float and isinstance(value, int):
        return True
    try:
        return isinstance(value, cls) and _items_fit(cls, arguments, value)
    except TypeError:  # a protocol that cannot be checked
        return value is not None


def _items_fit(cls: type, arguments: tuple[Any, ...], value: Any) -> bool:
    """Whether the items of a list, tuple or mapping are of the types in `arguments`; those of other classes are not checked."""
    if not arguments:
        return True
    if cls is list:
        return all(_fits(arguments[0], item) for item in value)
    if cls is dict:
        return all(_fits(arguments[1], item) for item in value.values())
    if cls is tuple:
        types = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(types) == len(value) and all(map(_fits, types, value))
    return True


def _type_text(option_type: Any) -> str:
    origin, arguments = get_origin(option_type), get_args(option_type)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(map(_type_text, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is None and option_type in _WORDS:
        return _WORDS[option_type]
    return str(option_type) if origin else getattr(option_type, "__name__", str(option_type))
