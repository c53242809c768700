"""In a notebook, a workflow shows its graph, a run its progress, and a result its pictures: shown by executing one."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from nodegraph import Engine, Workflow
from nodegraph.plugin_api import events
from nodegraph.run.display.notebook import NotebookProgress, is_notebook
from nodegraph.run.display.values import values_as_html
from tests.support.plugin_folders import STUB_PLUGINS


class Drawn:
    """A value that makes a picture of itself."""

    def as_html(self):
        return PICTURE


PICTURE = "<img>"


def shown_by(*happened):
    """What a notebook shows after events, without the limit on updates per second."""
    shown = []
    progress = NotebookProgress(lambda plan: {"b": 65.0}, shown.append)
    for event in happened:
        progress._shown_at = -1e9
        progress(event)
    return shown


STARTED = events.RunStarted("id", "w", SimpleNamespace(names=lambda action: ["a", "b"]))


def test_progress_shows_running_nodes_steps_and_the_time_left():
    shown = shown_by(STARTED, events.NodeStarted("<a>"), events.NodeProgress("<a>", 2, 5))[-1]
    assert "running: 0 ran, 0 cached, 1 min 5 s left" in shown
    assert '<td>&lt;a&gt;</td><td>running</td><td><progress max="5" value="2"></progress> 2 of 5</td>' in shown


def test_progress_ends_with_one_line_and_what_failed():
    finished = [events.NodeStarted("a"), events.NodeFinished("a", 1.5), events.NodeCached("c")]
    shown = shown_by(STARTED, *finished, events.RunFinished("done", 2.0))[-1]
    assert shown == "<div><div>done in 2.00 s: 1 ran, 1 cached</div></div>"
    failed = [events.NodeStarted("b"), events.NodeFailed("b", ValueError("no"))]
    shown = shown_by(STARTED, *finished, *failed, events.Notice("b", "it is <late>"), events.RunFinished("failed", 2.0))[-1]
    assert "failed in 2.00 s: 1 ran, 1 cached" in shown
    assert "<td>b</td><td>failed</td>" in shown
    assert "note: b: it is &lt;late&gt;" in shown


def test_progress_shows_previews_and_survives_broken_ones():
    started = (STARTED, events.NodeStarted("a"))
    assert PICTURE in shown_by(*started, events.NodeProgress("a", 1, 2, preview=Drawn))[-1]
    assert "<img" not in shown_by(*started, events.NodeProgress("a", 1, 2, preview=lambda: 1 / 0))[-1]


def test_many_nodes_are_listed_briefly():
    many = [event for k in range(40) for event in (events.NodeStarted(f"n{k}"), events.NodeFinished(f"n{k}", 0.1))]
    shown = shown_by(STARTED, *many)[-1]
    assert shown.count("<tr>") == 13
    assert "and 28 before" in shown


def test_values_are_pictures_or_text():
    shown = values_as_html("a < b", [("drawn", Drawn), ("many", lambda: [Drawn(), 7]), ("lost", lambda: 1 / 0)])
    assert shown.count(PICTURE) == 2
    assert "<code>7</code><figcaption>many</figcaption>" in shown
    assert "lost cannot be shown: division by zero" in shown
    assert "<div>a &lt; b</div>" in shown
    assert values_as_html("", [("x", lambda: 1)] * 40).count("<figure") == 16


def test_result_shows_its_outputs(monkeypatch):
    monkeypatch.setenv("NODEGRAPH_PLUGIN_DIR", str(STUB_PLUGINS))
    w = Workflow("greeting")
    w.output("said", w.add("Text", value="hey & you"))
    assert "<code>&#x27;hey &amp; you&#x27;</code><figcaption>said</figcaption>" in Engine(cache_dir=None).run(w)._repr_html_()


def test_this_process_is_no_notebook():
    assert not is_notebook()


@pytest.mark.slow
def test_notebook_shows_graph_progress_and_pictures(tmp_path: Path, monkeypatch):
    """A kernel of its own runs the cells; nothing is drawn by a service."""
    from nbclient import NotebookClient

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "NODEGRAPH_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    build = """
from PIL import Image
from nodegraph import Engine, Workflow
w = Workflow("two")
image = w.add("Resize", image=Image.new("RGB", (8, 8)), width=16, height=16)
w.output("picture", w.add("Resize", image=image, width=8, height=8))
w
"""
    again = "w.add('Resize', name='resize', image=Image.new('RGB', (8, 8)), width=16, height=16)"
    cells = [build, "result = Engine().run(w)", "result", again, again]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    graph, run, result = (cell.outputs for cell in notebook.cells[:3])
    assert graph[0].data["image/svg+xml"].count("<rect") == 3
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", graph[0].data["image/svg+xml"])
    (progress,) = run  # one place, updated
    assert re.search(r"done in [\d.]+ s: 2 ran, 0 cached", progress.data["text/html"])
    assert "data:image/png;base64," in result[0].data["text/html"]
