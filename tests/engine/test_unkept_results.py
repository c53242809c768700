"""A result that is not kept makes nothing below it a hit: not by a static key, and not by the key of a value without a codec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.run.events import Event, NodeStarted
from tests.support.copying_workers import use_copying_workers, with_both_workers
from tests.support.slow import slow_after

PLUGIN = """
import random
from nodegraph import Run, hookimpl, node

class Model:
    def __init__(self, number):
        self.number = number

@node("Random")
def random_number(seed: int) -> float:
    return random.random()

@node("RandomModel")
def random_model(seed: int) -> Model:
    return Model(random.random())

@node("Wrap")
def wrap(model: Model) -> Model:
    return Model(model.number)

@node("Number")
def number(model: Model) -> float:
    return model.number

@node("Twice")
def twice(number: float) -> float:
    return 2 * number

@node("Add")
def add(words: set, word: str) -> list[str]:
    words.add(word)
    return sorted(words)

@node("AddInside")
def add_inside(words: tuple[list[str], ...], word: str) -> list[str]:
    words[0].append(word)
    return words[0]

@node("First")
def first(text: str) -> str:
    return text

@node("Where")
def where(run: Run) -> str:
    return run.device + "/" + run.dtype

@node("Length")
def length(run: Run, text: str) -> int:
    run.step(1, 1)
    return len(text)

class Word:
    def __init__(self, text):
        self.text = text

class WordCodec:
    name, suffix, extension = "word", ".word", ".txt"
    draws = ""

    def digest(self, word):
        return word.text

    def save(self, word, path):
        path.write_text(word.text + self.noise("save"))

    def load(self, path):
        return Word(path.read_text() + self.noise("load"))

    def export(self, word):
        return [(word.text + self.noise("export")).encode()]

    def embed(self, data, metadata):
        return data

    def check(self, word):
        return None

    def size(self, word):
        return len(word.text)

    def noise(self, method):
        return str(random.random()) if method == WordCodec.draws else ""

@node("Word")
def make_word(text: str) -> Word:
    return Word(text)

@node("Words")
def make_words(text: str) -> list[Word]:
    return [Word(text)]

@node("Letters")
def letters(words: Word | list[Word]) -> int:
    return sum(len(word.text) for word in (words if isinstance(words, list) else [words]))

@hookimpl
def register_codecs(register):
    register(Word, WordCodec())

@hookimpl
def register_nodes(register):
    for function in (make_word, make_words, letters):
        register(function)
    for function in (where, length, random_number, random_model, wrap, number, twice, add, add_inside, first):
        register(function)
