"""What `nodegraph models` prints: the models that can be loaded, or what single files contain."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.plugin_api import Problem, WorkflowError, echo, echo_json
from nodegraph_nodes.catalogue import CatalogueEntry, catalogue
from nodegraph_nodes.commands.model_summary import decodes_previews, summary
from nodegraph_nodes.models.errors import file_error_message
from nodegraph_nodes.models.find import BUILTIN, builtin_models, model_path, model_resource

if TYPE_CHECKING:
    from nodegraph_nodes.models.find import Model


def show_models(names: Iterable[str], *, as_json: bool) -> None:
    """Describe these models, parts or adapters. Raises WorkflowError if one cannot be loaded."""
    _print_json([_describe(name, as_json) for name in names], as_json)


def list_models(*, as_json: bool) -> None:
    """Describe the built-in models, and list the user's."""
    builtin = [_describe(BUILTIN + name, as_json) for name in builtin_models()]
    _print_json(builtin + [_list(entry, as_json) for entry in catalogue()], as_json)


def _print_json(objects: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        echo_json(json.dumps(objects))


def _describe(name: str, as_json: bool) -> dict[str, Any]:
    """Print what a model, part or adapter is, or return it for `--json`. Raises WorkflowError if it cannot be loaded."""
    from nodegraph_diffusion.checkpoint import CheckpointError, describe

    try:
        path = model_path(name, Path.cwd(), None)
        description = describe(path)
        if description.content not in (None, "model", "unet", "vae", "text_encoder") or decodes_previews(description):
            facts = _print_summary(name, path, summary(description), as_json)
            if not as_json:
                echo(f"  load it with {facts['node'] or '--preview-decoder, for previews'}")
            return facts
        found = description.model_or_part()
    except CheckpointError as error:
        raise WorkflowError([Problem("E113", file_error_message(error).rstrip("."))]) from error
    except (OSError, ValueError) as error:
        raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
    files = model_resource(found).files
    size = sum(file.stat().st_size for file in files.values())
    if not as_json:
        count = f"{len(files)} {'file' if len(files) == 1 else 'files'}"
        echo(f"{name}: {_described(found)}, {size / 1e6:,.1f} MB in {count}")
        echo(f"  {_reason(found)}")
        for note in found.notes:
            echo(f"  note: {note}")
    return {"model": name, **_object(found), "bytes": size, "files": list(map(str, files.values()))}


def _list(entry: CatalogueEntry, as_json: bool) -> dict[str, Any]:
    """Print an entry of the catalogue in one line, or return it for `--json`."""
    from nodegraph_diffusion.checkpoint import CheckpointError, describe

    try:
        return _print_summary(entry.name, entry.path, summary(describe(entry.path)), as_json)
    except CheckpointError as error:
        reason = f"expected {error.expected}, found {error.found}. {error.hint}"
    except OSError as error:
        reason = error.strerror or str(error)
    if not as_json:
        echo(f"{entry.name}: cannot be loaded: {reason}")
    return {"model": entry.name, "path": str(entry.path), "problem": reason}


def _print_summary(name: str, path: Path, facts: dict[str, Any], as_json: bool) -> dict[str, Any]:
    if not as_json:
        size = f"{facts['bytes'] / 1e6:,.1f} MB"
        echo(f"{name}: {facts['holds']}, {facts['family'] or 'unknown family'}, {facts['dtype']}, {size}")
        for note in facts["notes"]:
            echo(f"  note: {note}")
    return {"model": name, "path": str(path), **facts}


def _object(found: Model) -> dict[str, Any]:
    """What was found, for `--json`; a model and a UNet have the prediction, a model has its native size."""
    facts: dict[str, Any] = {"holds": type(found).__name__, "description": _described(found), "reason": _reason(found)}
    facts["notes"] = list(found.notes)
    facts |= {name: value for name in ("kind", "layout", "sample_size") if (value := getattr(found, name, None)) is not None}
    schedule = getattr(found, "noise_schedule", None)
    return facts | ({} if schedule is None else {"prediction": schedule.prediction})


def _described(found: Model) -> str:
    from nodegraph_diffusion.checkpoint import Checkpoint, TextEncoders, UNetPart

    if isinstance(found, Checkpoint):
        native = f"{found.sample_size}x{found.sample_size} pixels"
        return f"{found.kind}, {found.layout} layout, {native}, {found.noise_schedule.prediction} prediction"
    if isinstance(found, TextEncoders):
        weights = found.parts[0].weights
        which = "a text encoder" if len(found.parts) == 1 else "two text encoders"
        use = ", or as the text_encoder_2 of SDXL" if weights.part == "text_encoder_2" else ""
        return f"{which}: load it with LoadTextEncoder{use}; {found.kind}, {weights.naming} names"
    if isinstance(found, UNetPart):
        names = f"{found.kind}, {found.weights.naming} names"
        receives = "" if found.config.receives is None else f", receives {found.config.receives}"
        return f"a UNet: load it with LoadUNet; {names}, {found.noise_schedule.prediction} prediction{receives}"
    return f"an autoencoder: load it with LoadVAE; {found.weights.naming} names"


def _reason(found: Model) -> str:
    from nodegraph_diffusion.checkpoint import NAMES, TextEncoders

    return f"read as {NAMES[found.kind]}, {found.reason}" if isinstance(found, TextEncoders) else found.reason
