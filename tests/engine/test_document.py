"""Workflow files: the meaning of YAML, locations of errors, round trips, and safety against malicious files."""

from __future__ import annotations

import math
import string
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Workflow, WorkflowError
from nodegraph.node_types.spec import MISSING
from nodegraph.workflow.definitions import NAME_RULE, Link, NodeDef, OutputDef, ParamDef, ParamRef
from nodegraph.workflow.document import parse_value
from nodegraph.workflow.dump import dump

AWKWARD = [
    *(
        "",
        " ",
        "a ",
        " a",
        "a\n",
        "\na",
        "a\nb",
        "a\r\nb",
        "a\tb",
        "\t",
        "a\\b",
        '"',
        "'",
        '"a"',
        "'a'",
        "a'b",
        "\x85",
        "\xa0",
        "\u2028",
    ),
    *(
        "# a",
        "a #b",
        "a: b",
        "a:",
        ":a",
        "a:b",
        "- x",
        "-",
        "--- ",
        "...",
        "? x",
        "?x",
        "&a",
        "*a",
        "!t",
        "%",
        "@",
        "`",
        "|",
        ">",
        "<<",
    ),
    *(
        "[a]",
        "{a}",
        "a, b",
        "a]",
        "[",
        "{",
        "=",
        "~",
        "null",
        "Null",
        "true",
        "TRUE",
        "no",
        "No",
        "on",
        "y",
        "1",
        "1.5",
        "-1",
        "+1",
    ),
    *(
        "1_000",
        "1e3",
        "1e-4",
        "16:9",
        "0o17",
        "0x1F",
        ".inf",
        "-.inf",
        ".nan",
        "2024-01-01",
        "$a",
        "$a.b",
        "$$a",
        "$$$a.b",
        "$5",
        "a$b",
    ),
    *(
        "$params.x",
        "$$params.x",
        "$a.b.c",
        "$",
        "$$",
        "builtin:tiny",
        "ünï",
        "家",
        "👍🏽",
        "\x00",
        "\x07",
        "\x1b[0m",
        "\x7f",
        "\ufeff",
        "\ufffe",
    ),
    "a" * 3000,
]

text = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.sampled_from(" \n\t:#-?$&*!|>'\"%@`{}[],.\\0eaé")),
)
number = st.one_of(st.integers(), st.floats())
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), number, text),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=12,
)
name = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
node_name = name.filter(lambda name: name != "params")
link = st.builds(Link, node_name, st.none() | name)
given_value = st.one_of(plain, link, st.builds(ParamRef, name), st.lists(st.one_of(link, plain), max_size=3))
param = st.one_of(
    plain.map(lambda value: {"default": value}),
    st.fixed_dictionaries(
        {},
        optional={
            "default": plain,
            "type": st.sampled_from(["text", "int", "float", "bool", "path", "seed"]),
            "min": st.integers(-9, 0),
            "max": st.floats(0, 9),
            "help": text,
        },
    ).map(lambda fields: {"default": MISSING, **fields}),
)


