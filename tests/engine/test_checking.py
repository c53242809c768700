"""Checking turns a workflow into a graph or reports every error at once, without running a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Workflow, WorkflowError
from nodegraph.graph.build import build_graph
from nodegraph.graph.graph import Graph, ListWithLinks, ResolvedLink, Value
from nodegraph.graph.overrides import Override
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.workflow.dump import dump
from tests.support.plugin_folders import STUB_PLUGINS

Check = Callable[..., Graph]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    plugins = load_plugins([STUB_PLUGINS])
    plugins.require_sound()
    return plugins


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The workflow's folder."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "note.txt").write_text("note")
    return home


@pytest.fixture
def check(plugins: Plugins, home: Path) -> Check:
    """Checks a whole document, or the part below `nodes:`."""

    def check(source: str | Workflow, *settings: str, targets: Sequence[str] = (), **params: Any) -> Graph:
        if isinstance(source, str):
            text = source if source.startswith("nodegraph") else f"nodegraph: 1\nnodes:\n{source}"
            source = Workflow.parse(text, file="w.yaml", base=home)
        overrides = [Override(name, value, text=True) for name, _, value in (s.partition("=") for s in settings)]
        return build_graph(source, plugins, [*overrides, *(Override(name, value) for name, value in params.items())], targets)

    return check


@pytest.fixture
def refused(check: Check) -> Callable[..., list[str]]:
    """The problems of a document, one line each."""

    def refused(*arguments: Any, **options: Any) -> list[str]:
        with pytest.raises(WorkflowError) as caught:
            check(*arguments, **options)
        return [str(problem) for problem in caught.value.problems]

    return refused


def value(graph: Graph, node: str, input: str) -> Any:
    found = graph.nodes[node].inputs[input]
    assert isinstance(found, Value)
    return found.value


# --- valid graphs


def test_graph_has_every_input_of_every_node(check):
    graph = check("  blob: {use: Apply, model: $parsed.model}\n  parsed: {use: Parse, path: note.txt}\n")
    assert list(graph.nodes) == ["parsed", "blob"]
    parsed, blob = graph.nodes.values()
    assert parsed.inputs["path"].files == {"file": parsed.inputs["path"].value}
    assert parsed.inputs["path"].value.read_text() == "note"
    assert parsed.inputs["extra"] == Value(None)
    assert blob.inputs == {"model": ResolvedLink("parsed", "model"), "blob": Value(None)}
    assert list(blob.links()) == [ResolvedLink("parsed", "model")]
    assert graph.consumers("parsed") == ["blob"]
    assert graph.consumers("blob") == []
    assert blob.origin.plugin == "stub_pack"
    assert str(blob.where) == "w.yaml:3:3"


def test_order_follows_the_file_if_links_allow(check):
    graph = check("  c: {use: Add}\n  d: {use: Add, a: $a}\n  b: {use: Add}\n  a: {use: Add, a: $b}\n")
    assert list(graph.nodes) == ["c", "b", "a", "d"]


def test_lists_can_hold_links(check):
    graph = check(
        "nodegraph: 1\nparams: {p: 2}\nnodes:\n  a: {use: Add}\n"
        "  s: {use: Total, values: [1, $a, $params.p, $s2]}\n  s2: {use: Total, values: []}\n"
    )
    assert graph.nodes["s"].inputs["values"] == ListWithLinks(
        (Value(1.0), ResolvedLink("a", "output"), Value(2.0), ResolvedLink("s2", "output"))
    )
    assert list(graph.nodes["s"].links()) == [ResolvedLink("a", "output"), ResolvedLink("s2", "output")]
    assert graph.nodes["s"].inputs["size"] == Value((1, 2))


def test_params_in_containers_are_literals(check):
    params = "nodegraph: 1\nparams: {p: 2, q: {default: 0.5, max: 1}}\nnodes:\n"
    linked = check(f"{params}  s: {{use: Total, values: [1, $params.p], weights: {{a: $params.q, b: 3}}, size: [$params.p, 4]}}\n")
    literal = check("  s: {use: Total, values: [1, 2], weights: {a: 0.5, b: 3}, size: [2, 4]}\n")
    assert linked.nodes["s"].inputs == literal.nodes["s"].inputs
    assert value(linked, "s", "weights") == {"a": 0.5, "b": 3.0}


def test_optional_inputs_can_be_null(check):
    graph = check(
        "  s: {use: Parse, path: note.txt, extra: null}\n  p: {use: Apply, model: $s.model, blob: ~}\n  b: {use: Format, level: }\n"
    )
    assert graph.nodes["s"].inputs["extra"] == Value(None)
    assert value(graph, "p", "blob") is None
    assert value(graph, "b", "level") is None


def test_choices_come_from_their_registry(check):
    choice = check("  b: {use: Format, filter: upper}\n").nodes["b"].inputs["filter"]
    assert choice.value is str.upper
    assert (choice.entry.name, choice.entry.origin.plugin, choice.entry.meta) == ("upper", "stub_pack", {})
    assert check("  b: {use: Format}\n").nodes["b"].inputs["filter"].entry.meta == {"language": "any"}


def test_input_files_have_their_own_names(check, tmp_path):
    found = check("  t: {use: Find, entry: note.txt}\n").nodes["t"].inputs["entry"]
    assert found.value == "NOTE.TXT"
    assert found.files == {"entry": tmp_path / "home/note.txt"}


def test_empty_workflow_is_a_graph(check):
    graph = check("nodegraph: 1\nnodes:\n")
    assert (dict(graph.nodes), dict(graph.outputs), dict(graph.params)) == ({}, {}, {})


# --- errors


def test_all_errors_are_reported_at_once(refused, home):
    source = """\
