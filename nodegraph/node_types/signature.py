"""Reads the signature of a decorated function: its parameters are the inputs of a node type, what it returns its outputs."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from nodegraph.errors import NodegraphError
from nodegraph.node_types import literals
from nodegraph.node_types.literals import LiteralError
from nodegraph.node_types.port_types import Class, has_marks, parse, without_marks
from nodegraph.node_types.spec import (
    MISSING,
    RANDOM,
    SINGLE_OUTPUT,
    Choice,
    Continues,
    Help,
    NodeSpec,
    OptionsOf,
    Port,
    RandomSeed,
    Range,
    Reads,
    Run,
)
from nodegraph.text import described

_MARKS: Final = (Help, Range, Choice, OptionsOf, Reads, RandomSeed, Continues)
_SPEC: Final = "__nodegraph_spec__"  # where a function keeps its node type: a second engine does not read the signature again
_RESERVED: Final = {
    "use": "the type",
    "name": "the name",
    "each": "the lists",
    "repeat": "the number of repetitions",
    "takes": "the time",
}


class SignatureError(NodegraphError):
    """A function cannot be a node type."""


def spec_of(function: Callable[..., Any]) -> NodeSpec:
    """The node type that a decorated function describes. Raises SignatureError if its signature cannot be one."""
    declared = getattr(function, "__nodegraph__", None)
    name = getattr(function, "__qualname__", described(function))
    if declared is None:
        raise SignatureError(f"{name} is not a node type. Decorate it with @node('Name') before it is registered")
    known: tuple[Any, Any, NodeSpec] | None = getattr(function, _SPEC, None)
    if known and known[0] is function and known[1] is declared:  # functools.wraps copies attributes to another function
        return known[2]
    try:
        spec = _spec(function, declared)
    except SignatureError as error:
        raise SignatureError(f"node type '{declared['name']}' ({name}): {error}") from error
    with contextlib.suppress(AttributeError):  # of a callable that takes no attributes
        setattr(function, _SPEC, (function, declared, spec))
    return spec


def option_ports(function: Callable[..., Any]) -> tuple[Port, ...]:
    """The options of a registered function: its parameters that have a default, as inputs.

    A parameter without an annotation, or with one that cannot be evaluated at run time, has the type of its default. `ranges` of
    the function holds the least and the largest value of some.
    """
    ports = []
    ranges = getattr(function, "ranges", {})
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in by_name and parameter.default is not parameter.empty:
            hint = _option_hint(function, parameter)
            port = _port(parameter.name, hint, parameter.default)
            ports.append(replace(port, range=Range(*ranges[port.name])) if port.name in ranges else port)
    return tuple(ports)


def _option_hint(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    hint = parameter.annotation
    if isinstance(hint, str):
        try:
            hint = eval(hint, getattr(inspect.unwrap(function), "__globals__", {}))  # as typing.get_type_hints does
        except Exception:
            hint = parameter.empty
    if hint is parameter.empty:
        return Any if parameter.default is None else type(parameter.default)
    return hint


def _spec(function: Callable[..., Any], declared: Mapping[str, Any]) -> NodeSpec:
    hints = _hints(function)
    inputs: list[Port] = []
    run_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise SignatureError(f"parameter '{name}' cannot be given by its name. Expected named parameters only")
        if name not in hints:
            raise SignatureError(f"parameter '{name}' has no type. Annotate it")
        if any(isinstance(part, Class) and part.cls is Run for part in parse(hints[name]).alternatives):
            run_parameter = name
            continue
        if name in _RESERVED:
            raise SignatureError(
                f"a parameter cannot be called '{name}': in a workflow that is {_RESERVED[name]} of the node. Rename it"
            )
        port = _port(name, hints[name], MISSING if parameter.default is parameter.empty else parameter.default)
        _check_default(port)
        inputs.append(port)
    if hints.get("return", type(None)) is type(None):
        raise SignatureError("it returns nothing. Annotate what it returns")
    _check_attempts(declared, run_parameter)
    if run_parameter is None and (marked := next((port.name for port in inputs if port.continues), None)):
        raise SignatureError(f"'{marked}' is marked Continues, but there is no parameter of type Run, which has the work folder")
    return NodeSpec(
        function=function,
        inputs=tuple(inputs),
        outputs=_outputs(hints["return"]),
        doc=inspect.cleandoc(function.__doc__ or ""),
        run_parameter=run_parameter,
        **declared,
    )


def _check_attempts(declared: Mapping[str, Any], run_parameter: str | None) -> None:
    timeout, retries = declared.get("timeout"), declared.get("retries", 0)
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise SignatureError(f"its timeout is {described(timeout)}. Expected a positive number of seconds")
        if run_parameter is None:
            raise SignatureError("it has a timeout, but no parameter of type Run. It is stopped when it calls run.step")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise SignatureError(f"its retries are {described(retries)}. Expected a whole number, at least 0")


def _hints(annotated: Any) -> dict[str, Any]:
    """The types of a function's parameters and of what it returns, or of a class's attributes."""
    try:
        if isinstance(annotated, types.FunctionType) and vars(annotated).keys().isdisjoint(("__wrapped__", "__no_type_check__")):
            return _function_hints(annotated)
        return typing.get_type_hints(annotated, include_extras=True)
    except NameError as error:
        hint = "Its module must import the types of its signature outside TYPE_CHECKING"
        raise SignatureError(f"{error}. {hint}") from error
    except Exception as error:  # an annotation is any expression
        raise SignatureError(f"its annotations cannot be read ({type(error).__name__}: {error})") from error


def _function_hints(function: types.FunctionType) -> dict[str, Any]:
    """What `typing.get_type_hints` returns. Names of classes, which most annotations are, are looked up and not compiled."""
    hints: dict[str, Any] = {}
    others: dict[str, Any] = {}
    known = function.__globals__
    for name, hint in function.__annotations__.items():
        found = known.get(hint) or getattr(builtins, hint, None) if isinstance(hint, str) else None
        if type(found) is type:
            hints[name] = found
        else:
            others[name] = hint
    if others:
        rest = types.SimpleNamespace(__annotations__=others)
        hints |= typing.get_type_hints(rest, function.__globals__, include_extras=True)
    return hints


def _port(name: str, hint: Any, default: Any = MISSING) -> Port:
    kind, marks = without_marks(hint)
    if has_marks(kind):
        raise SignatureError(f"'{name}' has Annotated inside another type. Write Annotated[TYPE, ...] around the whole")

    found: dict[type, Any] = {cls: mark for mark in marks for cls in _MARKS if isinstance(mark, cls)}  # the last of each class
    return Port(
        name=name,
        type=kind,
        default=default,
        help=found[Help].text if Help in found else "",
        range=found.get(Range),
        choice=found.get(Choice),
        options_of=found.get(OptionsOf),
        reads=found.get(Reads),
        seed=RandomSeed in found,
        continues=Continues in found,
    )


def _check_default(port: Port) -> None:
    if port.required or (port.seed and port.default == RANDOM):
        return
    try:
        literals.check_range(port, literals.coerce(port.type, port.default))
    except LiteralError as error:
        raise SignatureError(f"the default of '{port.name}' is wrong: {error}") from error


def _outputs(hint: Any) -> tuple[Port, ...]:
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = _hints(hint)
        if not fields:
            raise SignatureError(f"the outputs of {hint.__name__} have no types. Write it as a class of typing.NamedTuple")
        return tuple(_port(name, kind) for name, kind in fields.items())
    return (_port(SINGLE_OUTPUT, hint),)
