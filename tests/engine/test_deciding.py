"""Lists that nodes make, mapped by `each`, and `Switch` over what a node returns: the graph is completed during the run."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import NodeError, Workflow, WorkflowError
from nodegraph.run.events import NodeCached, NodeFinished, PlanExtended, RunStarted
from tests.support.copying_workers import with_both_workers


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes workflow files; the first argument is the content of `main.yaml`, without its first line."""

    def write(main: str, **others: str) -> Path:
        for name, text in {"main": main, **others}.items():
            (tmp_path / f"{name}.yaml").write_text(f"nodegraph: 1\n{textwrap.dedent(text)}")
        return tmp_path / "main.yaml"

    return write


MAPPED = """
params: {text: a bb ccc, times: 2}
nodes:
  cut: {use: CutText, text: $params.text}
  large: {use: Enlarge, each: {blob: $cut}, times: $params.times}
  sizes: {use: Sizes, blobs: $large}
outputs: {sizes: {from: $sizes}, blobs: {from: $large, save: "b"}}
"""


@with_both_workers
def test_each_maps_a_list_that_a_node_makes(make_engine, stubs, write, tmp_path, workers):
    file = write(MAPPED)
    result = make_engine().run(file, out=tmp_path / "out")
    assert result["sizes"] == [2, 4, 6]
    assert result["blobs"] == result["large"] == [stubs.Blob(b"aa"), stubs.Blob(b"bbbb"), stubs.Blob(b"cccccc")]
    assert result["large[1]"] == stubs.Blob(b"bbbb")
    assert list(result.nodes) == ["cut", "large[0]", "large[1]", "large[2]", "sizes"]
    assert result.ran == tuple(result.nodes)
    assert [path.name for path in result.outputs["blobs"]] == ["b-0.bin", "b-1.bin", "b-2.bin"]


@with_both_workers
def test_a_cached_run_reads_the_list_first(make_engine, stubs, write, events, workers):
    file = write(MAPPED)
    make_engine().run(file)
    stubs.CALLS.clear()
    events.clear()
    again = make_engine().run(file)
    assert (again.ran, stubs.CALLS) == ((), [])
    assert [type(event) for event in events].count(PlanExtended) == 0
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    assert (started.plan.names("run"), started.plan.undecided) == ([], {})
    assert make_engine().plan(file).names("run") == []


def test_an_item_that_did_not_change_is_a_hit(make_engine, stubs, write):
    file = write(MAPPED)
    make_engine().run(file)
    longer = make_engine().run(file, params={"text": "zz a ccc bb"})
    assert longer["sizes"] == [4, 2, 6, 4]
    assert longer.ran == ("cut", "large[0]", "sizes")
    assert set(longer.cached) == {"large[1]", "large[2]", "large[3]"}


def test_the_plan_says_what_is_not_known_and_why(make_engine, write):
    engine = make_engine()
    file = write(MAPPED)
    plan = engine.plan(file)
    assert plan.actions == {"cut": "run"}
    reason = "it depends on the length of 'cut.output', which is not known yet"
    assert plan.undecided == {"large[?]": reason, "sizes": reason}
    explained = [(e.node, e.action, e.reason) for e in engine.explain(plan)]
    assert explained[1:] == [("large[?]", "undecided", reason), ("sizes", "undecided", reason)]


def test_the_events_extend_the_plan(make_engine, write, events):
    make_engine().run(write(MAPPED))
    kinds = [type(event).__name__ for event in events]
    assert kinds.count("RunStarted") == kinds.count("PlanExtended") == 1
    (extended,) = [event for event in events if isinstance(event, PlanExtended)]
    assert extended.plan.names("run") == ["large[0]", "large[1]", "large[2]", "sizes"]
    assert sorted(e.node for e in events if isinstance(e, NodeFinished)) == ["cut", "large[0]", "large[1]", "large[2]", "sizes"]
    assert not [event for event in events if isinstance(event, NodeCached)]