nodegraph: 1
params:
  unset: {help: has no value}
  many: {default: 3, max: 2}
  both: 1
  whole: {type: int, default: 1}
nodes:
  a: {use: Formt}
  b: {use: Format, txt: x}
  c: {use: Say}
  d: {use: Say, text: $nowhere}
  e: {use: Say, text: $params.txet}
  f: {use: Say, text: $params.unset}
  g: {use: Format, times: $params.many}
  h: {use: Apply, model: $parsed}
  i: {use: Apply, model: $parsed.modle}
  j: {use: Apply, model: $parsed.blob}
  k: {use: Apply}
  parsed: {use: Parse, path: note.txt}
  l: {use: Add, a: $m}
  m: {use: Add, a: $n, b: $l}
  n: {use: Add, a: $m}
  o: {use: Add, a: $o}
  p: {use: Format, scale: 11, filter: uper, times: "2", strict: no}
  q: {use: Parse, path: nothing.txt, extra: .}
  r: {use: Format, text: $params.both, level: $params.both}
  s: {use: Format, mode: lnog, filter: $c}
  t: {use: Slice, start: 5, end: 3}
  u: {use: Find, entry: none}
  v: {use: Total, values: [1, $c, x]}
  w: {use: Total, values: [], weights: {a: $n}}
  x: {use: Add, a: [$n]}
  y: {use: Say, text: $params}
  z: {use: Say, text: $params.whole}
outputs:
  one: $a
  two: $nowhere
  three: $parsed
  four: $parsed.model
