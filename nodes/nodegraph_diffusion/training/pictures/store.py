"""Encodings on disk, so that each picture and each caption is encoded once for all runs that need it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nodegraph_diffusion.training.loop.state import write_state

_FORMAT = 1  # of the files; another number leaves the old ones unused

Encoding = Mapping[str, Tensor]


def network_digest(network: nn.Module) -> str:
    """The SHA-256 of a network: its class, its sizes, and the names, dtypes, shapes and numbers of its weights."""
    config = getattr(network, "config", None)
    sizes = asdict(config) if is_dataclass(config) and not isinstance(config, type) else None
    hashed = hashlib.sha256(json.dumps([type(network).__qualname__, sizes], sort_keys=True).encode())
    for name, value in sorted(network.state_dict().items()):
        plain = value.detach().to("cpu").contiguous()
        hashed.update(f"\n{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        if plain.numel():
            hashed.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


class EncodingStore:
    """Encodings by what they depend on: one safetensors file each, in `folder`, or in memory if that is None.

    The name of a file is the SHA-256 of all that its tensors depend on, so that an encoding of other contents, sizes or encoders is
    never used. Files are replaced at once, and those that cannot be read are computed again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[str, Encoding] = {}

    def path(self, parts: Mapping[str, object]) -> Path | None:
        """The file of an encoding; None if encodings are kept in memory."""
        key = _key(parts)
        return None if self._folder is None else self._folder / key[:2] / f"{key}.safetensors"

    def get(self, parts: Mapping[str, object]) -> Encoding | None:
        """The encoding that depends on these parts, None if it is not there."""
        path = self.path(parts)
        if path is None:
            return self._memory.get(_key(parts))
        try:
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {}).get("training", "null"))
                if record != _record(parts):
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError, ValueError):
            return None

    def put(self, parts: Mapping[str, object], encoding: Encoding) -> None:
        """Keep an encoding."""
        if (path := self.path(parts)) is None:
            self._memory[_key(parts)] = dict(encoding)
        else:
            write_state(path, encoding, _record(parts))

    def encode(
        self,
        items: Sequence[Mapping[str, object]],
        compute: Callable[[int], Encoding],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Encoding]:
        """The encoding of each item, of which those that are missing are computed by `compute` from their index, and kept.

        `on_progress` receives how many are done, and how many there are. If it is interrupted, those that are done stay.
        """
        encodings = []
        for index, parts in enumerate(items):
            encoding = self.get(parts)
            if encoding is None:
                encoding = compute(index)
                self.put(parts, encoding)
            encodings.append(encoding)
            if on_progress is not None:
                on_progress(index + 1, len(items))
        return encodings


def joined_digest(digests: Iterable[str]) -> str:
    """One digest for several, in their order."""
    return hashlib.sha256(json.dumps(list(digests)).encode()).hexdigest()


def _record(parts: Mapping[str, object]) -> dict[str, object]:
    record: dict[str, object] = json.loads(json.dumps({"format": _FORMAT, **parts}, sort_keys=True))
    return record


def _key(parts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(_record(parts), sort_keys=True, separators=(",", ":")).encode()).hexdigest()
