"""Outputs that say how they were made: runs that are repeated, hooks of plugins, and what a hook breaks."""

from __future__ import annotations

OUTER = """
nodegraph: 1
nodes: {small: {use: ./inner.yaml, seed: 3}}
outputs: {drawn: {from: $small}}
"""
INNER = """
nodegraph: 1
params: {seed: 1}
nodes: {drawn: {use: Draw, seed: $params.seed}}
outputs: {drawn: {from: $drawn}}
"""
PLUGIN = """
from nodegraph import hookimpl

@hookimpl
def output_texts(nodes, node, data):
    raise RuntimeError(f"no text for {node} of {sorted(nodes)}")

@hookimpl
def describe_output(data):
    return {"program": "Painter", "version": "3", "seed": 7, "deep": [1]} if data.startswith(b"PAINT") else None
"""


def test_a_run_again_uses_values_of_nodes_inside(cli):
    cli.write(OUTER, "outer.yaml")
    inner = cli.write(INNER, "inner.yaml")
    ran = cli("run", "outer.yaml", "--set", "small/drawn.other=77", "--set", "small.seed=9", "--json", "-q")
    assert ran.exit_code == 0, ran.stderr
    inner.unlink()
    again = cli("runs", "rerun", "last", "--json", "-q")
    assert again.exit_code == 0, again.stderr
    assert again.json["nodes"]["small/drawn"]["key"] == ran.json["nodes"]["small/drawn"]["key"]
    assert [str(cli.folder / path) for path in ran.json["outputs"]["drawn"]] == again.json["outputs"]["drawn"]


def test_plugins_describe_outputs_and_a_failing_hook_is_a_note(cli):
    (cli.folder / "plugins").mkdir()
    (cli.folder / "plugins/painter.py").write_text(PLUGIN)
    (cli.folder / "x.paint").write_bytes(b"PAINT")
    env = {"NODEGRAPH_PLUGIN_DIR": f"{cli.env['NODEGRAPH_PLUGIN_DIR']}:{cli.folder / 'plugins'}"}
    shown = cli("show", "x.paint", env=env)
    assert shown.stdout.splitlines() == ["x.paint: made by Painter 3", "  seed  7", "  deep  [1]"]
    assert cli("show", "x.paint", "--json", env=env).json == {"program": "Painter", "version": "3", "seed": 7, "deep": "[1]"}
    (cli.folder / "x.paint").write_bytes(b"other")
    assert cli("show", "x.paint", env=env).exit_code == 2
    ran = cli("run", cli.write("nodegraph: 1\nnodes: {m: {use: Number}}\noutputs: {m: {from: $m}}\n"), env=env)
    assert ran.exit_code == 0
    assert "a plugin's output_texts failed: RuntimeError: no text for m of ['m']" in ran.stderr