@pytest.mark.parametrize(("text", "sizes"), [("", []), ("one", [6])])
def test_lists_of_no_items_and_of_one(make_engine, write, text, sizes, tmp_path):
    for _ in range(2):
        result = make_engine().run(write(MAPPED), params={"text": text}, out=tmp_path / "out")
        assert (result["sizes"], len(result["blobs"])) == (sizes, len(sizes))
        assert [path.name for path in result.outputs["blobs"]] == ["b-0.bin"][: len(sizes)]


def test_items_have_the_keys_of_items_that_are_written_down(make_engine, stubs, write):
    result = make_engine().run(write(MAPPED))
    w = Workflow("main")
    for index, word in enumerate((b"a", b"bb", b"ccc")):
        w.output(f"o{index}", w.add("Enlarge", name=f"n{index}", blob=stubs.Blob(word)).output)
    written = make_engine().run(w)
    assert (written.ran, written.cached) == ((), ("n0", "n1", "n2"))
    contents = [result.nodes[f"large[{index}]"].content for index in range(3)]
    assert contents == [written.nodes[f"n{index}"].content for index in range(3)]


def test_numbers_lists_of_lists_and_zipped_lists(make_engine, write):
    file = write(
        """
        params: {n: 3, b: [10, 20, 30]}
        nodes:
          count: {use: Count, n: $params.n}
          rows: {use: Rows, n: 3, length: 2}
          sums: {use: Plus, each: {a: $count, b: $params.b}}
          totals: {use: Total, each: {values: $rows}}
          both: {use: Plus, each: {a: $sums, b: $totals}}
          all: {use: Total, values: $both}
        outputs: {sums: {from: $sums}, totals: {from: $totals}, both: {from: $both}, all: {from: $all}}
        """
    )
    for _ in range(2):
        result = make_engine().run(file)
        assert result["sums"] == [10, 21, 32]
        assert result["totals"] == [1, 21, 41]
        assert (result["both"], result["all"]) == ([11, 42, 73], 126)


def test_lists_that_turn_out_to_differ_in_length(make_engine, write):
    file = write(
        """
        nodes:
          two: {use: Count, n: 2}
          sums: {use: Plus, each: {a: $two, b: [1, 2, 3]}}
        outputs: {sums: {from: $sums}}
        """
    )
    make_engine().check(file)
    differ = "the lists in 'each' of node 'sums' differ in length: 'a' has 2 items and 'b' has 3 items"
    with pytest.raises(WorkflowError, match=differ) as caught:
        make_engine().run(file)
    with pytest.raises(WorkflowError, match=differ):
        make_engine().plan(file)  # the length is in the cache now
    result = make_engine(cache_dir=None).run(file, raise_errors=False)
    assert (result.status, {name: report.status for name, report in result.nodes.items()}) == (
        "failed",
        {"two": "ran", "sums[0]": "skipped", "sums[1]": "skipped", "sums[2]": "skipped"},
    )
    assert str(result.error) == str(caught.value)


NESTED = """
params: {text: ab c}
nodes:
  words: {use: Words, text: $params.text}
  outer: {use: "#letters", each: {word: $words}}
  total: {use: Total, values: $outer.total}
outputs: {all: {from: $outer.all}, total: {from: $total}}
workflows:
  letters:
    params: {word: {type: text}}
    nodes:
      rows: {use: CutRows, text: $params.word}
      first: {use: "#sizes", each: {blobs: $rows}}
      total: {use: Total, values: $first.total}
    outputs: {all: {from: $first.all}, total: {from: $total}}
  sizes:
    params: {blobs: {type: "list[Blob]"}}
    nodes:
      large: {use: Enlarge, each: {blob: $params.blobs}}
      sizes: {use: Length, each: {blob: $large}}
      total: {use: Total, values: $sizes}
    outputs: {all: {from: $sizes}, total: {from: $total}}
"""


