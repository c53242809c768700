"""What a model's folder in the hub's cache lacks: a download may have broken off, or another program fetched only a part.

Each file in the cache is whole, but nothing there says which ones the hub has besides. So the model's index counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
"""The parts of a model, as its index and its folders call them."""

_INDEX = "model_index.json"
_COMPANIONS = {"unet": ("scheduler",), "text_encoder": ("tokenizer",), "text_encoder_2": ("tokenizer_2",)}
"""The parts that say how another one is to be used."""

_WEIGHTS = r"(?!flax_|openvino_)(?:.*model[^-]*|adapter_model)\.(?:safetensors|bin)"
_SHARD = r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<total>\d{5})\.(?:safetensors|bin)"


def missing_files(snapshot: Path, part: str = "") -> list[str]:
    """The files that a model in the folder `snapshot`, or one `part` of it, needs and that are not there, as far as is known."""
    index = _read_index(snapshot / _INDEX)
    if part == "unet" and index is None:
        return [_INDEX]  # which says whether the model has a scheduler, and that says what the UNet predicts
    known = index or {}
    if part or index is None:
        used = [part, *(name for name in _COMPANIONS.get(part, ()) if _is_named(known.get(name)))]
    else:
        used = [name for name in PARTS if "unet" in index and _is_named(index.get(name))]
    missing = [name for used_part in used for name in _missing_of(snapshot, used_part)]
    return missing + (["vae/config.json"] if part == "unet" and not (snapshot / "vae/config.json").is_file() else [])


def _missing_of(snapshot: Path, part: str) -> list[str]:
    """The files that are missing in the folder of one part; without a name, in that of a model of one part."""
    folder = snapshot / part
    weights: list[str] = []
    if part == "scheduler":
        wanted: Iterable[str] = ("scheduler_config.json",)
    elif part.startswith("tokenizer"):
        wanted = ("vocab.json", "merges.txt") if not (folder / "tokenizer.json").is_file() else ()
    else:
        shards = _missing_shards(folder)
        wanted = ("config.json", *(shards or ()))
        weights = [f"the weights of {part}" if part else "its weights"] if shards is None else []
    return [(Path(part) / name).as_posix() for name in wanted if not (folder / name).is_file()] + weights


def _missing_shards(folder: Path) -> list[str] | None:
    """The shards of the folder's weights, and their index if that is missing; none if they are in one file, None without any."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    if any(re.fullmatch(_WEIGHTS, name) for name in names):
        return []
    shards = [match for name in names if (match := re.fullmatch(_SHARD, name))]
    if not shards:
        return None
    first = shards[0]
    count, ending = int(first["total"]), first[0].rpartition(".")[2]
    indices = [name for name in names if ".index" in name and name.endswith(".json")]
    wanted = [f"{first['stem']}-{number:05}-of-{first['total']}.{ending}" for number in range(1, count + 1)]
    return [*wanted, *([] if indices else [f"{first['stem']}.{ending}.index.json"])]


def _is_named(entry: Any) -> bool:
    """Whether an entry of an index names a part: its library and class, which may be null."""
    return isinstance(entry, list) and len(entry) == 2 and None not in entry


def _read_index(file: Path) -> dict[str, Any] | None:
    try:
        index = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return index if isinstance(index, dict) else None