"""


@pytest.fixture
def workers() -> str:
    return "threads"


@pytest.fixture
def make_engine(tmp_path: Path, workers: str) -> Callable[[], Engine]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "drawing.py").write_text(PLUGIN)

    def make(dtype: str = "auto") -> Engine:
        engine = Engine(tmp_path / "cache", dtype=dtype, plugin_dirs=[tmp_path / "plugins"])
        if workers == "copying":
            use_copying_workers(engine)
        return engine

    return make


@with_both_workers
@pytest.mark.parametrize(
    "chain", slow_after(2, [["Random", "Twice"], ["RandomModel", "Number", "Twice"], ["RandomModel", "Wrap", "Wrap", "Number"]])
)
def test_nodes_below_a_result_that_is_not_kept_run_again(make_engine: Callable[[], Engine], chain: list[str]) -> None:
    def run() -> float:
        workflow = Workflow("w")
        value = workflow.add(chain[0], name=chain[0], seed=1)
        for i, type in enumerate(chain[1:]):
            value = workflow.add(type, name=f"{type}{i}", **{"model" if type in ("Wrap", "Number") else "number": value})
        workflow.output("out", value)
        result = make_engine().run(workflow)
        assert chain[0] in result.ran
        number: float = result["out"]
        return number

    assert len({run() for _ in range(3)}) == 3


@pytest.mark.parametrize("type", ["Word", "Words"])
@pytest.mark.parametrize("draws", ["save", "load"])
def test_value_whose_codec_draws_is_not_kept(make_engine: Callable[[], Engine], draws: str, type: str) -> None:
    workflow = Workflow("w")
    word = workflow.add(type, name="word", text="a")
    workflow.output("out", workflow.add("Letters", name="letters", words=word))
    engine = make_engine()
    codec = engine.plugins.manager.get_plugin("drawing").WordCodec
    codec.draws = draws
    result = engine.run(workflow)
    assert "a global generator of random numbers" in result.notices[0].message
    assert "word" in engine.run(workflow).ran
    codec.draws = ""
    assert engine.run(workflow).notices == ()
    assert engine.run(workflow).ran == ()


def test_codec_that_draws_only_later_is_not_noticed(make_engine: Callable[[], Engine]) -> None:
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Word", name="word", text="a"))
    engine = make_engine()
    engine.run(workflow)
    engine.plugins.manager.get_plugin("drawing").WordCodec.draws = "load"
    result = engine.run(workflow)
    assert (result.ran, result.notices) == ((), ())
    assert result["out"].text.startswith("a0.")


def test_exported_file_of_a_codec_that_draws_is_not_stored(make_engine: Callable[[], Engine], tmp_path: Path) -> None:
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Word", name="word", text="a"))
    engine = make_engine()
    codec = engine.plugins.manager.get_plugin("drawing").WordCodec
    codec.draws = "export"
    engine.run(workflow, out=tmp_path / "one")
    codec.draws = ""
    (path,) = engine.run(workflow, out=tmp_path / "two").outputs["out"]
    assert path.read_text() == "a"


def test_value_computed_from_the_same_number_is_still_found(make_engine: Callable[[], Engine]) -> None:
    """The content key covers the value itself."""
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Twice", name="twice", number=0.25))
    make_engine().run(workflow)
    assert make_engine().run(workflow).cached == ("twice",)


@pytest.mark.slow
def test_node_that_reads_the_dtype_is_not_kept_unless_it_is_numeric(make_engine: Callable[..., Engine]) -> None:
    workflow = Workflow("w")
    where = workflow.add("Where", name="where")
    workflow.output("where", where)
    workflow.output("out", workflow.add("Length", name="length", text=where))
    results = [make_engine(dtype=dtype).run(workflow) for dtype in ("float32", "float16", "float16")]
    assert [result["where"] for result in results] == ["cpu/float32", "cpu/float16", "cpu/float16"]
    assert [result.ran for result in results] == [("where", "length"), ("where", "length"), ("where",)]
    assert results[-1].nodes["where"].notices == (
        (
            "it reads the device or dtype of the run, which its key does not cover; its result is used but not kept. "
            "Declare @node(..., numeric=True)"
        ),
    )
    assert results[0].nodes["length"].notices == ()  # it has a Run, too


@pytest.mark.parametrize(("type", "words"), [("Add", {"a"}), ("AddInside", (["a"],))])
def test_set_or_tuple_given_in_python_is_each_nodes_own(make_engine: Callable[[], Engine], type: str, words: object) -> None:
    workflow = Workflow("w")
    for name in ("one", "two"):
        workflow.output(name, workflow.add(type, name=name, words=words, word=name))
    result = make_engine().run(workflow)
    assert (result["one"], result["two"]) == (["a", "one"], ["a", "two"])
    assert words in ({"a"}, (["a"],))


@pytest.mark.usefixtures("make_engine")
def test_set_that_is_changed_during_a_run_is_read_as_it_was_at_the_start(tmp_path: Path) -> None:
    words = {"a"}
    workflow = Workflow("w")
    first = workflow.add("First", name="first", text="b")
    workflow.output("out", workflow.add("Add", name="node", words=words, word=first))

    def change(event: Event) -> None:
        if isinstance(event, NodeStarted) and event.node == "first":
            words.add("c")

    result = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"], on_event=change).run(workflow)
    assert words == {"a", "c"}
    assert result["out"] == ["a", "b"]