@with_both_workers
def test_lists_that_are_made_inside_items(make_engine, stubs, write, workers):
    file = write(NESTED)
    for _ in range(2):
        result = make_engine().run(file)
        assert result["all"] == [[[2, 2]], [[2]]]
        assert result["total"] == 6
    assert result.ran == ()
    assert "outer[0]/first[0]/large[1]" in result.nodes
    longer = make_engine().run(file, params={"text": "ab c dab"})
    assert longer["total"] == 12
    assert [name for name in longer.ran if "large" in name] == ["outer[2]/first[0]/large[0]"]  # `d` is new


SWITCHED = """
params: {mode: fast, text: hello}
nodes:
  mode: {use: Decide, text: $params.mode}
  upper: {use: Filtered, text: $params.text}
  twice: {use: Repeat, text: $params.text}
  chosen: {use: Switch, on: $mode, cases: {fast: $upper, best: $twice, none: nothing}}
  said: {use: Say, text: $chosen}
outputs: {said: {from: $said}}
"""


@with_both_workers
def test_a_switch_over_what_a_node_returns(make_engine, stubs, write, workers):
    file = write(SWITCHED)
    plan = make_engine().plan(file)
    assert plan.actions == {"mode": "run", "upper": "pruned", "twice": "pruned"}
    assert plan.undecided == {"said": "it depends on the value of 'mode.output', which is not known yet"}
    fast = make_engine().run(file)
    assert (fast["said"], fast.ran) == ("HELLO", ("mode", "upper", "said"))
    assert make_engine().run(file).ran == ()
    best = make_engine().run(file, params={"mode": "best"})
    assert (best["said"], best.ran) == ("hellohello", ("mode", "twice", "said"))
    assert make_engine().run(file, params={"mode": "none"})["said"] == "nothing"
    assert make_engine().run(file, force=["upper"]).ran == ("upper", "said")
    assert make_engine().run(file, force=["upper", "mode"]).ran == ("mode", "upper", "said")
    with pytest.raises(WorkflowError, match=r"'on' of node 'chosen' is 'bets', and there is no such case. Did you mean 'best'"):
        make_engine().run(file, params={"mode": "bets"})


def test_a_switch_has_no_key_of_its_own(make_engine, write):
    make_engine().run(write(SWITCHED))
    plain = write(
        """
        nodes: {upper: {use: Filtered, text: hello}, said: {use: Say, text: $upper}}
        outputs: {said: {from: $said}}
        """
    )
    assert make_engine().run(plain).ran == ()


def test_numbers_and_booleans_name_cases(make_engine, write):
    file = write(
        """
        nodes:
          n: {use: Count, n: 3}
          each: {use: "#say", each: {n: $n}}
          joined: {use: Many, numbers: $each}
        outputs: {o: {from: $joined}}
        workflows:
          say:
            params: {n: {type: int}}
            nodes:
              s: {use: Switch, on: $params.n, cases: {0: 10, 1: $two, 2: 30}}
              two: {use: Number, value: 20}
              p: {use: Plus, a: $s, b: 0}
            outputs: {p: {from: $p}}
        """
    )
    assert make_engine().run(file)["o"] == " [10.0, 20.0, 30.0]"


def test_check_finds_mistakes_without_values(make_engine, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        """
        nodes:
          cut: {use: CutText, text: a b}
          number: {use: Number}
          decide: {use: Decide, text: x}
          a: {use: Say, each: {text: $cut}}
          b: {use: Say, each: {text: $number}}
          c: {use: Switch, on: $cut, cases: {x: 1}}
          d: {use: Switch, on: $decide, cases: {x: 1, y: $nothing}}
          e: {use: Number, value: $d}
          f: {use: Switch, on: $decide, cases: {x: 1, y: $cut}}
          g: {use: Number, value: $f}
          h: {use: Enlarge, each: {blob: $cut}, tmes: 3}
        outputs: {a: {from: $a}, h: {from: $h}}
        """
    )
    with pytest.raises(WorkflowError) as caught:
        make_engine().check(Path("main.yaml"))
    assert [str(problem) for problem in caught.value.problems] == [
        "main.yaml:7:23 [E108] 'text' of node 'a[?]' (Say) takes text, but $cut[?] is Blob.",
        "main.yaml:8:23 [E119] 'text' in 'each' of node 'b': expected a list, but $number is float. Put it in brackets.",
        "main.yaml:9:24 [E119] 'on' of node 'c': expected text, a number, or true or false, but $cut is list[Blob].",
        "main.yaml:10:40 [E106] there is no node 'nothing' ('cases' of node 'd': $nothing).",
        "main.yaml:12:40 [E108] 'value' of node 'g' (Number) takes float, but $cut is list[Blob].",
        "main.yaml:14:41 [E104] Enlarge has no input 'tmes' (node 'h[?]'). Did you mean 'times'?",
    ]


