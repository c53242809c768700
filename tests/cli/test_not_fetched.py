"""Commands that run nothing do not use the network: what is not on this machine is reported as not fetched yet."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from nodegraph_diffusion.checkpoint import CheckpointError
from nodegraph_diffusion.checkpoint.files import hub
from tests.support.hub import save_in_hub_cache

WORKFLOW = """
nodegraph: 1
nodes:
  model: {use: LoadModel, model: MODEL, kind: sd1}
  vae: {use: LoadVAE, vae: "hf://org/vae"}
  lora: {use: LoadLora, unet: $model.unet, text_encoder: $model.text_encoder, file: "hf://org/lora/lora.safetensors"}
  embedded: {use: LoadEmbedding, text_encoder: $lora.text_encoder, file: "hf://org/embedding@v1", word: thing}
  control: {use: LoadControlNet, file: "hf://org/control"}
  prompt: {use: TextEncode, text_encoder: $embedded, text: a red house}
  empty: {use: EmptyLatent, vae: $vae, width: 32, height: 32}
  picture: {use: VAEDecode, vae: $vae, latent: $empty}
outputs:
  picture: {from: $picture}
  prompt: {from: $prompt}
"""
INPUTS = [("model", "model"), ("vae", "vae"), ("lora", "file"), ("embedded", "file"), ("control", "file")]


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache of the hub. Whoever opens a socket fails the test."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        pytest.fail("a socket was opened")

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_check_reports_what_is_not_fetched(cli, tmp_path):
    ran = cli("check", cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"')))
    assert (ran.exit_code, ran.stdout.partition(": ")[2]) == (0, "8 nodes, 2 outputs, no mistakes\n")
    notes = [line for line in ran.stderr.splitlines() if line.startswith("note: ")]
    assert [line.partition(": ")[2].partition(": ")[0] for line in notes] == [f"'{port}' of node '{n}'" for n, port in INPUTS]
    to = f"from http://127.0.0.1:9 to {tmp_path / 'hf' / 'hub'}"
    assert notes[0].endswith(
        "hf://org/model is not fetched yet; 'nodegraph run' downloads its configs and weights (.safetensors, in half precision if "
        f"that is published), {to}"
    )
    assert notes[2].endswith(f"hf://org/lora/lora.safetensors is not fetched yet; 'nodegraph run' downloads this file, {to}")


def test_check_reports_it_as_json(cli):
    ran = cli("check", cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"')), "--json")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.json["problems"] == []
    assert [(missing["node"], missing["input"]) for missing in ran.json["not_fetched"]] == INPUTS


def test_other_mistakes_are_still_found(cli):
    workflow = WORKFLOW.replace("MODEL", '"hf://org/model"').replace("width: 32", "width: wide").replace("org/lora", "../lora")
    ran = cli("check", cli.write(workflow), "--json")
    assert ran.exit_code == 2
    assert sorted(problem["code"] for problem in ran.json["problems"]) == ["E110", "E113"]
    assert "expected hf://organisation/name" in ran.stderr


def test_explain_says_that_keys_are_unknown(cli):
    path = cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"'))
    ran = cli("explain", path, "--json")
    assert ran.exit_code == 0
    assert ran.json["vae"]["action"] == "run"
    assert ran.json["vae"]["reason"] == "its 'vae' is not fetched yet, so its key is not known"
    assert ran.json["vae"]["not_fetched"].startswith("hf://org/vae is not fetched yet; ")
    assert ran.json["picture"] == {"action": "run", "reason": "vae: 'vae' may return another value"}
    assert ran.json["control"]["action"] == "pruned"
    shown = cli("explain", path)
    assert shown.stderr.count("is not fetched yet; 'nodegraph run' downloads") == 5


def test_show_draws_the_graph(cli):
    ran = cli("show", cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"')))
    assert ran.exit_code == 0
    assert "hf://org/vae" in ran.stdout
    assert ran.stderr.count("is not fetched yet") == 5
    assert len(cli("show", "greeting.yaml", "--json").json["not_fetched"]) == 5


def test_fetched_model_is_checked(cli, models):
    save_in_hub_cache(models / "small", "org/model")
    path = cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"'))
    missing = cli("check", path, "--json").json["not_fetched"]
    assert [item["node"] for item in missing] == ["vae", "lora", "embedded", "control"]
    path = cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"').replace("kind: sd1", "kind: sdxl"))
    ran = cli("check", path)
    assert ran.exit_code == 2
    assert "[E116]" in ran.stderr


def test_model_of_another_program_counts_only_offline(cli, models, monkeypatch):
    save_in_hub_cache(models / "small", "org/model")
    (hub._snapshot(hub.parse("hf://org/model")) / ".nodegraph").unlink()
    path = cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"'))
    assert "'model' of node 'model'" in cli("check", path).stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "'model' of node 'model'" not in cli("check", path).stderr


def test_run_fetches(cli, monkeypatch):
    asked = []

    def fetch(text: str, expected: object = None) -> Path:
        asked.append(text)
        raise CheckpointError(text, expected="a download", found="an error", hint="Check the connection.")

    monkeypatch.setattr(hub, "fetch", fetch)
    ran = cli("run", cli.write(WORKFLOW.replace("MODEL", '"hf://org/model"')))
    assert ran.exit_code == 2
    assert ran.stderr.count("[E113]") == 5
    assert len(asked) == 5
