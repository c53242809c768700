"""`node` turns a typed function into a node type."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional

import pytest

from nodegraph import Choice, File, Help, Range, Reads, Resource, Run, Seed, node
from nodegraph.node_types.signature import SignatureError, spec_of
from nodegraph.node_types.spec import MISSING, under

if TYPE_CHECKING:
    from decimal import Decimal


class Cup:
    pass


class Served(NamedTuple):
    cup: Annotated[Cup, Help("warm")]
    degrees: int = 90


Untyped = collections.namedtuple("Untyped", "a b")


shelf = Reads(lambda text, base: Resource(text, {}))
Warm = Annotated[float, Range(0, 100), Help("degrees")]


class Hidden(NamedTuple):
    value: Decimal


def problem(function: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        spec_of(function)
    return str(caught.value)


def test_function_becomes_a_node_type():
    @node("Brew", version=3)
    def brew(text: str, minutes: Annotated[float, Range(0.5, 10), Help("how long")] = 3, run: Run = Run()) -> Cup:
        """Make tea.

        Slowly.
        """
        return Cup()

    spec = spec_of(brew)
    assert (spec.name, spec.version, spec.function, spec.pure, spec.numeric, spec.check) == ("Brew", 3, brew, True, False, None)
    assert spec.doc == "Make tea.\n\nSlowly."
    assert spec.run_parameter == "run"
    text, minutes = spec.inputs
    assert (text.name, text.type, text.default, text.required) == ("text", str, MISSING, True)
    assert (minutes.type, minutes.default, minutes.range, minutes.help) == (float, 3, Range(0.5, 10), "how long")
    assert [(output.name, output.type) for output in spec.outputs] == [("output", Cup)]
    assert isinstance(brew("green"), Cup)
    assert spec.input("minutes") is minutes
    assert spec.input("run") is None
    assert repr(MISSING) == "MISSING"


def test_default_name_is_the_function_name():
    @node
    def steep(text: str = "") -> str:
        return text

    @node("Chance", pure=False, numeric=True, check=lambda **literals: [])
    def chance() -> int:
        return 4

    assert (spec_of(steep).name, spec_of(steep).doc, spec_of(steep).run_parameter) == ("steep", "", None)
    spec = spec_of(chance)
    assert (spec.pure, spec.numeric, spec.check is not None, spec.inputs) == (False, True, True, ())


def test_named_tuple_makes_several_outputs():
    @node("Serve")
    def serve() -> Served:
        return Served(Cup())

    spec = spec_of(serve)
    assert [(output.name, output.type, output.help) for output in spec.outputs] == [("cup", Cup, "warm"), ("degrees", int, "")]
    assert spec.output() is None
    assert spec.output("degrees") is spec.outputs[1]
    assert spec.output("cups") is None


def test_one_output_needs_no_name():
    @node("Cup")
    def cup() -> Cup | None:
        return None

    spec = spec_of(cup)
    assert spec.output() is spec.output("output") is spec.outputs[0]
    assert spec.outputs[0].type == Cup | None


def test_annotations_declare_ports():
    @node("All")
    def everything(
        tea: Annotated[str, Choice("teas")],
        path: File,
        seed: Seed,
        tin: Annotated[str, shelf],
        warm: Annotated[Warm, Help("warmer")],
        cloth: File | None = None,
        other: Annotated[str, Choice("teas")] | None = None,
        old: Optional[Warm] = None,  # noqa: UP045
        inside: Annotated[int | None, Range(1, 2)] = None,
        run: Run | None = None,
    ) -> Annotated[list[Cup], Help("cups")]:
        return []

    spec = spec_of(everything)
    ports = {port.name: port for port in spec.inputs}
    assert spec.run_parameter == "run"
    assert (ports["tea"].type, ports["tea"].choice) == (str, Choice("teas"))
    assert ports["path"].type is Path
    assert ports["path"].reads is not None
    assert (ports["seed"].type, ports["seed"].seed, ports["seed"].range) == (int, True, Range(0, 2**64 - 1))
    assert ports["tin"].reads is shelf
    assert (ports["warm"].type, ports["warm"].range, ports["warm"].help) == (float, Range(0, 100), "warmer")
    assert (ports["cloth"].type, ports["cloth"].reads) == (Path | None, ports["path"].reads)
    assert (ports["other"].type, ports["other"].choice) == (str | None, Choice("teas"))
    assert (ports["old"].type, ports["old"].range) == (float | None, Range(0, 100))
    assert (ports["inside"].type, ports["inside"].range) == (int | None, Range(1, 2))
    assert (spec.outputs[0].type, spec.outputs[0].help) == (list[Cup], "cups")


def test_wrong_signatures_are_errors():
    place = "(test_wrong_signatures_are_errors.<locals>.f): "

    def f(*values: int) -> int: ...

    assert problem(f) == f"{place[1:-3]} is not a node type. Decorate it with @node('Name') before it is registered"
    named = "parameter 'values' cannot be given by its name. Expected named parameters only"
    assert problem(node("F")(f)) == f"node type 'F' {place}{named}"

    @node("F")
    def f(**values: int) -> int: ...

    assert problem(f) == f"node type 'F' {place}{named}"

    @node("F")
    def f(values: int, /) -> int: ...

    assert problem(f) == f"node type 'F' {place}{named}"

    @node("F")
    def f(value) -> int: ...

    assert problem(f) == f"node type 'F' {place}parameter 'value' has no type. Annotate it"

    @node("F")
    def f(value: int): ...

    assert problem(f) == f"node type 'F' {place}it returns nothing. Annotate what it returns"

    @node("F")
    def f(value: int) -> None: ...

    assert problem(f) == f"node type 'F' {place}it returns nothing. Annotate what it returns"

    @node("F")
    def f(use: str) -> int: ...

    said = "a parameter cannot be called 'use': in a workflow that is the type of the node. Rename it"
    assert problem(f) == f"node type 'F' {place}{said}"

    @node("F")
    def f(value: Decimal) -> int: ...

    said = "name 'Decimal' is not defined. Its module must import the types of its signature outside TYPE_CHECKING"
    assert problem(f) == f"node type 'F' {place}{said}"

    @node("F")
    def f() -> Hidden: ...

    assert problem(f) == f"node type 'F' {place}{said}"

    @node("F")
    def f() -> Untyped: ...

    said = "the outputs of Untyped have no types. Write it as a class of typing.NamedTuple"
    assert problem(f) == f"node type 'F' {place}{said}"

    @node("F")
    def f(values: list[Seed]) -> int: ...

    said = "'values' has Annotated inside another type. Write Annotated[TYPE, ...] around the whole"
    assert problem(f) == f"node type 'F' {place}{said}"

    @node("F")
    def f(value: 1 + [2]) -> int: ...

    said = "its annotations cannot be read (TypeError: unsupported operand type(s) for +: 'int' and 'list')"
    assert problem(f) == f"node type 'F' {place}{said}"


@pytest.mark.parametrize(
    ("kind", "default", "said"),
    [
        (int, None, "expected a whole number, found nothing"),
        (int, 1.5, "expected a whole number, found 1.5"),
        (str, 3, "expected text, found 3"),
        (Cup, None, "expected a link to an output of type Cup, found nothing"),
        (Literal["a", "b"], "c", "expected one of a, b; found 'c'"),
        (Annotated[float, Range(0, 1)], 2, "expected a value from 0 to 1, found 2"),
        (Seed, "Random", "expected a whole number, found 'Random'"),
        (Seed, -1, "expected a value from 0 to 18446744073709551615, found -1"),
    ],
)
def test_default_must_fit_its_type(kind, default, said):
    def f(value=default) -> int:
        return 0

    f.__annotations__["value"] = kind
    assert problem(node("F")(f)).endswith(f": the default of 'value' is wrong: {said}")


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (float, 3),
        (Cup | None, None),
        (list[int], []),
        (Seed, "random"),
        (File, Path("a")),
        (Any, object()),
        (Cup, Cup()),
        (dict, {}),
    ],
)
def test_matching_defaults_are_accepted(kind, default):
    def f(value=default) -> int:
        return 0

    f.__annotations__["value"] = kind
    assert spec_of(node("F")(f)).inputs[0].default is default


def test_default_run_is_usable():
    run = Run()
    assert (run.device, run.dtype) == ("cpu", "auto")
    assert run.resident("key", lambda: 3) == 3
    assert run.step(1, 2) is None
    assert run.notice("hello") is None


def test_paths_are_relative_to_a_base(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert under(Path("/base"), "a/b") == Path("/base/a/b")
    assert under(Path("/base"), "/a") == Path("/a")
    assert under(Path("/base"), "~/a") == tmp_path / "a"
    with pytest.raises(ValueError, match=r"~no-such-user/a: .*home"):
        under(Path("/base"), "~no-such-user/a")