def test_a_failure_names_its_index_and_the_other_items_finish(make_engine, write, stubs):
    file = write(MAPPED)
    with pytest.raises(NodeError, match=r"large\[1\]") as caught:
        make_engine().run(file, params={"text": "a bad c"})
    assert "this blob is bad" in str(caught.value)
    result = make_engine().run(file, params={"text": "d bad e"}, keep_going=True, raise_errors=False)
    statuses = {name: report.status for name, report in result.nodes.items()}
    assert statuses == {"cut": "ran", "large[0]": "ran", "large[1]": "failed", "large[2]": "ran", "sizes": "skipped"}
    assert (result.status, str(result.error)[:20]) == ("failed", str(caught.value)[:20])


FAILING = """
nodes:
  bad: {use: BadWords}
  large: {use: Say, each: {text: $bad}}
  good: {use: CutText, text: a b}
  fine: {use: Enlarge, each: {blob: $good}}
  alone: {use: Say, text: hello}
outputs: {large: {from: $large}, fine: {from: $fine}, alone: {from: $alone}}
"""


def test_a_list_that_cannot_be_made_stops_only_what_needs_it(make_engine, write, tmp_path):
    result = make_engine().run(write(FAILING), keep_going=True, raise_errors=False, out=tmp_path / "out")
    statuses = {name: report.status for name, report in result.nodes.items()}
    ran = dict.fromkeys(["good", "fine[0]", "fine[1]", "alone"], "ran")
    assert statuses == {"bad": "failed", "large[?]": "skipped", **ran}
    assert (result.status, sorted(result.outputs)) == ("failed", ["alone", "fine"])
    assert isinstance(result.error, NodeError)
    with pytest.raises(NodeError):
        make_engine().run(write(FAILING), keep_going=True)
    first = make_engine(cache_dir=None).run(write(FAILING), raise_errors=False)
    assert first.nodes["alone"].status == "skipped"  # without keep_going, the run ends


@with_both_workers
def test_an_impure_list_is_made_once_in_a_run(make_engine, stubs, write, workers):
    file = write(
        """
        nodes:
          throw: {use: Throw}
          plus: {use: Plus, each: {a: $throw}}
          total: {use: Total, values: $throw}
          sum: {use: Total, values: $plus}
        outputs: {total: {from: $total}, sum: {from: $sum}}
        """
    )
    for run in (1, 2):
        result = make_engine().run(file)
        assert (result["total"], result["sum"]) == (300 * run + 3, 300 * run + 6)
        assert stubs.CALLS.count("Throw") == run
        assert result.nodes["throw"].status == "ran"


def test_models_in_a_list(make_engine, stubs, write):
    file = write(
        """
        nodes:
          models: {use: Models, text: x yy}
          used: {use: Weights, each: {model: $models}}
          all: {use: Words, each: {text: $used}}
        outputs: {used: {from: $used}}
        """
    )
    engine = make_engine()
    assert engine.run(file)["used"] == ["x", "yy"]
    assert stubs.CALLS.count("Models") == 1
    again = engine.run(file)
    assert (again["used"], again.ran) == (["x", "yy"], ())
    second = make_engine().run(file)  # another process has no models, and has to make them to know how many there are
    assert (second["used"], second.ran) == (["x", "yy"], ("models",))


