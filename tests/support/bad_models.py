"""A workflow that reads a model file, and the expected result for a bad file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.support.cli import Cli, Ran

LOADERS = {"LoadModel": (), "LoadLora": ("lora",), "LoadEmbedding": ("style",), "LoadControlNet": ("net", "hint", "control")}
"""The node types that read a model file, each with the nodes that only it needs in the workflow."""


def workflow(models: Path, node: str, file: Path | str) -> str:
    """A workflow that makes a picture with the small model, in which `node` reads `file`."""
    return workflow_of(str(file) if node == "LoadModel" else str(models / "small"), (node,), file)


def workflow_of(model: str, loaders: Collection[str], file: Path | str) -> str:
    """A workflow that makes a picture with the model, in which the other `loaders` read `file`."""
    nodes: dict[str, Any] = {
        "model": {"use": "LoadModel", "model": model},
        "lora": {"use": "LoadLora", "unet": "$model.unet", "text_encoder": "$model.text_encoder", "file": str(file)},
        "style": {"use": "LoadEmbedding", "text_encoder": "$model.text_encoder", "file": str(file), "word": "style"},
        "net": {"use": "LoadControlNet", "file": str(file)},
        "positive": {"use": "TextEncode", "text_encoder": "$model.text_encoder", "text": "a red house"},
        "latent": {"use": "EmptyLatent", "vae": "$model.vae"},
        "hint": {"use": "VAEDecode", "vae": "$model.vae", "latent": "$latent"},
        "control": {"use": "ApplyControlNet", "unet": "$model.unet", "control_net": "$net", "image": "$hint"},
        "noise": {"use": "Noise", "like": "$latent", "seed": 1},
        "denoiser": {"use": "UNetDenoise", "unet": "$model.unet", "positive": "$positive", "negative": "$positive"},
        "sampled": {"use": "Sampler", "denoiser": "$denoiser", "latent": "$latent", "noise": "$noise", "steps": 1},
        "image": {"use": "VAEDecode", "vae": "$model.vae", "latent": "$sampled"},
    }
    used = {name for loader in loaders for name in LOADERS[loader]}
    for name in {name for names in LOADERS.values() for name in names} - used:
        del nodes[name]
    if "LoadLora" in loaders:
        nodes["denoiser"]["unet"] = "$lora.unet"
    if "LoadEmbedding" in loaders:
        nodes["positive"]["text_encoder"] = "$style"
    if "LoadControlNet" in loaders:
        nodes["control"]["unet"] = nodes["denoiser"]["unet"]
        nodes["denoiser"]["unet"] = "$control"
    return json.dumps({"nodegraph": 1, "nodes": nodes, "outputs": {"picture": {"from": "$image"}}})


def contents(folder: Path) -> dict[str, str]:
    """The content of every file below the folder, except those of the cache."""
    files = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.relative_to(folder).parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_refused(cli: Cli, models: Path, node: str, file: Path | str, message: str, *args: str) -> None:
    """`check` or else `run` ends with one clear message, `run` in any case; nothing is written but the cache."""
    cli.write(workflow(models, node, file), "bad.yaml")
    before = contents(cli.folder), contents(models)
    for command, statuses in (("check", (0, 2)), ("run", (1, 2))):
        ran = cli(command, "bad.yaml", *args)
        assert ran.exit_code in statuses, ran.stderr
        if ran.exit_code:
            assert_clear(ran, message)
    assert (contents(cli.folder), contents(models)) == before


def assert_clear(ran: Ran, message: str) -> None:
    assert message in ran.stderr, ran.stderr
    assert "expected" in ran.stderr
    assert "found" in ran.stderr
    for never in ("Traceback", "unexpected", "\x1b", "\0"):
        assert never not in ran.stderr
    assert len(ran.stderr) < 5000
    ran.stderr.encode()


def assert_refused_by_all(cli: Cli, file: Path | str, message: str, *args: str) -> None:
    """`check` and `run` name each node that reads the file, with this message; nothing is written but the cache."""
    cli.write(workflow_of(str(file), LOADERS, file), "bad.yaml")
    before = contents(cli.folder)
    for command in ("check", "run"):
        ran = cli(command, "bad.yaml", *args)
        assert ran.exit_code == 2, ran.stderr
        assert_clear(ran, message)
        for name in ("model", "lora", "style", "net"):
            lines = [line for line in ran.stderr.splitlines() if f"of node '{name}'" in line]
            assert any(message in line for line in lines), (command, name, ran.stderr)
    assert contents(cli.folder) == before
