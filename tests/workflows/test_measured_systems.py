"""The figures of the systems: the list names every workflow, targets are compared, and measuring works at tiny sizes."""

from __future__ import annotations

import pytest

from benchmarks.systems import WORKFLOWS, is_met, main, measure, systems, table
from nodegraph import Engine


def test_every_system_is_listed_and_has_its_workflows():
    listed = systems()
    assert sorted(system.name for system in listed) == sorted(file.stem for file in (WORKFLOWS / "systems").glob("*.yaml"))
    for system in listed:
        assert (WORKFLOWS / system.workflow).exists()
        outputs = (WORKFLOWS / system.workflow).read_text(encoding="utf-8").partition("\noutputs:")[2]
        assert all(f"  {figure.output}:" in outputs for figure in system.figures), system.name


def test_targets_are_compared():
    assert is_met(">= 0.9", [0.9], {})
    assert not is_met("> 0.9", [0.9], {})
    assert is_met("< blurred", [0.1], {"blurred": 0.2})
    assert not is_met("< blurred", [0.3], {"blurred": 0.2})
    assert is_met("falls", [3.0, 2.0, 1.0], {})
    assert not is_met("falls", [3.0, 2.0, 2.5], {})


def test_unknown_systems_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["inpant"])
    assert "unknown systems: inpant; there are text_to_image, " in capsys.readouterr().err


@pytest.mark.slow
def test_shipped_weights_are_measured(tmp_path):
    with Engine(cache_dir=tmp_path / "cache") as engine:
        rows = [row for system in systems() if system.weights for row in measure(system, engine, tmp_path, quick=True)]
    reached = {row.system: row.met for row in rows}
    assert reached["inpaint"] is reached["outpaint"] is reached["image_to_image"] is True
    assert "| inpaint | pixels outside the mask that are unchanged | 1 | >= 1 | yes |" in table(rows)