"""
    messages = refused(source)
    assert messages == [
        "w.yaml:3:10 [E114] param 'unset' has no value. Give it one: --set unset=...",
        "w.yaml:4:19 [E111] param 'many': expected a value of at most 2, found 3.",
        (
            "w.yaml:5:9 [E114] param 'both' feeds 'r.text' (text) and 'r.level' (float or nothing), which cannot take the same "
            "value. Make two params, or change its type."
        ),
        "w.yaml:6:31 [E114] param 'whole' is of type int, but feeds 'z.text' (text). Make two params, or change its type.",
        "w.yaml:8:12 [E103] there is no node type 'Formt' (node 'a'). Did you mean 'Format'?",
        "w.yaml:9:20 [E104] Format has no input 'txt' (node 'b'). Did you mean 'text'?",
        "w.yaml:10:3 [E105] node 'c' (Say) has no value for 'text' (text). Add 'text: ...'.",
        "w.yaml:11:23 [E106] there is no node 'nowhere' ('text' of node 'd': $nowhere).",
        "w.yaml:12:23 [E106] there is no param 'txet' ('text' of node 'e'). Add it under 'params:'.",
        (
            "w.yaml:15:26 [E107] Parse has several outputs, and '$parsed' does not say which ('model' of node 'h': $parsed). "
            "Write '$parsed.blob' or '$parsed.model' or '$parsed.size'."
        ),
        "w.yaml:16:26 [E107] Parse has no output 'modle' ('model' of node 'i': $parsed.modle). Did you mean 'model'?",
        "w.yaml:17:26 [E108] 'model' of node 'j' (Apply) takes Model, but $parsed.blob is Blob. Did you mean '$parsed.model'?",
        (
            "w.yaml:18:3 [E105] node 'k' (Apply) has no value for 'model' (Model). Add 'model: ...'. "
            "It comes from EditAndLoad or Load or Parse or TooFewOutputs."
        ),
        "w.yaml:20:3 [E109] these nodes feed each other: l -> m -> l. Remove one of these links.",
        "w.yaml:23:3 [E109] these nodes feed each other: o -> o. Remove one of these links.",
        "w.yaml:24:27 [E111] 'scale' of node 'p': expected a value from 0.5 to 10, found 11.",
        "w.yaml:24:39 [E112] 'filter' of node 'p': there is no filter 'uper'. Did you mean 'upper'?",
        "w.yaml:24:52 [E110] 'times' of node 'p': expected a whole number, found '2'. Remove the quotes.",
        "w.yaml:24:65 [E110] 'strict' of node 'p': expected true or false, found 'no'.",
        f"w.yaml:25:25 [E113] 'path' of node 'q': there is no file {home}/nothing.txt. Check the path.",
        f"w.yaml:25:45 [E113] 'extra' of node 'q': {home} is not a file. Check the path.",
        "w.yaml:27:26 [E110] 'mode' of node 's': expected one of 'short', 'long'; found 'lnog'. Did you mean 'long'?",
        (
            "w.yaml:27:40 [E108] 'filter' of node 's' cannot be linked: its value must be known before the run starts. "
            "Use a value or a param."
        ),
        "w.yaml:28:3 [E116] it ends (3) before it starts (5) (node 't').",
        "w.yaml:29:25 [E113] 'entry' of node 'u': there are no entries.",
        "w.yaml:30:27 [E108] 'values' of node 'v' (Total) takes float, but $c is text.",
        "w.yaml:30:27 [E110] 'values' of node 'v': expected a number, found 'x'.",
        (
            "w.yaml:31:40 [E108] 'weights' of node 'w' has the link $n inside a mapping, where links are not supported. "
            "Use values or params there."
        ),
        ("w.yaml:32:20 [E110] 'a' of node 'x': expected int, found a list. To map the node over a list, write 'each: {a: ...}'."),
        "w.yaml:33:23 [E106] there is no node 'params' ('text' of node 'y': $params). Name the param: '$params.NAME'.",
        "w.yaml:37:8 [E106] there is no node 'nowhere' (output 'two': $nowhere).",
        (
            "w.yaml:38:10 [E107] Parse has several outputs, and '$parsed' does not say which (output 'three': $parsed). "
            "Write '$parsed.blob' or '$parsed.model' or '$parsed.size'."
        ),
        "w.yaml:39:9 [E115] output 'four' is Model, which cannot be written to a file. Use '$parsed.blob' or '$parsed.size'.",
    ]
    assert {line.partition("[")[2][:4] for line in messages} == {
        *(f"E{code}" for code in (103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116)),
    }


def test_failing_check_is_an_error_of_its_plugin(refused):
    assert refused("  s: {use: Slice, start: 13}\n") == [
        (
            "w.yaml:3:3 [E116] the check of Slice failed: ZeroDivisionError: cannot check 13 (node 's'). "
            "This is a mistake in plugin 'stub_pack'."
        ),
    ]


def test_check_errors_have_the_location_of_the_input(refused):
    message = "[E116] start 101 is never reached (node 's')."
    assert refused("  s: {use: Slice, end: 200, start: 101}\n") == [f"w.yaml:3:36 {message}"]
    whole = "nodegraph: 1\nparams: {late: 101}\nnodes:\n  s: {use: Slice, end: 200, start: $params.late}\n"
    assert refused(whole) == ["w.yaml:2:16 " + message.replace("start 101", "param 'late': start 101", 1)]
    assert refused("  s: {use: Slice, end: 200}\n", "s.start=101") == [message.replace("start 101", "--set s.start: start 101", 1)]
    assert refused("  s: {use: Slice, start: 5}\n", "s.end=3") == ["w.yaml:3:3 [E116] it ends (3) before it starts (5) (node 's')."]


def test_checks_know_what_the_nodes_above_say_about_their_outputs(check, refused):
    assert refused("  c: {use: Cut, roll: $r, length: 11}\n  r: {use: Roll}\n") == [
        "w.yaml:3:35 [E116] length: 11 is more than the 10 of the roll (node 'c')."
    ]
    chain = "  r: {use: Roll, length: 20}\n  a: {use: Cut, roll: $r, length: 15}\n  b: {use: Cut, roll: $a, length: 6}\n"
    assert refused(chain) == ["w.yaml:5:35 [E116] length: 6 is more than the 5 of the roll (node 'b')."]
    check(chain, "r.length=21")
    check("  p: {use: FindPaper}\n  c: {use: Cut, roll: $p, length: 99}\n")


def test_nothing_is_known_below_a_node_that_is_wrong(refused):
    assert refused("  r: {use: Roll, length: 13}\n  c: {use: Cut, roll: $r, length: 99}\n") == [
        (
            "w.yaml:3:3 [E116] the outline of Roll failed: ZeroDivisionError: cannot foresee 13 (node 'r'). "
            "This is a mistake in plugin 'stub_pack'."
        ),
    ]
    below = "  b: {use: Cut, roll: $c, length: 99}\n"
    assert len(refused(f"  r: {{use: Roll}}\n  c: {{use: Cut, roll: $r, length: 11}}\n{below}")) == 1
    assert [line for line in refused(f"  c: {{use: Cut, roll: $b, length: 1}}\n{below}") if "E109" not in line] == []


def test_checks_receive_only_valid_literals(check, refused):
    check("  s: {use: Slice, start: 5, end: $a}\n  a: {use: Add}\n")
    (message,) = refused("  s: {use: Slice, start: 5, end: x}\n")
    assert "[E110]" in message


def test_unknown_type_error_names_broken_plugins(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import nothing_there\n")
    plugins = load_plugins([tmp_path])
    with pytest.raises(WorkflowError) as caught:
        build_graph(Workflow.parse("nodegraph: 1\nnodes: {a: {use: Gone}}", file="w.yaml"), plugins)
    assert str(caught.value) == (
        "w.yaml:2:18 [E103] there is no node type 'Gone' (node 'a'). 'nodegraph nodes' lists them. "
        f"[E304] plugin 'broken' ({tmp_path}/broken.py) cannot be loaded: ModuleNotFoundError: No module named 'nothing_there' "
        f"({tmp_path}/broken.py:1)."
    )


def test_choice_of_an_unknown_registry_is_an_error(plugins, tmp_path):
    (tmp_path / "picking.py").write_text(
        "from typing import Annotated\nfrom nodegraph import Choice, hookimpl, node\n"
        "@node('Pick')\ndef pick(one: Annotated[str, Choice('widgets')]) -> str:\n    return one\n"
        "@hookimpl\ndef register_nodes(register):\n    register(pick)\n"
    )
    with pytest.raises(WorkflowError) as caught:
        build_graph(Workflow.parse("nodegraph: 1\nnodes: {a: {use: Pick, one: x}}", file="w.yaml"), load_plugins([tmp_path]))
    assert str(caught.value) == (
        "w.yaml:2:29 [E112] 'one' of node 'a': no plugin offers widgets. 'nodegraph plugins' lists the plugins."
    )


def test_errors_in_python_have_lines(plugins):
    workflow = Workflow(base=STUB_PLUGINS)
    workflow.param("p", 3, max=2)
    say = workflow.add("Say", txt="x")
    workflow.add("Format", model=say, scale=100)
    workflow.output("o", say.blob)
    with pytest.raises(WorkflowError) as caught:
        build_graph(workflow, plugins)
    lines = [(problem.where.line, problem.code) for problem in caught.value.problems]
    first = lines[0][0]
    assert lines == [
        (first, "E111"),
        (first + 1, "E104"),
        (first + 1, "E105"),
        (first + 2, "E104"),
        (first + 2, "E111"),
        (first + 3, "E107"),
    ]
    assert {Path(problem.where.file).name for problem in caught.value.problems} == {"test_checking.py"}


def test_cycles_through_lists_and_overrides_are_errors(check, refused):
    nodes = "  a: {use: Total, values: [1, $b]}\n  b: {use: Total, values: []}\n"
    check(nodes)
    assert refused(nodes, "b.values=[2, $a]") == [
        "w.yaml:3:3 [E109] these nodes feed each other: a -> b -> a. Remove one of these links."
    ]


# --- params and overrides


PARAMS = """\
nodegraph: 1
params:
  text: a word
  seed: 7
  zoom: {default: 2, min: 1, max: 9}
  file: {type: path, default: note.txt}
  level: {type: float, default: null}