def is_same(a: Any, b: Any) -> bool:
    """Equal and of the same types: 1 differs from 1.0 and from true."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(is_same(a[key], b[key]) for key in a)
    return bool(a == b) or (a != a and b != b)  # NaN


def meaning(workflow: Workflow) -> tuple[Any, ...]:
    return (
        workflow.name,
        workflow.description,
        {n: [p.default, p.type, p.min, p.max, p.help] for n, p in workflow.params.items()},
        {n: [node.type, dict(node.inputs)] for n, node in workflow.nodes.items()},
        {n: [output.link, output.save] for n, output in workflow.outputs.items()},
    )


def refused(source: str) -> list[str]:
    with pytest.raises(WorkflowError) as caught:
        Workflow.parse(source, file="w.yaml")
    assert caught.value.exit_status == 2
    return [str(problem) for problem in caught.value.problems]


def refused_node(fields: str) -> list[str]:
    return refused(f"nodegraph: 1\nnodes:\n  {fields}\n")


# --- what scalars mean


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRUE", "tRUE"),
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0.0", -0.0),
        ("1e999", math.inf),
        ("e5", "e5"),
        (".", "."),
        ("16:9", "16:9"),
        ("1:30:00", "1:30:00"),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("+3", 3),
        ("-3", -3),
        ("--3", "--3"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("inf", "inf"),
        ("null", None),
        ("~", None),
        ("", None),
        ("Null", None),
        ("none", "none"),
        ('"3"', "3"),
        ("'true'", "true"),
        ('""', ""),
        ("!!str 3", "3"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("$model", Link("model")),
        ("$model.unet", Link("model", "unet")),
        ("$params.seed", ParamRef("seed")),
        ('"$model"', Link("model")),
        ("$$model", "$model"),
        ("'$$params.x'", "$params.x"),
        ("$$$model", "$$model"),
        ("$5", "$5"),
        ("$5 and $model", "$5 and $model"),
        ("$a.b.c", "$a.b.c"),
        ("$", "$"),
        ("costs $model", "costs $model"),
        ("[1, a, [$x]]", [1, "a", [Link("x")]]),
        ("{a: 1, b: {c: $x}}", {"a": 1, "b": {"c": Link("x")}}),
        ("{1: x, true: y}", {"1": "x", "true": "y"}),
        ("|\n  $x\n", "$x\n"),
    ],
)
def test_scalars_follow_yaml_1_2(written, meant):
    assert is_same(parse_value(written), meant)


def test_nan_is_read():
    assert math.isnan(parse_value(".nan"))


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000, "1" * 5000 + ".5"])
def test_huge_number_is_refused(digits):
    assert refused_node("a: {use: T, x: " + digits + "}") == [f"w.yaml:3:18 [E110] a number of {len(digits):,} digits is too long."]


# --- round trips


@settings(max_examples=100, deadline=None)
@given(plain)
def test_any_value_survives_a_round_trip(value):
    workflow = Workflow()
    workflow.add("T", x=value)
    assert is_same(Workflow.parse(workflow.dump()).nodes["t"].inputs["x"], value)


def nested(levels: int) -> Any:
    """Lists in each other."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Other:
    """Something that no file can hold."""


odd = st.recursive(
    st.one_of(
        plain,
        st.text(st.characters(categories=["Cs", "Cc", "Lu", "Zs"])),
        st.floats(width=32).map(np.float32),
        st.integers(0, 9).map(np.int64),
        st.fractions(),
        st.decimals(),
        st.dates(),
        st.binary(max_size=3),
        st.complex_numbers(),
        st.sampled_from([Fraction(10) ** 400, Path("a/b"), Path("caf\udce9"), Other(), {1}]),
        st.integers(50, 70).map(nested),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(text, st.none(), st.integers(0, 2), st.just("\ud800")), inner, max_size=3),
    ),
    max_leaves=6,
)


