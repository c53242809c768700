"""The library, which does not import the engine, and the engine agree on which values an option accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.node_types.port_types import fits
from nodegraph.node_types.signature import option_ports
from nodegraph.plugins.manager import Plugins
from nodegraph_diffusion.options import check_options

LEAVES = (int, float, bool, str, None, Any, object, Literal["euler", 2], Literal[1.0, True])
CHOICES = ("euler", 2, 1.0, 1, True, "")
PROBES = (None, True, 0, 3, 0.5, "text", "euler", [], [1], ["q"], [[0.5, 1]], [["q"]], [None], (1,), {"a": 1}, {})
FUNCTIONS = {
    f"{kind} {entry.name}": getattr(entry.value, "function", entry.value)
    for kind in ("samplers", "schedules", "guidance")
    for entry in Plugins().registries[kind].entries()
}


def composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        inner.map(lambda item: list[item]),
        inner.map(lambda item: dict[str, item]),
        inner.map(lambda item: tuple[item, ...]),
        st.tuples(inner, inner).map(lambda items: tuple[items]),
        st.tuples(inner, inner).map(lambda parts: Any if None in parts or Any in parts else parts[0] | parts[1]),
        inner.map(lambda item: Any if item in (None, Any) else item | None),
    )


TYPES = st.recursive(st.sampled_from(LEAVES), composed, max_leaves=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(CHOICES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


def function_with(annotation: Any) -> Callable[..., None]:
    def function(*, option=None):
        """Has one option."""

    function.__annotations__ = {"option": annotation}
    return function


def library_accepts(function: Callable[..., Any], option: str, value: Any) -> bool:
    try:
        check_options("sampler", function, {option: value})
    except ValueError:
        return False
    return True


def engine_accepts(function: Callable[..., Any], option: str, value: Any) -> bool:
    (port,) = [port for port in option_ports(function) if port.name == option]
    return fits(port.type, value)


@settings(max_examples=150, deadline=None)
@given(TYPES, VALUES, st.booleans())
def test_library_and_engine_accept_the_same_values(annotation, value, marked):
    function = function_with(Annotated[annotation, "a mark"] if marked else annotation)
    assert library_accepts(function, "option", value) == engine_accepts(function, "option", value)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_options_in_use_accept_the_same_values(name):
    function = FUNCTIONS[name]
    for port in option_ports(function):
        for value in (*PROBES, port.default):
            assert library_accepts(function, port.name, value) == engine_accepts(function, port.name, value), (port, value)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (list[int], ["q"], "list[int], found ['q']"),
        (list[list[float]] | None, [[0.5, None]], "list[list[float]] or nothing, found"),
        (str | list[str], [1], "text or list[str], found [1]"),
        (tuple[int, int], (1, 2, 3), "tuple[int, int], found (1, 2, 3)"),
        (Annotated[Literal[2, 3], "order"], 4, "one of 2, 3, found 4"),
    ],
)
def test_wrong_items_are_named_with_the_type(annotation, value, expected):
    with pytest.raises(ValueError, match="sampler function: option 'option' expected") as error:
        check_options("sampler", function_with(annotation), {"option": value})
    assert expected in str(error.value)