def test_overrides_targets_and_force_reach_items(make_engine, write, stubs):
    file = write(MAPPED)
    engine = make_engine()
    assert engine.run(file, params={"large.times": 1})["sizes"] == [1, 2, 3]
    assert engine.run(file, params={"large[1].times": 9})["sizes"] == [2, 18, 6]
    assert engine.run(file, targets="large")["large"][0] == stubs.Blob(b"aa")
    assert engine.run(file, targets=["large[2]"])["large[2]"] == stubs.Blob(b"cccccc")
    assert engine.run(file, force=["large[1]"]).ran == ("large[1]", "sizes")
    assert engine.run(file, force=["large"]).ran == ("large[0]", "large[1]", "large[2]", "sizes")
    assert engine.run(file, force=["cut"]).ran == ("cut", "large[0]", "large[1]", "large[2]", "sizes")
    assert engine.run(file, params={"large.each.blob": [stubs.Blob(b"q")]})["sizes"] == [2]
    with pytest.raises(WorkflowError, match=r"large\[7\]"):
        engine.run(file, targets=["large[7]"])


def test_overrides_reach_nodes_inside_items(make_engine, write):
    engine = make_engine()
    file = write(NESTED)
    assert engine.run(file, params={"outer/first/large.times": 3})["all"] == [[[3, 3]], [[3]]]
    assert engine.run(file, params={"outer[1]/first[0]/large[0].times": 5})["all"] == [[[2, 2]], [[5]]]
    assert engine.run(file, targets="outer/rows").status == "done"
    with pytest.raises(WorkflowError, match="E120"):
        engine.check(file, params={"outer/first/large.tmes": 3})


def test_only_what_is_needed_decides(make_engine, write, stubs):
    file = write(
        """
        params: {mode: plain}
        nodes:
          mode: {use: Decide, text: $params.mode}
          words: {use: Words, text: a b}
          cut: {use: CutText, text: c d}
          said: {use: Say, each: {text: $words}}
          joined: {use: CountItems, items: $said}
          large: {use: Enlarge, each: {blob: $cut}}
          chosen: {use: Switch, on: $mode, cases: {joined: $joined, plain: 7}}
          end: {use: Number, value: $chosen}
        outputs: {end: {from: $end}, large: {from: $large}}
        """
    )
    assert make_engine().run(file, targets="end")["end"] == 7
    assert stubs.CALLS == ["Decide", "Number"]  # neither list was needed
    assert make_engine().run(file, targets="end", params={"mode": "joined"})["end"] == 2
    assert stubs.CALLS[2:] == ["Decide", "Words", "Number"]


def test_a_list_that_a_switch_chooses(make_engine, write):
    file = write(
        """
        params: {mode: words}
        nodes:
          mode: {use: Decide, text: $params.mode}
          words: {use: Words, text: a b c}
          chosen: {use: Switch, on: $mode, cases: {words: $words, fixed: [x, y], none: []}}
          said: {use: Filtered, each: {text: $chosen}}
          last: {use: CountItems, items: $chosen}
        outputs: {said: {from: $said}, last: {from: $last}}
        """
    )
    engine = make_engine()
    assert (engine.run(file)["said"], engine.run(file)["last"]) == (["A", "B", "C"], 3)
    assert engine.run(file, params={"mode": "fixed"})["said"] == ["X", "Y"]
    none = engine.run(file, params={"mode": "none"})
    assert (none["said"], none["last"]) == ([], 0)


def test_a_random_seed_is_drawn_once_for_each_item(make_engine, write):
    file = write(
        """
        params: {seed: {default: random, type: seed}}
        nodes:
          count: {use: Count, n: 3}
          drawn: {use: "#draw", each: {i: $count}}
          first: {use: Draw, seed: $params.seed}
        outputs: {drawn: {from: $drawn}, first: {from: $first}}
        workflows:
          draw:
            params: {i: {type: int}, seed: {default: random, type: seed}}
            nodes: {d: {use: Draw, seed: $params.seed}, o: {use: Add, a: $d, b: $params.i}}
            outputs: {o: {from: $d}}
        """
    )
    result = make_engine(cache_dir=None).run(file)
    seeds = result.graph.seeds
    assert result["drawn"] == [seeds[f"drawn[{i}].seed"] for i in range(3)]
    assert result["first"] == seeds["seed"]
    assert len(set(result["drawn"])) == 3
    assert not [name for name in seeds if "?" in name]