def as_read(value: Any) -> Any:
    """What a file holds of a value."""
    if isinstance(value, dict):
        return {key: as_read(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_read(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, np.integer):
        return int(value)
    return float(value) if isinstance(value, np.floating | Fraction) else value


@settings(max_examples=200)
@given(odd, st.sampled_from(["input", "param", "option"]))
def test_any_value_is_written_so_that_it_is_read_as_the_same_or_refused(value, where):
    workflow = Workflow()
    workflow.add("T", x=value if where == "input" else 1)
    if where == "param":
        workflow.param("p", value)
    workflow.outputs["o"] = OutputDef("o", Link("t"), "x.png", options={"o": value if where == "option" else 1})
    try:
        written = workflow.dump()
    except WorkflowError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "which a file cannot hold" in refusal
        return
    again = Workflow.parse(written)
    read = {"input": again.nodes["t"].inputs["x"], "option": again.outputs["o"].options["o"]}
    found = read[where] if where in read else again.params["p"].default
    expected = as_read(value)
    assert is_same(found, expected)


@pytest.mark.parametrize(
    ("value", "found", "hint"),
    [
        ("caf\udce9", "'caf\\udce9'", "Give text that is Unicode"),
        ({"a": [{None: 1}]}, "the key None", "The keys of a mapping are text"),
        ({0: 1}, "0", "The keys of a mapping are text"),
        ({1.5: 1}, "1.5", "The keys of a mapping are text"),
        pytest.param(10**4300, "0x", "Use a number with fewer digits", id="huge"),
        (nested(60), "[[[", "Use fewer levels"),
        (Fraction(1, 3), "Fraction(1, 3)", "Save it to a file"),
    ],
)
def test_value_that_a_file_cannot_hold_is_refused(value, found, hint):
    workflow = Workflow()
    workflow.add("T", x=value)
    with pytest.raises(WorkflowError) as caught:
        workflow.dump()
    assert f"'x' of node 't' holds {found}" in str(caught.value)
    assert f"which a file cannot hold. {hint}" in str(caught.value)


def test_name_that_a_file_cannot_hold_is_refused():
    with pytest.raises(WorkflowError, match="the name holds"):
        Workflow("\ud800").dump()


@pytest.mark.parametrize("value", AWKWARD)
def test_awkward_text_survives_a_round_trip(value):
    for wrapped in (value, [value, value], {value: value}, {"k" * 1100: value}):
        workflow = Workflow(value, value)
        workflow.add("T", x=wrapped, y=[ParamRef("p")])
        workflow.param("p", wrapped, help=value)
        workflow.output("o", Workflow.add(workflow, "U"), value)
        again = Workflow.parse(workflow.dump())
        assert is_same(meaning(again), meaning(workflow)), wrapped
        assert Workflow.parse(again.dump()).dump() == workflow.dump(), wrapped


@settings(max_examples=30, deadline=None)
@given(
    st.builds(
        lambda called, about, params, nodes, outputs: (called, about, params, nodes, outputs),
        text,
        text,
        st.dictionaries(name, param, max_size=3),
        st.dictionaries(
            node_name, st.tuples(text, st.dictionaries(name.filter(lambda n: n != "use"), given_value, max_size=4)), max_size=4
        ),
        st.dictionaries(name, st.tuples(link, st.none() | text), max_size=3),
    )
)
def test_any_workflow_survives_a_round_trip(parts):
    called, about, params, nodes, outputs = parts
    workflow = Workflow(called, about)
    workflow.params = {n: ParamDef(name=n, **fields) for n, fields in params.items()}
    workflow.nodes = {n: NodeDef(n, use, inputs) for n, (use, inputs) in nodes.items()}
    workflow.outputs = {n: OutputDef(n, to, save) for n, (to, save) in outputs.items()}
    assert is_same(meaning(Workflow.parse(workflow.dump())), meaning(workflow))


@settings(max_examples=50, deadline=None)
@given(st.one_of(text, st.text(st.sampled_from(string.printable + "é\ufeff\ud800"))))
def test_any_text_is_read_or_refused(source):
    try:
        problems = Workflow.parse(source) and ()
    except WorkflowError as error:
        problems = error.problems
    assert all(problem.where is not None for problem in problems)


mangled = st.builds(
    lambda at, cut, put: GOOD[:at] + put + GOOD[at + cut :],
    st.integers(0, 400),
    st.integers(0, 12),
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from([b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"\xef\xbb\xbf", b"- ", b"? "]),
    ),
)
GOOD = b"""\
nodegraph: 1
name: small
params:
  scale: {default: 3, min: 0, max: 9, help: how large}
nodes:
  load: {use: Load, size: 95, list: [1, 2.5, true, ~, "x"]}
  apply:
    use: Apply
    model: $load.model
    scale: $params.scale
outputs:
  result: {from: $apply, save: "{workflow}-{scale}.txt"}
"""


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(), mangled))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(data)
    message = file.name
    try:
        workflow = Workflow.load(file)
    except WorkflowError as error:
        message = str(error)
    else:
        file.write_text(workflow.dump(), encoding="utf-8", newline="")  # a workflow without a name has that of its file
        assert is_same(meaning(Workflow.load(file)), meaning(workflow))
    assert file.name in message


def test_dump_is_readable():
    workflow = Workflow("small test", "Two lines\nof words")
    scale = workflow.param("scale", 3, min=0, help="how large")
    loaded = workflow.add("Load", path="$own", label="no")
    workflow.add("Apply", model=loaded.model, scale=scale, notes=["a" * 60, "b" * 60])
    workflow.output("result", loaded, "{workflow}.txt")
    assert workflow.dump() == (
        "nodegraph: 1\n"
        "name: small test\n"
        'description: "Two lines\\nof words"\n'
        "params:\n"
        "  scale: {default: 3, min: 0, help: how large}\n"
        "nodes:\n"
        '  load: {use: Load, path: "$$own", label: "no"}\n'
        "  apply:\n"
        "    use: Apply\n"
        "    model: $load.model\n"
        "    scale: $params.scale\n"
        f"    notes: [{'a' * 60}, {'b' * 60}]\n"
        "outputs:\n"
        '  result: {from: $load, save: "{workflow}.txt"}\n'
    )


