"""The TextTemplate node, and its place in the cache."""

from __future__ import annotations

import pytest

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph_nodes.nodes.template import find_wildcards, text_template


@pytest.fixture
def wildcards(tmp_path):
    folder = tmp_path / "wildcards"
    (folder / "light").mkdir(parents=True)
    (folder / "colour.txt").write_text("# colours\nred\n\n  blue  \n", encoding="utf-8-sig")
    (folder / "light" / "night.txt").write_text("moon\n")
    (folder / "notes.md").write_text("not a wildcard")
    return folder


def test_files_of_a_folder_are_wildcards(wildcards, tmp_path):
    found = find_wildcards("wildcards", tmp_path)
    assert sorted(found.files) == ["colour.txt", "light/night.txt"]
    made = {text_template("a __colour__ __light/night__", seed=seed, wildcards=found.value).text for seed in range(20)}
    assert made == {"a red moon", "a blue moon"}


def test_negative_prompt_has_its_own_draws():
    pairs = {tuple(text_template("{a|b}", "{a|b}", seed=seed)) for seed in range(40)}
    assert pairs == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
    short, long = (text_template(text, "{1|2|3|4|5|6}", seed=9).negative for text in ("x", "{a|b} {c|d}"))
    assert short == long


def test_styles_are_applied_in_order(tmp_path):
    styles = tmp_path / "styles.csv"
    styles.write_text('name,prompt,negative_prompt\nnight,"{prompt} at night, {moon|moon}",sun\nink,ink,colour\n')
    made = text_template("a house", "blur", styles=styles, style="night, ink")
    assert made == ("a house at night, moon, ink", "blur, sun, colour")
    with pytest.raises(ValueError, match=r"found 'nigt'. Did you mean 'night'"):
        text_template("a", styles=styles, style="nigt")
    styles.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"styles\.csv"):
        text_template("a", styles=styles, style="night")


def test_wildcards_are_missing():
    with pytest.raises(
        ValueError, match="__colour__: expected the name of a file of lines in a folder of wildcards, which has none"
    ):
        text_template("__colour__")


def test_it_runs_again_if_a_file_of_the_folder_changes(wildcards, tmp_path):
    workflow = Workflow("wild")
    made = workflow.add("TextTemplate", text="__colour__", wildcards=wildcards)
    workflow.output("text", made.text)
    with Engine(tmp_path / "cache") as engine:

        def ran():
            return len(engine.run(workflow, out=tmp_path / "out").ran)

        assert [ran(), ran()] == [1, 0]
        (wildcards / "colour.txt").write_text("green\n")
        assert [ran(), ran()] == [1, 0]
        (wildcards / "new.txt").write_text("x\n")
        assert [ran(), ran()] == [1, 0]
        (wildcards / "notes.md").write_text("other")
        assert ran() == 0


def test_check_names_a_folder_that_does_not_exist(tmp_path):
    workflow = Workflow("wild")
    workflow.output("text", workflow.add("TextTemplate", text="a", wildcards=tmp_path / "gone").text)
    with pytest.raises(WorkflowError, match="there is no folder"):
        Engine(None).check(workflow)
    workflow = Workflow("wild")
    workflow.output("text", workflow.add("TextTemplate", text="a", style="night").text)
    with pytest.raises(WorkflowError, match="style: expected a file of styles"):
        Engine(None).check(workflow)