def test_a_file_that_changes_during_the_run_changes_nothing_in_it(make_engine, stubs, write, tmp_path):
    stubs.EDITED[:] = [tmp_path]
    inner = "params: {word: {type: text}}\nnodes: {s: {use: Filtered, text: $params.word}}\noutputs: {o: {from: $s}}\n"
    file = write(
        """
        nodes:
          edit: {use: EditWorkflow, path: inner.yaml, text: "nodegraph: 1"}
          words: {use: Words, text: $edit}
          said: {use: ./inner.yaml, each: {word: $words}}
        outputs: {said: {from: $said}}
        """,
        inner=inner,
    )
    assert make_engine().run(file)["said"][0] == "NODEGRAPH:"


def test_composed_in_python(make_engine, stubs):
    w = Workflow("python")
    cut = w.add("CutText", name="cut", text="a bb")
    large = w.add("Enlarge", name="large", each={"blob": cut})
    w.output("sizes", w.add("Sizes", name="sizes", blobs=large))
    handle = make_engine().start(w)
    w.nodes.clear()  # the run has its own
    w.outputs.clear()
    assert handle.result()["sizes"] == [2, 4]


def test_results_are_checked_when_a_share_is_verified(make_engine, write):
    make_engine().run(write(MAPPED))
    result = make_engine().run(write(MAPPED), verify=1)
    assert set(result.verified) == {"cut", "large[0]", "large[1]", "large[2]", "sizes"}


def test_a_value_that_is_no_list_or_no_case(make_engine, write):
    mapped = write(
        """
        nodes: {any: {use: Anything, value: 3}, said: {use: Say, each: {text: $any}}}
        outputs: {said: {from: $said}}
        """
    )
    with pytest.raises(WorkflowError, match=r"'text' in 'each' of node 'said': expected a list, found int"):
        make_engine().run(mapped)
    chosen = write(
        """
        nodes: {any: {use: Anything, value: [3]}, s: {use: Switch, on: $any, cases: {x: 1}}, n: {use: Number, value: $s}}
        outputs: {n: {from: $n}}
        """
    )
    with pytest.raises(WorkflowError, match=r"'on' of node 's': expected text, a number, or true or false, found \[3\]"):
        make_engine().run(chosen)


def test_the_record_has_the_items(make_engine, write):
    engine = make_engine()
    result = engine.run(write(MAPPED))
    record = json.loads((engine.cache_dir / "runs" / f"{result.run}.json").read_text())
    assert list(record["nodes"]) == list(result.nodes)
    assert record["nodes"]["cut"]["digests"].keys() == {"output", "output[0]", "output[1]", "output[2]"}
    assert record["nodes"]["large[1]"]["form"]["inputs"]["blob"] == ["link", "cut", "output[1]"]
    assert engine.explain(engine.plan(write(MAPPED), force=["sizes"]))[-1].reason == "it is forced, or below a forced node"


def test_a_list_that_turns_out_to_be_too_long(make_engine, write):
    file = write(
        """
        params: {n: 3}
        nodes: {count: {use: Count, n: $params.n}, plus: {use: Plus, each: {a: $count}}}
        outputs: {plus: {from: $plus}}
        """
    )
    with pytest.raises(WorkflowError, match="'a' in 'each' of node 'plus' has 1,000,000 items; at most 100,000 are supported"):
        make_engine(cache_dir=None).run(file, params={"n": 1_000_000})


@pytest.mark.slow
def test_ten_thousand_items(make_engine, write):
    file = write(
        """
        nodes: {count: {use: Count, n: 10000}, plus: {use: Plus, each: {a: $count}}, total: {use: Total, values: $plus}}
        outputs: {total: {from: $total}}
        """
    )
    assert make_engine().run(file)["total"] == 10_000 * 9_999 / 2 + 10_000
    assert make_engine().run(file).ran == ()