@pytest.mark.parametrize("value", [object(), [1, {"a": b"x"}], {"a": {2, 3}}])
def test_values_outside_yaml_are_refused(value):
    workflow = Workflow()
    workflow.add("T", x=value, y=value)
    with pytest.raises(
        WorkflowError, match=r"'x' of node 't' holds .* of type \w+, which a file cannot hold\. Save it to a file"
    ) as error:
        workflow.dump()
    assert [problem.code for problem in error.value.problems] == ["E110", "E110"]
    workflow = Workflow()
    workflow.param("p", value)
    with pytest.raises(WorkflowError, match="the default of param 'p' holds"):
        workflow.dump()


def test_values_outside_yaml_are_named_in_records():
    workflow = Workflow()
    workflow.add("T", x=object(), path=Path("a") / "b")
    assert dump(workflow, all_values=False).splitlines()[-1] == '  t: {use: T, x: "<object given in Python>", path: a/b}'


# --- files

BEGIN = "Begin with 'nodegraph: 1' and a mapping 'nodes:'."
NOT_TEXT = "A workflow is a text file in UTF-8."
CONTROL = "is not allowed in a workflow file. Remove it, or write it as an escape in double quotes."


def test_file_sets_name_and_base(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_bytes(
        b"\xef\xbb\xbfnodegraph: 1\r\nnodes:\r\n  a: {use: T,\r\n    x: '1'}\r\n"
        b"  b:\r\n    use: T\r\n    x: |\r\n      one\r\n      two\r\n"
    )
    workflow = Workflow.load(path)
    assert workflow.name == "small"
    assert workflow.base == tmp_path
    assert workflow.nodes["a"].inputs == {"x": "1"}
    assert workflow.nodes["b"].inputs == {"x": "one\ntwo\n"}
    assert str(workflow.nodes["a"].location("x")) == f"{path}:4:8"
    assert str(workflow.nodes["a"].location("x", key=True)) == f"{path}:4:5"


def test_locations_are_relative_to_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/w.yaml").write_text("nodegraph: 1\nnods: {}\nnodes: {}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkflowError) as caught:
        Workflow.load(tmp_path / "sub/w.yaml")
    assert str(caught.value) == "sub/w.yaml:2:1 [E101] the workflow has no 'nods'. Did you mean 'nodes'?"
    monkeypatch.chdir(tmp_path / "sub")
    with pytest.raises(WorkflowError, match=r"^w\.yaml:2:1 "):
        Workflow.load("w.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "[E100] there is no workflow file w.yaml. Check the path."),
        (b"\x89PNG\r\n\x1a\n\0\0", f"[E100] w.yaml is not UTF-8 text (byte 0). {NOT_TEXT}"),
        ("nodegraph: 1\n".encode("utf-16"), f"[E100] w.yaml is not UTF-8 text (byte 0). {NOT_TEXT}"),
        (b"\0" * 9, f"w.yaml:1:1 [E100] the character U+0000 {CONTROL}"),
        (b" " * (17 << 20), "[E100] w.yaml is larger than 16 MiB. A workflow is a text file of a few kilobytes. Check the path."),
        (b"", f"w.yaml:1:1 [E101] a workflow is a mapping; w.yaml holds nothing. {BEGIN}"),
        (b"\n# nothing\n", f"w.yaml:1:1 [E101] a workflow is a mapping; w.yaml holds nothing. {BEGIN}"),
        (b"- a\n", f"w.yaml:1:1 [E101] a workflow is a mapping; w.yaml holds a list. {BEGIN}"),
        (b"\n hello\n", f"w.yaml:2:2 [E101] a workflow is a mapping; w.yaml holds text. {BEGIN}"),
    ],
    ids=["missing", "picture", "utf-16", "zeros", "huge", "empty", "comment", "list", "text"],
)
def test_other_files_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("w.yaml").write_bytes(content)
    with pytest.raises(WorkflowError) as caught:
        Workflow.load("w.yaml")
    assert str(caught.value) == message


def test_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkflowError, match=r"\[E100\] \. cannot be read: "):
        Workflow.load(".")


# --- text that is not YAML

