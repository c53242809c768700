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


class Blob:
    pass


class Parsed(NamedTuple):
    blob: Annotated[Blob, Help("the data")]
    size: int = 90


Untyped = collections.namedtuple("Untyped", "a b")


reads_entry = Reads(lambda text, base: Resource(text, {}))
Percent = Annotated[float, Range(0, 100), Help("in percent")]


class Hidden(NamedTuple):
    value: Decimal


def problem(function: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        spec_of(function)
    return str(caught.value)


def test_function_becomes_a_node_type():
    @node("Encode", version=3)
    def encode(text: str, scale: Annotated[float, Range(0.5, 10), Help("how large")] = 3, run: Run = Run()) -> Blob:
        """Make a blob.

        Slowly.
        """
        return Blob()

    spec = spec_of(encode)
    assert (spec.name, spec.version, spec.function, spec.pure, spec.numeric, spec.check) == ("Encode", 3, encode, True, False, None)
    assert spec.doc == "Make a blob.\n\nSlowly."
    assert spec.run_parameter == "run"
    text, scale = spec.inputs
    assert (text.name, text.type, text.default, text.required) == ("text", str, MISSING, True)
    assert (scale.type, scale.default, scale.range, scale.help) == (float, 3, Range(0.5, 10), "how large")
    assert [(output.name, output.type) for output in spec.outputs] == [("output", Blob)]
    assert isinstance(encode("text"), Blob)
    assert spec.input("scale") is scale
    assert spec.input("run") is None
    assert repr(MISSING) == "MISSING"


def test_default_name_is_the_function_name():
    @node
    def copy(text: str = "") -> str:
        return text

    @node("Chance", pure=False, numeric=True, check=lambda **literals: [])
    def chance() -> int:
        return 4

    assert (spec_of(copy).name, spec_of(copy).doc, spec_of(copy).run_parameter) == ("copy", "", None)
    spec = spec_of(chance)
    assert (spec.pure, spec.numeric, spec.check is not None, spec.inputs) == (False, True, True, ())


def test_named_tuple_makes_several_outputs():
    @node("Parse")
    def parse() -> Parsed:
        return Parsed(Blob())

    spec = spec_of(parse)
    assert [(output.name, output.type, output.help) for output in spec.outputs] == [("blob", Blob, "the data"), ("size", int, "")]
    assert spec.output() is None
    assert spec.output("size") is spec.outputs[1]
    assert spec.output("blobs") is None


def test_one_output_needs_no_name():
    @node("Blob")
    def blob() -> Blob | None:
        return None

    spec = spec_of(blob)
    assert spec.output() is spec.output("output") is spec.outputs[0]
    assert spec.outputs[0].type == Blob | None


def test_annotations_declare_ports():
    @node("All")
    def everything(
        filter: Annotated[str, Choice("filters")],
        path: File,
        seed: Seed,
        entry: Annotated[str, reads_entry],
        percent: Annotated[Percent, Help("how much")],
        extra: File | None = None,
        other: Annotated[str, Choice("filters")] | None = None,
        old: Optional[Percent] = None,  # noqa: UP045
        inside: Annotated[int | None, Range(1, 2)] = None,
        run: Run | None = None,
    ) -> Annotated[list[Blob], Help("blobs")]:
        return []

    spec = spec_of(everything)
    ports = {port.name: port for port in spec.inputs}
    assert spec.run_parameter == "run"
    assert (ports["filter"].type, ports["filter"].choice) == (str, Choice("filters"))
    assert ports["path"].type is Path
    assert ports["path"].reads is not None
    assert (ports["seed"].type, ports["seed"].seed, ports["seed"].range) == (int, True, Range(0, 2**64 - 1))
    assert ports["entry"].reads is reads_entry
    assert (ports["percent"].type, ports["percent"].range, ports["percent"].help) == (float, Range(0, 100), "how much")
    assert (ports["extra"].type, ports["extra"].reads) == (Path | None, ports["path"].reads)
    assert (ports["other"].type, ports["other"].choice) == (str | None, Choice("filters"))
    assert (ports["old"].type, ports["old"].range) == (float | None, Range(0, 100))
    assert (ports["inside"].type, ports["inside"].range) == (int | None, Range(1, 2))
    assert (spec.outputs[0].type, spec.outputs[0].help) == (list[Blob], "blobs")


def test_wrong_signatures_are_errors():
    where = "(test_wrong_signatures_are_errors.<locals>.f): "

    def f(*values: int) -> int: ...

    assert problem(f) == f"{where[1:-3]} is not a node type. Decorate it with @node('Name') before it is registered"
    named = "parameter 'values' cannot be given by its name. Expected named parameters only"
    assert problem(node("F")(f)) == f"node type 'F' {where}{named}"

    @node("F")
    def f(**values: int) -> int: ...

    assert problem(f) == f"node type 'F' {where}{named}"

    @node("F")
    def f(values: int, /) -> int: ...

    assert problem(f) == f"node type 'F' {where}{named}"

    @node("F")
    def f(value) -> int: ...

    assert problem(f) == f"node type 'F' {where}parameter 'value' has no type. Annotate it"

    @node("F")
    def f(value: int): ...

    assert problem(f) == f"node type 'F' {where}it returns nothing. Annotate what it returns"

    @node("F")
    def f(value: int) -> None: ...

    assert problem(f) == f"node type 'F' {where}it returns nothing. Annotate what it returns"

    @node("F")
    def f(use: str) -> int: ...

    message = "a parameter cannot be called 'use': in a workflow that is the type of the node. Rename it"
    assert problem(f) == f"node type 'F' {where}{message}"

    @node("F")
    def f(value: Decimal) -> int: ...

    message = "name 'Decimal' is not defined. Its module must import the types of its signature outside TYPE_CHECKING"
    assert problem(f) == f"node type 'F' {where}{message}"

    @node("F")
    def f() -> Hidden: ...

    assert problem(f) == f"node type 'F' {where}{message}"

    @node("F")
    def f() -> Untyped: ...

    message = "the outputs of Untyped have no types. Write it as a class of typing.NamedTuple"
    assert problem(f) == f"node type 'F' {where}{message}"

    @node("F")
    def f(values: list[Seed]) -> int: ...

    message = "'values' has Annotated inside another type. Write Annotated[TYPE, ...] around the whole"
    assert problem(f) == f"node type 'F' {where}{message}"

    @node("F")
    def f(value: 1 + [2]) -> int: ...

    message = "its annotations cannot be read (TypeError: unsupported operand type(s) for +: 'int' and 'list')"
    assert problem(f) == f"node type 'F' {where}{message}"


@pytest.mark.parametrize(
    ("kind", "default", "message"),
    [
        (int, None, "expected a whole number, found nothing"),
        (int, 1.5, "expected a whole number, found 1.5"),
        (str, 3, "expected text, found 3"),
        (Blob, None, "expected a link to an output of type Blob, found nothing"),
        (Literal["a", "b"], "c", "expected one of 'a', 'b'; found 'c'"),
        (Annotated[float, Range(0, 1)], 2, "expected a value from 0 to 1, found 2"),
        (Seed, "Random", "expected a whole number, found 'Random'"),
        (Seed, -1, "expected a value from 0 to 18446744073709551615, found -1"),
    ],
)
def test_default_must_fit_its_type(kind, default, message):
    def f(value=default) -> int:
        return 0

    f.__annotations__["value"] = kind
    assert problem(node("F")(f)).endswith(f": the default of 'value' is wrong: {message}")


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (float, 3),
        (Blob | None, None),
        (list[int], []),
        (Seed, "random"),
        (File, Path("a")),
        (Any, object()),
        (Blob, Blob()),
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