nodes:
  b: {use: Format, text: $params.text, scale: $params.zoom, level: $params.level}
  d: {use: Draw, seed: $params.seed, other: $params.seed}
  s: {use: Parse, path: $params.file}
  p: {use: Apply, model: $s.model, blob: $b}
outputs:
  o: $p
"""


def test_params_have_the_type_of_their_inputs(check):
    graph = check(PARAMS, "text=no", "seed=8", "zoom=3")
    assert (value(graph, "b", "text"), value(graph, "b", "scale"), value(graph, "d", "seed")) == ("no", 3.0, 8)
    assert graph.params == {"text": "no", "seed": 8, "zoom": 3, "file": "note.txt", "level": None}
    graph = check(PARAMS, text="$b", seed=9, level=1)
    assert (value(graph, "b", "text"), value(graph, "d", "other"), value(graph, "b", "level")) == ("$b", 9, 1.0)


def test_node_inputs_can_be_overridden(check):
    graph = check(PARAMS, "b.text=16:9", "b.times=3", "b.filter=upper", "p.blob=$s.blob", "b.level=1e-4")
    assert (value(graph, "b", "text"), value(graph, "b", "times"), value(graph, "b", "level")) == ("16:9", 3, 1e-4)
    assert graph.nodes["b"].inputs["filter"].entry.name == "upper"
    assert graph.nodes["p"].inputs["blob"] == ResolvedLink("s", "blob")
    assert value(check(PARAMS, **{"b.text": "x"}), "b", "text") == "x"


def test_last_setting_wins(check):
    assert value(check(PARAMS, "zoom=3", "zoom=4"), "b", "scale") == 4.0
    assert value(check(PARAMS, "zoom=3", "b.scale=5"), "b", "scale") == 5.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("zoom=0", "[E111] --set zoom: expected a value from 1 to 9, found 0."),
        ("zoom=9.5", "[E111] --set zoom: expected a value from 1 to 9, found 9.5."),
        ("zoom=big", "[E110] --set zoom, 'scale' of node 'b': expected a number, found 'big'."),
        ("zoom=[", None),
        ("seed=1.5", "[E110] --set seed, 'seed' of node 'd': expected a whole number, found 1.5."),
        (
            "seed=-1",
            (
                "[E111] --set seed, 'seed' of node 'd': expected a value from 0 to 18446744073709551615, found -1. "
                "Write 'random' for a number that is drawn."
            ),
        ),
        ("seed=Random", "[E110] --set seed, 'seed' of node 'd': expected a whole number or 'random', found 'Random'."),
        ("level=x", "[E110] --set level: expected a number, found 'x'."),
        ("b.times=many", "[E110] --set b.times, 'times' of node 'b': expected a whole number, found 'many'."),
        (
            "b.filter=lowr",
            "[E112] --set b.filter, 'filter' of node 'b': there is no filter 'lowr'. Did you mean 'lower'?",
        ),
        ("p.blob=$s", None),
        (
            "p.blob=1",
            (
                "[E110] --set p.blob, 'blob' of node 'p': expected a link to an output of type Blob, found 1. "
                "Write '$node' or '$node.port'."
            ),
        ),
        ("txet=x", "[E120] --set txet: the workflow has no such param or node input. Did you mean 'text'?"),
        ("b.txt=x", "[E120] --set b.txt: Format has no input 'txt'. Did you mean 'text'?"),
        ("bb.text=x", "[E120] --set bb.text: the workflow has no such param or node input. Did you mean 'b.text'?"),
        ("xyz=1", None),
        ("strict=true", "[E120] --set strict: the workflow has no such param or node input. Did you mean 'b.strict'?"),
        ("stritc=true", "[E120] --set stritc: the workflow has no such param or node input. Did you mean 'b.strict'?"),
        ("scale=3", "[E120] --set scale: the workflow has no such param or node input. Did you mean 'zoom'?"),
        (
            "b.text.size=3",
            "[E120] --set b.text.size: 'text' of node 'b' is text, which has no 'size'. Set it as a whole: --set b.text=...",
        ),
    ],
)
def test_wrong_settings_are_errors(refused, setting, message):
    found = refused(PARAMS, setting)
    assert message is None or found[0] == message
    assert all(line.startswith("[E1") for line in found)


def test_wrong_python_values_are_named(refused):
    assert refused(PARAMS, zoom="big", seed=None)[0] == "[E110] 'zoom', 'scale' of node 'b': expected a number, found 'big'."
    assert refused(PARAMS, **{"b.time": 1}) == ["[E120] 'b.time': Format has no input 'time'. Did you mean 'times'?"]
    assert refused("  a: {use: Add}\n", x=1) == [
        "[E120] 'x': the workflow has no such param or node input. It has no params. 'node.input' sets an input of a node."
    ]


def test_param_without_a_value_can_be_set(check, refused):
    source = "nodegraph: 1\nparams:\n  text: {help: what to say}\nnodes:\n  s: {use: Say, text: $params.text}\n"
    assert refused(source) == ["w.yaml:3:9 [E114] param 'text' has no value. Give it one: --set text=..."]
    assert value(check(source, "text="), "s", "text") == ""


def test_declared_type_of_an_unused_param_is_checked(check, refused):
    source = "nodegraph: 1\nparams:\n  n: {type: int, default: 3}\n  t: {type: text, default: x}\nnodes:\n"
    assert check(source, "n=4", "t=5").params == {"n": 4, "t": "5"}
    assert refused(source, "n=x") == ["[E110] --set n: expected a whole number, found 'x'."]


def test_random_param_is_drawn_once(check):
    graphs = [check(PARAMS, "seed=random") for _ in range(3)]
    drawn = [value(graph, "d", "seed") for graph in graphs]
    assert len(set(drawn)) == 3
    for graph, seed in zip(graphs, drawn, strict=True):
        assert 0 <= seed < 2**32
        assert value(graph, "d", "other") == seed == graph.params["seed"]
        assert graph.resolved.params["seed"].default == seed
        assert check(graph.resolved).nodes == graph.nodes


def test_random_inputs_are_drawn_one_by_one(check):
    graph = check("  d: {use: Draw, seed: random, other: random}\n")
    seed, other = value(graph, "d", "seed"), value(graph, "d", "other")
    assert seed != other
    assert graph.resolved.nodes["d"].inputs == {"seed": seed, "other": other}
    assert value(check("  d: {use: Draw}\n", "d.seed=random"), "d", "seed") != 0


def test_random_is_plain_text_elsewhere(check):
    assert value(check("  b: {use: Format, text: random}\n"), "b", "text") == "random"


def test_resolved_workflow_is_complete(check, tmp_path):
    graph = check(PARAMS, "text=two\nlines", "b.times=3", "p.blob=$s.blob", "zoom=4")
    again = Workflow.parse(graph.resolved.dump(), base=tmp_path / "home")
    assert again.params["text"].default == "two\nlines"
    assert again.params["zoom"].default == 4
    assert again.nodes["b"].inputs["times"] == 3
    assert str(again.nodes["p"].inputs["blob"]) == "$s.blob"
    repeated = check(again)
    assert {n: node.inputs for n, node in repeated.nodes.items()} == {n: node.inputs for n, node in graph.nodes.items()}
    assert graph.resolved is not check(PARAMS).resolved


def test_paths_are_relative_to_the_file_or_current_folder(check, refused, tmp_path, monkeypatch):
    away = tmp_path / "away"
    away.mkdir()
    (away / "other.txt").write_text("other")
    (away / "a word").mkdir()
    monkeypatch.chdir(away)
    assert check(PARAMS).nodes["s"].inputs["path"].value == tmp_path / "home/note.txt"
    for graph in (check(PARAMS, "file=other.txt"), check(PARAMS, file=Path("other.txt")), check(PARAMS, **{"s.path": "other.txt"})):
        assert graph.nodes["s"].inputs["path"].value.read_text() == "other"
        assert check(graph.resolved).nodes["s"].inputs["path"].value.resolve() == away / "other.txt"
    graph = check(PARAMS, "file=other.txt", "text=a word")
    assert (graph.params["file"], graph.params["text"]) == ("../away/other.txt", "a word")
    assert check(PARAMS, f"file={away}/other.txt").params["file"] == f"{away}/other.txt"
    monkeypatch.setenv("HOME", str(away))
    graph = check(PARAMS, "file=~/other.txt")
    assert graph.params["file"] == "~/other.txt"
    assert graph.nodes["s"].inputs["path"].value == away / "other.txt"
    assert refused(PARAMS, "file=note.txt") == [
        f"[E113] --set file, 'path' of node 's': there is no file {away}/note.txt. Check the path."
    ]
    (message,) = refused(PARAMS, "file=~no-such-user/x")
    assert "[E113] --set file, 'path' of node 's': ~no-such-user/x: " in message
    (message,) = refused(PARAMS, "file=" + "x" * 5000)
    assert "[E113] --set file, 'path' of node 's': File name too long" in message
    assert refused(PARAMS, "file=a\udcff")[0].startswith("[E110] --set file: expected text, found bytes that are not UTF-8")


def test_python_values_are_shown_by_digest(check, plugins):
    module = plugins.manager.get_plugin("stub_pack")
    blob, model = module.Blob(b"text"), module.Model()
    workflow = Workflow()
    workflow.add("Apply", model=model, blob=blob)
    workflow.add("Anything", value=[model])
    graph = check(workflow)
    assert graph.nodes["apply"].inputs["blob"] == Value(blob, digest=plugins.codecs.digest(plugins.codecs.by_name("blob"), blob))
    assert graph.nodes["apply"].inputs["model"] == Value(model)
    assert "<Blob given in Python>" in dump(graph.resolved, all_values=False)


# --- targets


def test_targets_replace_outputs(check):
    graph = check(PARAMS, targets=["s.size", "p", "o", "b.output"])
    assert {name: (output.link, output.save) for name, output in graph.outputs.items()} == {
        "s.size": (ResolvedLink("s", "size"), None),
        "p": (ResolvedLink("p", "output"), None),
        "o": (ResolvedLink("p", "output"), None),
        "b.output": (ResolvedLink("b", "output"), None),
    }
    assert check(PARAMS).outputs.keys() == {"o"}


def test_output_as_target_keeps_its_file_name(check):
    source = (
        "  a: {use: Add}\n  b: {use: Add}\noutputs:\n  a: {from: $a, save: x}\n  b: {from: $a, save: y}\n  o: {from: $a, save: z}\n"
    )
    saves = {target: check(source, targets=[target]).outputs[target] for target in "abo"}
    assert {name: (output.link.node, output.save) for name, output in saves.items()} == {
        "a": ("a", "x"),
        "b": ("b", None),
        "o": ("a", "z"),
    }


def test_unknown_targets_are_errors(refused):
    assert refused(PARAMS, targets=["q", "s", "s.blop", "out"]) == [
        "[E120] target 'q': there is no such node or output.",
        ("[E107] Parse has several outputs, and '$s' does not say which (target 's'). Write '$s.blob' or '$s.model' or '$s.size'."),
        "[E107] Parse has no output 'blop' (target 's.blop'). Did you mean 'blob'?",
        "[E120] target 'out': there is no such node or output.",
    ]


# --- size


def test_ten_thousand_nodes_in_a_chain_are_checked(check):
    lines = [f"  n{i}: {{use: Add, a: ${f'n{i - 1}' if i else 'last'}, b: {i}}}" for i in range(10_000)]
    graph = check("  last: {use: Add}\n" + "\n".join(reversed(lines)) + "\n")
    assert list(graph.nodes) == ["last", *(f"n{i}" for i in range(10_000))]
    assert len(graph.resolved.nodes) == 10_001


def test_long_cycle_is_abbreviated(refused):
    lines = [f"  n{i}: {{use: Add, a: $n{(i + 1) % 2000}}}" for i in range(2000)]
    assert refused("\n".join(lines) + "\n") == [
        (
            "w.yaml:3:3 [E109] these nodes feed each other: n0 -> n1999 -> n1998 -> n1997 -> ... (2,000 nodes) -> n3 -> n2 -> n1 "
            "-> n0. Remove one of these links."
        ),
    ]
