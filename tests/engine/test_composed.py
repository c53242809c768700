"""Sub-workflows, `each`, `repeat` and `Switch`: what they compute, their names, and every mistake in them."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, NodeError, Workflow, WorkflowError

UPPER = """
nodegraph: 1
params: {text: hello, times: {default: 2, min: 1}}
nodes:
  again: {use: Repeat, text: $params.text, times: $params.times}
  loud: {use: Slow, text: $again, steps: 1}
outputs: {text: {from: $loud, save: "ignored.json"}}
sweep: {over: {times: [1, 2]}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes workflow files; the first argument is the content of `main.yaml`, without its first line."""

    def write(main: str, **others: str) -> Path:
        (tmp_path / "upper.yaml").write_text(UPPER)
        for name, text in others.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"nodegraph: 1\n{textwrap.dedent(text)}")
        (tmp_path / "main.yaml").write_text(f"nodegraph: 1\n{textwrap.dedent(main)}")
        return tmp_path / "main.yaml"

    return write


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine(cache_dir=None)


@pytest.fixture
def problems(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The problems of a workflow file, with paths relative to its folder."""
    monkeypatch.chdir(tmp_path)

    def problems(file: Path, **params: Any) -> list[str]:
        with pytest.raises(WorkflowError) as caught:
            engine.check(file.name, params={name.replace("__", "."): value for name, value in params.items()})
        return [str(problem) for problem in caught.value.problems]

    return problems


# --- sub-workflows


def test_a_workflow_is_a_node(engine, write):
    file = write(
        """
        params: {word: abc}
        nodes:
          one: {use: ./upper.yaml, text: $params.word}
          two: {use: "#twice", text: $one.text}
          three: {use: "#twice", text: $two}
        outputs: {end: {from: $three.end}}
        workflows:
          twice:
            params: {text: {type: text}}
            nodes: {r: {use: Repeat, text: $params.text}}
            outputs: {end: {from: $r}}
        """
    )
    result = engine.run(file)
    assert result["end"] == "ABC" * 8
    assert list(result.nodes) == ["one/again", "one/loud", "two/r", "three/r"]
    assert result["one"] == result["one.text"] == "ABCABC"
    assert result["one/again"] == "abcabc"


def test_inner_nodes_are_named_in_overrides_targets_and_force(make_engine, write, tmp_path):
    file = write("nodes: {one: {use: ./upper.yaml, text: ab}}\noutputs: {o: {from: $one}}\n")
    engine = make_engine()
    assert engine.run(file)["o"] == "ABAB"
    assert engine.run(file, params={"one/again.times": 1})["o"] == "AB"
    assert engine.run(file, params={"one.times": 3})["o"] == "ABABAB"
    assert engine.run(file, targets="one/again")["one/again"] == "abab"
    assert engine.run(file, targets="one")["one"] == "ABAB"
    assert engine.run(file, force=["one/loud"]).ran == ("one/loud",)
    assert engine.run(file, force=["one"]).ran == ("one/again", "one/loud")
    written = engine.run(file, out=tmp_path / "out").outputs["o"]
    assert [path.name for path in written] == ["main-o.json"]


def test_a_part_that_moves_into_a_file_is_a_hit(make_engine, write):
    engine = make_engine()
    flat = write("nodes: {a: {use: Repeat, text: hello, times: 2}, b: {use: Slow, text: $a, steps: 1}}\noutputs: {o: {from: $b}}\n")
    assert engine.run(flat).ran == ("a", "b")
    moved = write("nodes: {one: {use: ./upper.yaml}}\noutputs: {o: {from: $one}}\n")
    result = engine.run(moved)
    assert (result.ran, result.cached) == ((), ("one/loud",))


def test_paths_are_relative_to_their_file(engine, write, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "note.txt").write_text("inner")
    (tmp_path / "note.txt").write_text("outer")
    file = write(
        """
        nodes:
          default: {use: ./sub/read.yaml}
          given: {use: ./sub/read.yaml, path: note.txt}
          deep: {use: ./sub/deep.yaml}
        outputs: {a: {from: $default}, b: {from: $given}, c: {from: $deep}}
        """,
        sub__read="params: {path: {type: path, default: note.txt}}\n"
        "nodes: {r: {use: Read, path: $params.path}}\noutputs: {t: {from: $r}}\n",
        sub__deep="nodes: {x: {use: ../sub/read.yaml, path: ./note.txt}, y: {use: Read, path: note.txt}}\n"
        "outputs: {t: {from: $x}}\n",
    )
    result = engine.run(file)
    assert [result[name] for name in "abc"] == ["inner", "outer", "inner"]


def test_a_param_without_default_has_to_be_given_where_the_file_is_used(write, problems, engine):
    inner = "params: {blob: {type: Blob}}\nnodes: {s: {use: Slice, blob: $params.blob}}\noutputs: {b: {from: $s}}\n"
    file = write("nodes: {i: {use: ./inner.yaml}}\n", inner=inner)
    assert problems(file) == ["main.yaml:2:9 [E105] node 'i' (inner.yaml) has no value for 'blob' (Blob). Add 'blob: ...'."]
    assert problems(file.with_name("inner.yaml")) == [
        "inner.yaml:2:16 [E114] param 'blob' has no value. A node of another workflow that uses this one gives it."
    ]
    fits = write("nodes: {s: {use: Slice}, i: {use: ./inner.yaml, blob: $s}}\noutputs: {o: {from: $i}}\n", inner=inner)
    assert engine.run(fits).ran == ("s", "i/s")


def test_errors_at_the_border_name_both_files(write, problems):
    inner = """
        params: {count: {type: int, min: 1}, blob: {type: Blob}, name: x}
        nodes: {r: {use: Repeat, text: $params.name, times: $params.count}, s: {use: Slice, blob: $params.blob}}
        outputs: {t: {from: $r}}
    """
    file = write(
        """
        nodes:
          word: {use: Repeat, text: a}
          wrong: {use: ./inner.yaml, count: three, blob: $word, name: 7}
          low: {use: ./inner.yaml, count: 0, blob: 5, nmae: x}
          high: {use: ./inner.yaml, count: 10}
          port: {use: Repeat, text: $wrong.txt}
        """,
        inner=inner,
    )
    assert problems(file) == [
        (
            "main.yaml:5:37 [E110] 'count' of node 'wrong', which is param 'count' in inner.yaml:3:17: expected a whole number, "
            "found 'three'."
        ),
        "main.yaml:5:50 [E108] 'blob' of node 'wrong' in inner.yaml:3:44 (inner.yaml) takes Blob, but $word is text.",
        (
            "main.yaml:5:63 [E110] 'name' of node 'wrong', 'text' of node 'wrong/r' in inner.yaml:4:9: expected text, found 7. "
            "Put it in quotes."
        ),
        (
            "main.yaml:6:35 [E111] 'count' of node 'low', which is param 'count' in inner.yaml:3:17: expected a value of "
            "at least 1, "
            "found 0."
        ),
        (
            "main.yaml:6:44 [E110] 'blob' of node 'low', which is param 'blob' in inner.yaml:3:44: expected a link to an "
            "output of "
            "type Blob, found 5. Write '$node' or '$node.port'."
        ),
        "main.yaml:6:47 [E104] inner.yaml has no param 'nmae' (node 'low'). Did you mean 'name'?",
        "main.yaml:7:3 [E105] node 'high' (inner.yaml) has no value for 'blob' (Blob). Add 'blob: ...'.",
        (
            "main.yaml:7:36 [E111] 'count' of node 'high', 'times' of node 'high/r' in inner.yaml:4:9: expected a value "
            "from 0 to 9, "
            "found 10."
        ),
        "main.yaml:8:29 [E107] inner.yaml has no output 'txt' (node 'wrong'). Its outputs are t.",
    ]


def test_mistakes_in_an_inner_file_are_reported_once_with_its_name(write, problems):
    inner = "params: {n: {type: Blobb}}\nnodes: {r: {use: Repeet, text: a}, t: {use: Repeat, txet: a}}\nouputs: {}\n"
    file = write("nodes: {i: {use: ./inner.yaml, each: {n: [1, 2]}}, j: {use: ./inner.yaml, n: 3}}\n", inner=inner)
    assert problems(file) == [
        "inner.yaml:2:13 [E114] there is no param type 'Blobb'. Did you mean 'Blob'?",
        "inner.yaml:3:18 [E103] there is no node type 'Repeet' (node 'i[0]/r'). Did you mean 'Repeat'?",
        "inner.yaml:3:18 [E103] there is no node type 'Repeet' (node 'j/r'). Did you mean 'Repeat'?",
        "inner.yaml:3:36 [E105] node 'i[0]/t' (Repeat) has no value for 'text' (text). Add 'text: ...'.",
        "inner.yaml:3:36 [E105] node 'j/t' (Repeat) has no value for 'text' (text). Add 'text: ...'.",
        "inner.yaml:3:53 [E104] Repeat has no input 'txet' (node 'i[0]/t'). Did you mean 'text'?",
        "inner.yaml:3:53 [E104] Repeat has no input 'txet' (node 'j/t'). Did you mean 'text'?",
        "inner.yaml:4:1 [E101] the workflow has no 'ouputs'. Did you mean 'outputs'?",
    ]


def test_circles_of_files_and_missing_files(write, problems):
    file = write(
        "nodes: {a: {use: ./a.yaml}, gone: {use: ./gone.yaml}, n: {use: '#nme'}}\nworkflows: {name: {nodes: {}}}\n",
        a="nodes: {b: {use: ./b.yaml}}\n",
        b="nodes: {a: {use: ./a.yaml}}\n",
    )
    assert problems(file) == [
        "[E100] there is no workflow file gone.yaml. Check the path.",
        "b.yaml:2:18 [E119] these workflows use each other: a.yaml -> b.yaml -> a.yaml (node 'a/b/a'). Remove one of these uses.",
        "main.yaml:2:41 [E119] node 'gone' uses ./gone.yaml, which cannot be read.",
        "main.yaml:2:64 [E119] main.yaml has no workflow 'nme' (node 'n'). Did you mean 'name'?",
    ]


def test_a_hundred_levels_of_files(engine, write, problems):
    def nest(levels: int) -> Path:
        names = [f"level{i}" for i in range(levels)]
        inner = {
            name: f"params: {{t: x}}\nnodes: {{n: {{use: ./{after}.yaml, t: $params.t}}}}\noutputs: {{t: {{from: $n}}}}\n"
            for name, after in itertools.pairwise(names)
        }
        inner[names[-1]] = "params: {t: y}\nnodes: {n: {use: Repeat, text: $params.t}}\noutputs: {t: {from: $n}}\n"
        return write("nodes: {n: {use: ./level0.yaml, t: ab}}\noutputs: {o: {from: $n}}\n", **inner)

    assert engine.run(nest(100))["o"] == "abab"


def nested(level: str, levels: int) -> str:
    """Workflows of one file that each use the next one as `NEXT`. The node that needs the result comes before the nest."""
    inside = "".join(f"  w{i}: {level.replace('NEXT', f'#w{i + 1}')}\n" for i in range(levels - 1))
    last = "{params: {v: 0}, nodes: {n: {use: Number, value: $params.v}}, outputs: {o: {from: $n}}}"
    main = "params: {v: 2}\nnodes: {z: {use: Number, value: $a.o}, a: {use: '#w0', v: $m}, m: {use: Number, value: $params.v}}\n"
    return f"{main}outputs: {{o: {{from: $z}}}}\nworkflows:\n{inside}  w{levels - 1}: {last}\n"


NESTS = {
    "passed on": "{params: {v: 0}, nodes: {a: {use: 'NEXT', v: $params.v}}, outputs: {o: {from: $a}}}",
    "in a range": """{params: {v: {default: 0, type: float, min: 0}}, nodes: {a: {use: 'NEXT', v: $params.v}},
      outputs: {o: {from: $a}}}""",
    "changed": "{params: {v: 0}, nodes: {a: {use: 'NEXT', v: $n}, n: {use: Number, value: $params.v}}, outputs: {o: {from: $a}}}",
    "chosen": """{params: {v: 0}, nodes: {a: {use: 'NEXT', v: $params.v}, s: {use: Switch, on: p, cases: {p: $a.o, q: $a.o}}},
      outputs: {o: {from: $s}}}""",
    "repeated": """{params: {v: 0}, nodes: {a: {use: 'NEXT', v: $params.v, repeat: {times: 1, carry: {v: o}}}},
      outputs: {o: {from: $a}}}""",
    "mapped": """{params: {v: 0}, nodes: {a: {use: 'NEXT', each: {v: [$params.v]}}, t: {use: Total, values: $a.o}},
      outputs: {o: {from: $t}}}""",
}


@pytest.mark.parametrize("level", NESTS.values(), ids=NESTS)
def test_more_levels_than_python_has_stack(engine, write, level):
    graph = engine.check(write(nested(level, 400)))
    assert len(graph.nodes) == {NESTS["changed"]: 402, NESTS["mapped"]: 402}.get(level, 3)
    (link,) = graph.nodes["z"].links()
    source = link.node
    while source != "m":  # through every level
        (link,) = graph.nodes[source].links()
        source = link.node


@pytest.mark.slow
def test_five_thousand_levels_of_one_file_and_of_files(engine, write):
    assert engine.run(write(nested(NESTS["passed on"], 5_000)))["o"] == 2
    level = "params: {v: 0}\nnodes: {a: {use: ./wNEXT.yaml, v: $params.v}}\noutputs: {o: {from: $a}}\n"
    inner = {f"w{i}": level.replace("NEXT", str(i + 1)) for i in range(4_999)}
    inner["w4999"] = "params: {v: 0}\nnodes: {n: {use: Number, value: $params.v}}\noutputs: {o: {from: $n}}\n"
    main = "nodes: {a: {use: ./w0.yaml, v: 3}}\noutputs: {o: {from: $a}}\n"
    assert engine.run(write(main, **inner))["o"] == 3


def test_a_long_circle_is_found_and_named(write, problems):
    inside = "".join(f"  w{i}: {{nodes: {{a: {{use: '#w{(i + 1) % 1_500}'}}}}}}\n" for i in range(1_500))
    (problem,) = problems(write(f"nodes: {{a: {{use: '#w0'}}}}\nworkflows:\n{inside}"))
    path = " -> ".join(f"main.yaml#w{i}" for i in range(4))
    assert f"these workflows use each other: {path} -> ... (1,501 workflows) -> main.yaml#w1497" in problem
    assert "-> main.yaml#w1499 -> main.yaml#w0 (node 'a/a/a" in problem
    assert len(problem) < 400


def test_workflows_of_one_name_are_no_circle(engine):
    """Each workflow made in Python has names of its own for those inside it."""
    inner = Workflow("step")
    inner.output("o", inner.add("Number", value=7))
    outer = Workflow("step")
    outer.output("o", outer.use(inner))
    top = Workflow("top")
    top.output("o", top.use(outer))
    assert engine.run(top)["o"] == 7


def test_switches_that_share_their_cases_are_checked_in_linear_time(engine, write):
    """Sixty levels: a check that goes through both cases each time would not end."""
    level = """{params: {v: 0}, nodes: {a: {use: 'NEXT', v: $params.v},
      s: {use: Switch, on: p, cases: {p: $a.o, q: $a.o}}}, outputs: {o: {from: $s}}}"""
    assert len(engine.check(write(nested(level, 60))).nodes) == 3


def test_the_range_of_a_case_that_is_not_chosen_does_not_bind_the_other(engine, write):
    file = write(
        """
        nodes:
          m: {use: Number, value: 5}
          s: {use: Switch, on: p, cases: {p: $m, q: $low}}
          low: {use: "#low", v: $m}
          z: {use: "#use", v: $s}
        outputs: {o: {from: $z}}
        workflows:
          low: {params: {v: {default: 0, max: 1}}, nodes: {n: {use: Number, value: $params.v}}, outputs: {o: {from: $n}}}
          use: {params: {v: 0}, nodes: {n: {use: Number, value: $params.v}}, outputs: {o: {from: $n}}}
        """
    )
    assert engine.run(file)["o"] == 5


def test_full_names_and_lists_in_lists_are_limited_but_not_levels(write, problems, monkeypatch):
    mapped = "{params: {v: 0}, nodes: {a: {use: 'NEXT', each: {v: [1]}}}, outputs: {o: {from: $a}}}"
    assert any("here are lists inside more than 64 other lists" in problem for problem in problems(write(nested(mapped, 100))))
    monkeypatch.setattr("nodegraph.graph.expansion.expand.MOST_CHARACTERS", 20_000)
    (problem,) = problems(write(nested(NESTS["passed on"], 300)))
    assert "stands for nodes whose full names have more than 20,000 characters, such as 'a/a/a/a/a/a/a" in problem


def test_random_seeds_are_drawn_once_for_each_use_and_item(make_engine, write):
    file = write(
        """
        nodes:
          one: {use: ./drawn.yaml}
          many: {use: ./drawn.yaml, each: {seed: [random, random]}}
          direct: {use: Draw, each: {seed: [random, 5]}}
        outputs: {a: {from: $one.pair}, b: {from: $many.pair}, c: {from: $direct}}
        """,
        drawn="""
            params: {seed: {type: seed, default: random}}
            nodes: {a: {use: Draw, seed: $params.seed}, b: {use: Draw, seed: $params.seed}}
            outputs: {pair: {from: $a}, other: {from: $b}}
        """,
    )
    engine = make_engine()
    result = engine.run(file)
    seeds = result.graph.seeds
    assert set(seeds) == {"one.seed", "many[0].seed", "many[1].seed", "direct[0].seed"}
    assert len(set(seeds.values())) == 4
    again = Workflow.parse(result.graph.resolved.dump(), base=file.parent)
    assert engine.run(again).ran == ()  # the resolved workflow contains the numbers
    assert engine.run(file, params=dict(seeds)).ran == ()
    record = json.loads((engine.cache_dir / "runs" / f"{result.run}.json").read_text())
    assert record["seeds"] == seeds


def test_a_file_that_changes_during_the_run_changes_nothing_in_it(engine, write):
    inner = "params: {t: x}\nnodes: {r: {use: CountItems, items: [$params.t]}}\noutputs: {n: {from: $r}}\n"
    file = write(
        """
        nodes:
          edit: {use: Edit, path: inner.yaml, text: "no workflow"}
          one: {use: ./inner.yaml, t: $edit}
          two: {use: ./inner.yaml, t: $one}
        outputs: {o: {from: $two}}
        """,
        inner=inner,
    )
    assert engine.run(file)["o"] == 1
    assert file.with_name("inner.yaml").read_text() == "no workflow"
    with pytest.raises(WorkflowError, match="inner"):
        engine.run(file)


# --- each


def test_each_maps_nodes_and_workflows_over_lists(engine, write, tmp_path):
    file = write(
        """
        params: {words: {type: "list[text]", default: [x, y, z]}}
        nodes:
          many: {use: ./upper.yaml, times: 3, each: {text: $params.words}}
          twice: {use: Repeat, each: {text: $many.text, times: [1, 2, 3]}}
          n: {use: CountItems, items: $twice}
          lists: {use: CountItems, each: {items: [$twice, [a], []]}}
        outputs: {l: {from: $twice}, n: {from: $n}, lists: {from: $lists}}
        """
    )
    result = engine.run(file, out=tmp_path / "out")
    assert result["l"] == ["XXX", "YYY" * 2, "ZZZ" * 3]
    assert (result["n"], result["lists"]) == (3, [3, 1, 0])
    assert [path.name for path in result.outputs["l"]] == ["main-l-0.json", "main-l-1.json", "main-l-2.json"]
    assert result["many.text"] == result["many"] == ["XXX", "YYY", "ZZZ"]
    assert result["many[1]/again"] == "yyy"
    one = engine.run(file, params={"words": ["q"], "twice.each.times": [2]}, out=tmp_path / "one")
    assert one["l"] == ["QQQQQQ"]
    assert [path.name for path in one.outputs["l"]] == ["main-l-0.json"]
    none = engine.run(file, params={"words": [], "twice.each.times": []}, out=tmp_path / "none")
    assert (none["l"], none["n"], none.outputs["l"]) == ([], 0, [])


def test_overrides_reach_all_items_or_one(engine, write):
    file = write("nodes: {many: {use: ./upper.yaml, each: {text: [a, b]}}}\noutputs: {o: {from: $many}}\n")
    assert engine.run(file, params={"many/again.times": 1})["o"] == ["A", "B"]
    assert engine.run(file, params={"many[1]/again.times": 1})["o"] == ["AA", "B"]
    assert engine.run(file, params={"many.times": 1})["o"] == ["A", "B"]
    assert engine.run(file, params={"many[0].times": 3})["o"] == ["AAA", "BB"]
    assert engine.run(file, targets="many/again")["many/again"] == ["aa", "bb"]
    assert engine.run(file, force=["many[1]"]).failed == ()


def test_items_are_cached_one_by_one(make_engine, write):
    file = write("params: {words: [a, b, c]}\nnodes: {r: {use: Repeat, each: {text: $params.words}}}\noutputs: {o: {from: $r}}\n")
    engine = make_engine()
    assert engine.run(file).ran == ("r[0]", "r[1]", "r[2]")
    assert engine.run(file, params={"words": ["c", "x", "a"]}).ran == ("r[1]",)


MANY = """
params: {words: [a, b, c], times: 2, mode: many}
nodes:
  many: {use: ./inner.yaml, each: {text: $params.words}}
  again: {use: ./inner.yaml, text: x, repeat: {times: $params.times, carry: {text: text}}}
  joined: {use: CountItems, items: $many.text}
  chosen: {use: Switch, on: $params.mode, cases: {many: $many.text, again: [$again.text], one: [$joined]}}
outputs: {many: {from: $many.text}, again: {from: $again.text}, chosen: {from: $chosen}}
"""
INNER = """
params: {text: {type: text}, times: 2}
nodes: {r: {use: Repeat, text: $params.text, times: $params.times}}
outputs: {text: {from: $r}}
"""
EDITS = (
    ("", ""),
    ("times: 2}\nnodes: {r", "times: 3}\nnodes: {r"),  # the default of the inner workflow
    ("[a, b, c]", "[c, a]"),  # another order, and fewer items
    ("[a, b, c]", "[a, a, ab, a]"),  # items that are equal, or alike once they are joined
    ("$params.times}}", "1}}"),  # a param that is used no more
    ("Repeat, text: $params.text, times: $params.times", "Slow, text: $params.text, steps: 1"),  # another node inside
    ("times: 2, mode", "times: 3, mode"),
    ("mode: many", "mode: again"),
    ("mode: many", "mode: one"),
    ("text: x, repeat", "text: xx, repeat"),
)


def test_edited_workflow_gives_what_it_gives_without_a_cache(make_engine, engine, write):
    """Whatever was computed before: items, repetitions and cases have no names in keys, and do not get into each other's way."""
    cached = make_engine()
    for edit in (*EDITS, *EDITS):
        file = write(MANY.replace(*edit), inner=INNER.replace(*edit))
        result, expected = cached.run(file), engine.run(file)
        assert {name: result[name] for name in ("many", "again", "chosen")} == {
            name: expected[name] for name in ("many", "again", "chosen")
        }
    assert result.ran == ()


def test_a_failure_names_its_index_and_the_other_items_finish(engine, write, tmp_path):
    file = write(
        "nodes: {r: {use: Fail, each: {text: [a, b]}}, s: {use: Repeat, each: {text: [a, b]}}}\noutputs: {o: {from: $r}}\n"
    )
    with pytest.raises(NodeError, match=r"node 'r\[[01]\]' \(Fail\) failed"):
        engine.run(file)
    mixed = write(
        """
        nodes:
          w: {use: Switch, each: {on: [bad, good, bad]}, cases: {good: $s, bad: $f}}
          s: {use: Repeat, text: a}
          f: {use: Fail, text: b}
          r: {use: Repeat, each: {text: $w}}
        outputs: {o: {from: $r}}
        """
    )
    result = engine.run(mixed, keep_going=True, raise_errors=False, out=tmp_path / "out")
    assert result.status == "failed"
    assert result.ran == ("s", "r[1]")
    assert [path.name for path in result.outputs["o"]] == ["main-o-1.json"]


def test_mistakes_in_each(write, problems):
    file = write(
        """
        params: {n: 3}
        nodes:
          a: {use: Repeat, each: {text: [a, b], times: [1, 2, 3]}}
          b: {use: Repeat, each: {text: $params.n}}
          c: {use: Repeat, text: [a, b]}
          d: {use: Repeat, each: {text: [a, b]}}
          e: {use: Repeat, text: $d}
          f: {use: Repeat, text: a, each: {text: [a]}}
          g: {use: Repeat, each: [a]}
          h: {use: Nothing, each: {text: []}}
          i: {use: Repeat, each: {text: [a, 1]}}
          j: {use: CountItems, each: {items: [$d, $i]}}
          k: {use: Repeat, each: {text: $missing}}
          l: {use: Repeat, each: {text: $params.nope}}
          m: {use: ./upper.yaml, each: {text: [a]}, repeat: {times: 2, carry: {}}}
        """
    )
    assert problems(file) == [
        "main.yaml:3:13 [E119] 'text' in 'each' of node 'b': expected a list, found 3. Put it in brackets.",
        (
            "main.yaml:5:26 [E119] the lists in 'each' of node 'a' differ in length: 'text' has 2 items and 'times' has 3 items. "
            "Make them equal."
        ),
        (
            "main.yaml:7:26 [E110] 'text' of node 'c': expected text, found ['a', 'b']. To map the node over a list, write "
            "'each: {text: [...]}'."
        ),
        (
            "main.yaml:9:26 [E110] 'text' of node 'e': expected text, found a list. To map the node over a list, write "
            "'each: {text: ...}'."
        ),
        "main.yaml:10:20 [E119] node 'f' has 'text' both as an input and in 'each'. Remove one.",
        (
            "main.yaml:11:26 [E119] 'each' of node 'g': expected a mapping of inputs to lists, found ['a']. Write "
            "'each: {INPUT: [...]}'."
        ),
        "main.yaml:12:12 [E103] there is no node type 'Nothing' (node 'h'). Did you mean 'Anything'?",
        "main.yaml:13:26 [E110] 'text' in 'each' of node 'i', 'text' of node 'i[1]': expected text, found 1. Put it in quotes.",
        "main.yaml:15:26 [E106] there is no node 'missing' ('text' in 'each' of node 'k').",
        "main.yaml:16:26 [E106] there is no param 'nope' ('text' in 'each' of node 'l'). Add it under 'params:'.",
        (
            "main.yaml:17:3 [E119] node 'm' has both 'each' and 'repeat'. Put the repetition into a workflow, and use "
            "that with 'each'."
        ),
    ]


def test_ten_thousand_items(engine, write):
    file = write(
        f"""
        nodes:
          n: {{use: Number, each: {{value: {list(range(10_000))}}}}}
          t: {{use: Total, values: $n}}
        outputs: {{t: {{from: $t}}}}
        """
    )
    graph = engine.check(file)
    assert len(graph.nodes) == 10_001
    assert list(graph.nodes)[9_999] == "n[9999]"


LETTERS = "bcdefghijklmnopqrst"


def test_a_hostile_file_is_an_error(write, problems, monkeypatch):
    monkeypatch.setattr("nodegraph.graph.expansion.expand.MOST_NODES", 2_500)
    file = write(
        """
        nodes: {a: {use: "#a"}}
        workflows:
          a: {nodes: {x: {use: "#b"}, y: {use: "#b"}}}
        """
        + "".join(
            f"  {n}: {{nodes: {{x: {{use: '#{m}'}}, y: {{use: '#{m}'}}}}}}\n        "
            for n, m in zip("bcdefghijklmnopqrs", "cdefghijklmnopqrst", strict=True)
        )
        + "  t: {nodes: {}}\n"
    )
    assert problems(file) == ["[E119] the workflow stands for more than 2,500 nodes. Use fewer items or levels."]
    monkeypatch.setattr("nodegraph.graph.expansion.uses.MOST_ITEMS", 1_000)
    long = write("params: {n: {type: 'list[int]', default: []}}\nnodes: {a: {use: Number, each: {value: $params.n}}}\n")
    (problem,) = problems(long, n=[0] * 1_001)
    assert "'value' in 'each' of node 'a' has 1,001 items; at most 1,000 are supported" in problem


@pytest.mark.slow
def test_each_over_a_million_items_is_refused(write, problems):
    file = write("params: {n: {type: 'list[int]', default: []}}\nnodes: {a: {use: Number, each: {value: $params.n}}}\n")
    (problem,) = problems(file, n=[0] * 1_000_000)
    assert "'value' in 'each' of node 'a' has 1,000,000 items; at most 100,000 are supported" in problem


@pytest.mark.slow
def test_a_hostile_file_of_a_few_lines_is_refused_at_the_real_limit(write, problems):
    """Items of items, and workflows that each use the next one twice: a million nodes, and 2^39."""
    numbers = list(range(1_000))
    squared = write(
        f"""
        params: {{n: {{type: "list[int]", default: {numbers}}}}}
        nodes: {{outer: {{use: "#inner", each: {{a: $params.n}}, n: $params.n}}}}
        workflows:
          inner:
            params: {{a: {{type: int}}, n: {{type: "list[int]"}}}}
            nodes: {{x: {{use: Number, each: {{value: $params.n}}}}}}
            outputs: {{x: {{from: $x}}}}
        """
    )
    assert problems(squared) == ["[E119] the workflow stands for more than 250,000 nodes. Use fewer items or levels."]
    twice = "".join(f"  w{i}: {{nodes: {{x: {{use: '#w{i + 1}'}}, y: {{use: '#w{i + 1}'}}}}}}\n" for i in range(39))
    doubled = write("nodes: {a: {use: '#w0'}}\nworkflows:\n" + twice + "  w39: {nodes: {n: {use: Number}}}\n")
    assert problems(doubled) == ["[E119] the workflow stands for more than 250,000 nodes. Use fewer items or levels."]


# --- repeat


def test_repeat_feeds_each_repetition_with_the_one_before(engine, write):
    file = write(
        """
        params: {n: 3}
        nodes: {r: {use: ./upper.yaml, text: ab, repeat: {times: $params.n, carry: {text: text}}}}
        outputs: {o: {from: $r.text}}
        """
    )
    result = engine.run(file)
    assert result["o"] == "AB" * 8
    assert list(result.nodes) == [f"r[{i}]/{node}" for i in range(3) for node in ("again", "loud")]
    assert engine.run(file, params={"n": 1})["o"] == "ABAB"
    assert engine.run(file, params={"r.times": 1})["o"] == "AB"
    assert engine.run(file, params={"r/again.times": 1})["o"] == "AB"
    assert len(engine.check(file, params={"r.repeat.times": 1000}).nodes) == 2000


def test_mistakes_in_repeat(write, problems):
    file = write(
        """
        nodes:
          a: {use: ./upper.yaml, repeat: {times: 1001, carry: {text: text}}}
          b: {use: ./upper.yaml, repeat: {times: 0, carry: {text: text}}}
          c: {use: ./upper.yaml, repeat: {times: 2, carry: {txt: text}}}
          d: {use: ./upper.yaml, repeat: {times: 2, carry: {text: txt}}}
          e: {use: ./upper.yaml, repeat: 3}
          f: {use: Repeat, text: a, repeat: {times: 2, carry: {text: output}}}
        """
    )
    assert problems(file) == [
        "main.yaml:4:34 [E119] 'times' in 'repeat' of node 'a': expected a whole number from 1 to 1000, found 1001.",
        "main.yaml:5:34 [E119] 'times' in 'repeat' of node 'b': expected a whole number from 1 to 1000, found 0.",
        "main.yaml:6:34 [E104] upper.yaml has no param 'txt' ('carry' of node 'c'). Did you mean 'text'?",
        "main.yaml:7:34 [E107] upper.yaml has no output 'txt' ('carry' of node 'd'). Did you mean 'text'?",
        (
            "main.yaml:8:34 [E119] 'repeat' of node 'e': expected 'times' and 'carry', found 3. Write 'repeat: {times: 3, carry: "
            "{INPUT: OUTPUT}}'."
        ),
        (
            "main.yaml:9:29 [E119] 'repeat' of node 'f': Repeat is a node type, and only workflows are repeated. Put the "
            "node into a "
            "workflow."
        ),
    ]


# --- Switch

SWITCH = """
params: {mode: fast}
nodes:
  fast: {use: Repeat, text: a}
  best: {use: Repeat, text: b, times: 3}
  chosen: {use: Switch, on: $params.mode, cases: {fast: $fast, best: $best, word: hey}}
  end: {use: Repeat, text: $chosen, times: 1}
outputs: {o: {from: $end}}
"""


def test_switch_has_no_key_and_computes_only_the_chosen_case(make_engine, write):
    engine, file = make_engine(), write(SWITCH)
    result = engine.run(file)
    assert (result["o"], result.ran, result.pruned) == ("aa", ("fast", "end"), ("best",))
    assert engine.run(write(SWITCH.replace("text: b", "text: c"))).ran == ()  # a change of another case is no miss
    assert engine.run(file, params={"mode": "best"})["o"] == "ccc"
    assert engine.run(file, params={"chosen.on": "word"})["o"] == "hey"
    assert engine.run(file, params={"chosen.cases.word": "you", "mode": "word"})["o"] == "you"
    plain = write("nodes: {fast: {use: Repeat, text: a}, end: {use: Repeat, text: $fast, times: 1}}\noutputs: {o: {from: $end}}\n")
    assert engine.run(plain).ran == ()  # what follows sees the key of the chosen case


def test_on_is_matched_as_text(engine, write):
    file = write(
        """
        params: {on: 2}
        nodes:
          chosen: {use: Switch, on: $params.on, cases: {"2": two, "true": yes, "0.5": half}}
          end: {use: Repeat, text: $chosen, times: 1}
        outputs: {o: {from: $end}}
        """
    )
    assert [engine.run(file, params={"on": on})["o"] for on in (2, "2", True, 0.5)] == ["two", "two", "yes", "half"]


def test_mistakes_in_switch(write, problems):
    file = write(
        """
        params: {mode: slow}
        nodes:
          a: {use: Switch, on: $params.mode, cases: {fast: x, slow_: y}}
          b: {use: Switch, cases: {fast: x}}
          c: {use: Switch, on: x, cases: [1]}
          d: {use: Switch, on: x, cases: {x: a, y: $nowhere}}
          e: {use: Switch, on: x, cases: {x: a, y: 5}}
          f: {use: Repeat, text: $e}
          g: {use: Switch, on: x, case: {}, cases: {x: a}}
          h: {use: CountItems, items: [$e.port]}
        outputs: {o: {from: $e}}
        """
    )
    assert problems(file) == [
        "main.yaml:5:24 [E119] 'on' of node 'a' is 'slow', and there is no such case. Did you mean 'slow_'?",
        "main.yaml:6:3 [E105] node 'b' (Switch) has no value for 'on'. Add 'on: ...'.",
        (
            "main.yaml:7:34 [E119] 'cases' of node 'c': expected a mapping of names to values, found [1]. Write "
            "'cases: {NAME: $NODE, ...}'."
        ),
        "main.yaml:8:34 [E106] there is no node 'nowhere' ('cases' of node 'd': $nowhere).",
        "main.yaml:9:34 [E110] case 'y' of node 'e', 'text' of node 'f': expected text, found 5. Put it in quotes.",
        "main.yaml:11:27 [E104] Switch has no input 'case' (node 'g'). Did you mean 'cases'?",
        "main.yaml:12:31 [E107] a Switch has one output, which is called 'output', and no 'port' (node 'e'). Write '$e'.",
    ]


def test_a_case_that_no_node_makes_is_no_output(write, problems):
    file = write("nodes: {e: {use: Switch, on: x, cases: {x: [5, a]}}}\noutputs: {o: {from: $e}}")
    assert problems(file) == [
        "main.yaml:3:21 [E115] output 'o' is the value [5, 'a'], which no node makes. Give it to a node, or leave the output out."
    ]
