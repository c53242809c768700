"""Pickles on the command line: refused until the user allows them, and never executed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from tests.support.bad_models import assert_clear, assert_refused, assert_refused_by_all, workflow
from tests.support.cli import Cli
from tests.support.pickles import Evil


@pytest.fixture
def pickled(cli: Cli, models: Path) -> Path:
    torch.save({"state_dict": load_file(models / "single.safetensors")}, cli.folder / "single.safetensors")
    return cli.folder / "single.safetensors"


@pytest.mark.slow
def test_pickle_is_refused_until_allowed(cli, models, pickled):
    assert_refused(cli, models, "LoadModel", pickled, "found a PyTorch pickle")
    cli.write(workflow(models, "LoadModel", pickled), "model.yaml")
    for command in ("check", "explain", "run"):
        assert cli(command, "model.yaml", "--allow-pickles", env={PICKLES_VARIABLE: None}).exit_code == 0
        assert cli(command, "model.yaml", env={PICKLES_VARIABLE: "1"}).exit_code == 0
        assert cli(command, "model.yaml", env={PICKLES_VARIABLE: None}).exit_code == 2  # permission holds for one call only
    assert cli("models", pickled).exit_code == 2
    assert "sd1, ldm layout" in cli("models", pickled, "--allow-pickles").stdout
    ran = cli("check", "model.yaml", env={PICKLES_VARIABLE: "perhaps"})
    assert ran.exit_code == 2
    assert_clear(ran, "NODEGRAPH_ALLOW_PICKLES: expected 1 or 0, found 'perhaps'")


def test_workflow_cannot_allow_pickles(cli, models, pickled):
    text = json.loads(workflow(models, "LoadModel", pickled))
    for permission in ({"allow_pickles": True}, {"env": {PICKLES_VARIABLE: "1"}}):
        cli.write(json.dumps(text | permission), "model.yaml")
        assert cli("check", "model.yaml").exit_code == 2
        changed = json.loads(json.dumps(text))
        changed["nodes"]["model"] |= permission
        cli.write(json.dumps(changed), "model.yaml")
        assert cli("check", "model.yaml").exit_code == 2
    (cli.folder / ".env").write_text(f"{PICKLES_VARIABLE}=1\n")
    cli.write(json.dumps(text), "model.yaml")
    assert_clear(cli("check", "model.yaml"), "a PyTorch pickle")


def test_converted_pickle_needs_no_permission(cli, models, pickled):
    ran = cli("convert", pickled, "new.safetensors")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith("new.safetensors: ")
    before = load_file(models / "single.safetensors")
    after = load_file(cli.folder / "new.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    cli.write(workflow(models, "LoadModel", "new.safetensors"), "model.yaml")
    assert cli("check", "model.yaml").exit_code == 0
    again = cli("convert", pickled, "new.safetensors")
    assert again.exit_code == 2
    assert "exists already and stays as it is" in again.stderr
    nowhere = cli("convert", pickled, "nowhere/new.safetensors")
    assert nowhere.exit_code == 1
    assert "[E211] cannot write nowhere/new.safetensors" in nowhere.stderr


@pytest.mark.parametrize("args", [(), ("--allow-pickles",)])
@pytest.mark.parametrize("legacy", [False, True])
def test_command_in_a_pickle_never_runs(cli, args, legacy):
    marker = cli.folder / "marker"
    content = {"emb_params": torch.ones(1, 32), "extra": Evil(marker)}
    torch.save(content, cli.folder / "bad.pt", _use_new_zipfile_serialization=not legacy)
    message = "the name 'posix.system', which stands for code" if args and os.name != "nt" else "found"
    assert_refused_by_all(cli, cli.folder / "bad.pt", message, *args)
    for command in (("models", "bad.pt", *args), ("convert", "bad.pt", "new.safetensors")):
        ran = cli(*command)
        assert ran.exit_code == 2
        assert_clear(ran, "found")
    assert not marker.exists()
    assert not (cli.folder / "new.safetensors").exists()
    assert not list(cli.folder.glob(".new*"))