MALFORMED = "w.yaml:{} [E100] this is not well-formed YAML:"
TABS = "violates indentation. Indent with spaces, not with tabs."
QUOTES = "Put text in quotes if it contains ': ' or ' #', or begins with one of []{}&*!|>%@`."


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nodegraph: 1\n\tnodes: {}",
            f"{MALFORMED.format('2:1')} while scanning a plain scalar from line 1: found a tab character that {TABS}",
        ),
        ("name: a: b", f"{MALFORMED.format('1:8')} ': ' begins a mapping, which is not allowed here. {QUOTES}"),
        ("name: @home", f"{MALFORMED.format('1:7')} a value cannot begin with this character. {QUOTES}"),
        (
            "name: *one*",
            (
                f"{MALFORMED.format('1:11')} while scanning an alias: its name is missing, or contains a character that is not "
                f"allowed. {QUOTES}"
            ),
        ),
        ("name: *one", f"w.yaml:1:7 [E100] '*one' repeats a value '&one', which does not exist. {QUOTES}"),
        (
            "name: [a\nnodes: {}\n",
            f"{MALFORMED.format('2:6')} while parsing a flow sequence from line 1: did not find expected ',' or ']'. {QUOTES}",
        ),
        ("name: !one word", f"w.yaml:1:7 [E100] the tag '!one' is not supported in a workflow. Remove it. {QUOTES}"),
        (
            "name: !!python/name:os.system x",
            f"w.yaml:1:7 [E100] the tag '!!python/name:os.system' is not supported in a workflow. Remove it. {QUOTES}",
        ),
        ("nodes: !!set {a}", f"w.yaml:1:8 [E100] the tag '!!set' is not supported in a workflow. Remove it. {QUOTES}"),
        (
            "nodegraph: 1\n---\nnodegraph: 1\n",
            "w.yaml:2:1 [E100] a second document begins here. Put each workflow into its own file.",
        ),
        ("nodes: &n [*n]", "w.yaml:1:12 [E100] '*n' is inside the value that it repeats."),
        ("name: a\nb: é\x07", f"w.yaml:2:5 [E100] the character U+0007 {CONTROL}"),
        ("name: \ud800", f"w.yaml:1:7 [E100] the character U+D800 {CONTROL}"),
    ],
)
def test_malformed_text_is_refused_with_its_location(source, message):
    assert refused(source) == [message]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[{a: "])
def test_deep_nesting_is_refused(opening):
    closing = {"[": "]", "{a: ": "}", "[{a: ": "}]"}.get(opening, "")
    (message,) = refused(opening * 20_000 + "1" + closing * 20_000)
    assert "[E100] this is nested more than 64 levels deep. Flatten it." in message


def test_nesting_through_aliases_is_refused():
    lines = ["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 80))]
    assert refused("\n".join(lines)) == ["w.yaml:65:6 [E100] this is nested more than 64 levels deep. Flatten it."]


@pytest.mark.parametrize("form", ["[{}]", "{{a: [{}]}}"])
def test_alias_bomb_is_refused(form):
    bomb = [f"a{i}: &a{i} " + form.format(", ".join([f"*a{i - 1}"] * 9)) for i in range(1, 60)]
    (message,) = refused("\n".join(["a0: &a0 x", *bomb]))
    assert "[E100] with its aliases this holds more than 1,000,000 values. Use fewer values or aliases." in message


def test_reasonable_aliases_are_read():
    workflow = Workflow.parse(
        "nodegraph: 1\nnodes:\n  a: {use: T, x: &x [1, {y: 2}]}\n  b: {use: T, x: *x}\n  c: &c {use: U}\n  d: *c\n"
    )
    assert workflow.nodes["b"].inputs == workflow.nodes["a"].inputs
    assert workflow.nodes["d"].type == "U"


# --- text that is not a workflow


def test_every_form_error_has_its_location():
    source = """\
nodegraph: 2
description: [a]
nodes:
  a: {use: T, x: 1, y: 2, x: 3}
  a: {use: T}
  b: [1]
  "c d": {use: T}
  params: {use: T}
  e: {x: 1}
  f: {use: $a}
  ? [1, 2]
  : {use: T}
  g: {use: T, o: {k: 1, k: 2, [3]: 4}}
param: {}
params:
  p: {default: 1, typ: int}
  q: {type: integer, default: 1}
  r: {min: a, max: true, default: 1}
  s: {min: 3, max: 2}
  t: $a
  u: {default: [1, $params.p]}
  v!: 1
outputs:
  - $a
"""
    assert refused(source) == [
        "w.yaml:1:12 [E101] there is no file format 2. This version reads format 1: write 'nodegraph: 1'.",
        "w.yaml:2:14 [E101] 'description' must be text, not ['a']. Put it in quotes.",
        "w.yaml:4:27 [E102] node 'a' has 'x' twice; the first is on line 4. Remove one.",
        "w.yaml:5:3 [E102] 'nodes' has 'a' twice; the first is on line 4. Remove one.",
        "w.yaml:6:6 [E101] node 'b' is not a mapping. Write 'b: {use: TYPE, ...}'.",
        f"w.yaml:7:3 [E101] 'c d' in 'nodes' is not a name. {NAME_RULE}",
        "w.yaml:8:3 [E101] a node cannot be called 'params'. '$params.x' is a param; use another name.",
        "w.yaml:9:3 [E101] node 'e' has no type. Add 'use: TYPE'.",
        "w.yaml:10:12 [E101] 'use' of node 'f' must be the name of a node type, not $a. Write 'use: TYPE'.",
        "w.yaml:11:5 [E101] a key in 'nodes' is not a name.",
        "w.yaml:13:25 [E102] this mapping has 'k' twice; the first is on line 13. Remove one.",
        "w.yaml:13:31 [E101] a key in this mapping is not a name.",
        "w.yaml:14:1 [E101] the workflow has no 'param'. Did you mean 'params'?",
        "w.yaml:16:19 [E101] param 'p' has no 'typ'. Did you mean 'type'?",
        "w.yaml:17:13 [E114] there is no param type 'integer'. The types are text, int, float, bool, path, seed.",
        "w.yaml:18:12 [E114] 'min' of a param must be a number, not 'a'.",
        "w.yaml:18:20 [E114] 'max' of a param must be a number, not true.",
        "w.yaml:19:6 [E114] param 's' has a 'min' greater than its 'max'.",
        "w.yaml:20:6 [E114] the default of param 't' refers to $a. Expected a value. '$$a' is the text '$a'.",
        "w.yaml:21:16 [E114] the default of param 'u' refers to $params.p. Expected a value. '$$params.p' is the text '$params.p'.",
        f"w.yaml:22:3 [E101] 'v!' in 'params' is not a name. {NAME_RULE}",
        "w.yaml:24:3 [E101] 'outputs' must be a mapping.",
    ]


def test_errors_in_outputs_are_reported():
    outputs = "  a: a\n  b: {save: x}\n  c: {from: $a, save: 3}\n  d: {from: $a, to: x}\n  e: $params.x\n"
    assert refused(f"nodegraph: 1\nnodes: {{}}\noutputs:\n{outputs}") == [
        "w.yaml:4:6 [E115] output 'a' has no link to a node. Write 'a: {from: $NODE}'.",
        "w.yaml:5:6 [E115] output 'b' has no link to a node. Write 'b: {from: $NODE}'.",
        (
            "w.yaml:6:23 [E115] 'save' of output 'c' must be a file name, or a mapping with the name as 'file', not 3. "
            "Put the name in quotes."
        ),
        "w.yaml:7:17 [E101] output 'd' has no 'to'. It has from, save.",
        "w.yaml:8:6 [E115] output 'e' has no link to a node. Write 'e: {from: $NODE}'.",
    ]


def test_missing_sections_are_errors():
    assert refused("name: x\n") == [
        "w.yaml:1:1 [E101] the workflow has no 'nodegraph'. Begin with 'nodegraph: 1'.",
        "w.yaml:1:1 [E101] the workflow has no 'nodes'. Add a mapping 'nodes:'.",
    ]


def test_sections_can_be_empty():
    workflow = Workflow.parse("nodegraph: 1\nparams:\nnodes:\noutputs: ~\n")
    assert (workflow.params, workflow.nodes, workflow.outputs) == ({}, {}, {})


def test_short_and_long_forms_are_equivalent():
    short = Workflow.parse("nodegraph: 1\nparams: {p: 3, q: {}}\nnodes: {a: {use: T}}\noutputs: {o: $a.x}\n")
    long = Workflow.parse(
        "nodegraph: 1\nparams:\n  p: {default: 3}\n  q: {help: }\nnodes:\n  a:\n    use: T\noutputs:\n  o: {from: $a.x}\n"
    )
    assert meaning(short) == meaning(long)
    assert short.params["q"].default is MISSING
    assert short.outputs["o"].link == Link("a", "x")


@pytest.mark.parametrize("source", ["[1", "a: b: c", "9" * 5000, "&a [*a]", "[" * 70 + "]" * 70])
def test_malformed_value_is_a_value_error(source):
    with pytest.raises(ValueError, match=r"\w"):
        parse_value(source)
