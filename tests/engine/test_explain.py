"""What would run, and the first thing that makes each miss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow


def workflow(weights: Path, **changes: Any) -> Workflow:
    built = Workflow("explained")
    text = built.add("Fold", name="folded", text=changes.get("text", "a cat"))
    model = built.add("Load", name="model", path=str(weights))
    said = built.add("Describe", name="said", model=model.model, text=text)
    upper = built.add("Filtered", name="upper", text=said)
    built.output("sum", built.add("Many", name="many", text=upper, numbers=changes.get("numbers", [1.5, 2])))
    return built


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_text("w")
    return path


def reasons(engine: Engine, workflow: Workflow, **options: Any) -> dict[str, tuple[str, str]]:
    return {e.node: (e.action, e.reason) for e in engine.explain(engine.plan(workflow, **options))}


def test_before_the_first_run(engine: Engine, weights: Path) -> None:
    told = reasons(engine, workflow(weights))
    assert told["folded"] == ("run", "it has not run before as a part of this workflow")
    assert told["model"] == ("run", "its result lives in memory only, and something below needs it")
    assert told["said"] == ("run", "text: what 'folded' gives may be another")


def test_after_a_run_everything_is_cached_or_not_needed(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    told = reasons(make_engine(), workflow(weights))
    assert told == {**dict.fromkeys(("folded", "model", "said", "upper"), ("pruned", "")), "many": ("cached", "")}


def test_the_literal_that_changed(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    told = reasons(make_engine(), workflow(weights, text="a dog"))
    assert told["folded"] == ("run", "text: 'a cat' -> 'a dog'")
    assert told["said"] == ("run", "text: what 'folded' gives may be another")
    told = reasons(make_engine(), workflow(weights, numbers=[1.5, 3]))
    assert told["many"] == ("run", "numbers: [1.5, 2.0] -> [1.5, 3.0]")
    assert told["upper"] == ("cached", "")


def test_the_file_that_changed(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    weights.write_text("v")
    assert reasons(make_engine(), workflow(weights))["model"] == ("run", "path file changed")


def test_what_is_forced_and_what_is_gone(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    assert reasons(make_engine(), workflow(weights), force=["many"])["many"] == ("run", "it is forced, or below one that is")
    make_engine().cache.clear()
    assert reasons(make_engine(), workflow(weights))["folded"] == ("run", "its result is no longer in the cache")


def test_a_node_without_a_key_says_why(engine: Engine) -> None:
    dice = Workflow("dice")
    dice.output("n", dice.add("Dice", name="dice"))
    assert reasons(engine, dice)["dice"] == ("run", "its type is not pure: it may give another result each time")


def test_code_that_changed(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    file = folder / "shout.py"
    source = (
        "from nodegraph import hookimpl, node\n@node('Shout')\ndef shout(text: str) -> str:\n    return text + '!'\n"
        "@hookimpl\ndef register_nodes(register):\n    register(shout)\n"
    )
    file.write_text(source)

    def engine() -> Engine:
        return Engine(cache_dir=tmp_path / "cache", plugin_dirs=[folder])

    shout = Workflow("shout")
    shout.output("said", shout.add("Shout", name="shout", text="hey"))
    engine().run(shout)
    file.write_text(source.replace("'!'", "'!!'"))
    assert reasons(engine(), shout)["shout"] == ("run", "the code of plugin shout changed")
