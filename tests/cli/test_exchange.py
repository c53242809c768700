"""Graphs of other programs come in and go out through plugins."""

from __future__ import annotations

import pytest

PLUGIN = """
from nodegraph import Workflow, hookimpl
from nodegraph.plugin_api import Exported, Imported, Link, NodeDef, OutputDef, Problem, WorkflowError


def read_words(request):
    \"\"\"Lists of words.\"\"\"
    if not request.data.startswith(b"words:"):
        return None
    words = request.data.decode().split()[1:]
    if "bad" in words and not request.partial:
        raise WorkflowError([Problem("E122", f"{request.file}: 'bad' is not a word")])
    workflow = Workflow(request.name, base=request.base)
    for word in words:
        if word != "bad":
            workflow.nodes[word] = NodeDef(word, "Text", {"value": word})
            workflow.outputs[word] = OutputDef(word, Link(word), "{output}.json")
    left_out = ("bad",) if "bad" in words else ()
    comments = {"": "words\\nof a list", words[0]: "the first one"}
    return Imported(workflow=workflow, comments=comments, notes=("a note",), left_out=left_out)


def write_words(request):
    \"\"\"Lists of words.\"\"\"
    wrong = [name for name, node in request.nodes.items() if node["use"] != "Text"]
    if wrong:
        raise WorkflowError([Problem("E122", f"node '{name}' is not a word") for name in wrong])
    links = [link.node for link, _ in request.outputs.values()]
    words = " ".join(request.nodes[node]["inputs"]["value"] for node in links)
    return Exported(text=f"words{request.form}: {words}\\n", notes=("another note",))


@hookimpl
def register_importers(register):
    register("words", read_words)


@hookimpl
def register_exporters(register):
    register("words", write_words)
"""


@pytest.fixture
def words(cli):
    folder = cli.folder / "plugins"
    folder.mkdir()
    (folder / "words.py").write_text(PLUGIN)
    return ("--plugin-dir", folder)


def test_graph_of_a_plugin_is_imported_and_exported(cli, words):
    graph = cli.write("words: one two", "graph.txt")
    assert cli("check", graph, *words).stdout.endswith("2 nodes, 2 outputs, no mistakes\n")
    ran = cli("import", graph, *words)
    assert ran.exit_code == 0
    assert ran.stderr == "note: a note\n"
    assert ran.stdout.startswith("nodegraph: 1\n# Imported from graph.txt.\n#\n# words\n# of a list\n")
    assert "  # the first one\n  one: {use: Text, value: one}\n" in ran.stdout
    workflow = cli.write(ran.stdout, "w.yaml")
    exported = cli("export", workflow, "--to", "words", *words)
    assert (exported.stdout, exported.stderr) == ("words: one two\n", "note: another note\n")
    target = cli.folder / "again.txt"
    changed = cli("export", workflow, "--to", "words", "--form", "2", "--set", "two.value=three", "-o", target, "--json", *words)
    assert changed.json == {"file": str(target), "notes": ["another note"]}
    assert target.read_text() == "words2: one three\n"
    assert "exists already" in cli("export", workflow, "--to", "words", "-o", target, *words).stderr


def test_what_cannot_be_exchanged_is_named(cli, words):
    graph = cli.write("words: one bad", "graph.txt")
    assert cli("import", graph, *words).stderr == "[E122] graph.txt: 'bad' is not a word.\n"
    part = cli("import", graph, "--partial", "--json", *words)
    assert part.exit_code == 1
    assert part.json["left_out"] == ["bad"]
    assert cli("export", cli.write("nodegraph: 1\nnodes: {t: {use: Text, value: a}}"), "--to", "wrods", *words).exit_code == 2
    twice = "nodegraph: 1\nnodes: {t: {use: Text, value: a}, u: {use: Repeat, text: $t}}\noutputs: {u: {from: $u}}"
    assert "node 'u' is not a word" in cli("export", cli.write(twice), "--to", "words", *words).stderr


def test_file_that_cannot_be_written_is_an_error(cli, words):
    graph = cli.write("words: one", "graph.txt")
    cli.write("", "file")
    assert cli("import", graph, "-o", cli.folder / "file/x.yaml", *words).exit_code == 1
