"""Whether a file that exists is what a run would write: the same value, made by the same workflow in whatever run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nodegraph.plugins.codec import Codec
from nodegraph.workflow.output_metadata import WORKFLOW, run_data

_MOST_METADATA: Final = 64 << 20  # bytes; a file that is larger than its content by more than this is another one


def output_data(data: bytes, codec: Codec, *, name: str, digest: str, index: int) -> dict[str, Any]:
    """What the metadata of a file says about its content `data`: item `index` of an output whose value has `digest`."""
    extract = getattr(codec, "extract", None)
    bare = data if extract is None else extract(data)[0]
    return {"name": name, "digest": digest, "index": index, "sha256": hashlib.sha256(bare).hexdigest()}


def is_same(path: Path, content: bytes, codec: Codec) -> bool:
    """Whether the file at `path` holds the value and the workflow that `content` holds. The runs may differ.

    Files of a codec that cannot extract metadata are the same only if all their bytes are.
    """
    try:
        if not path.is_file() or path.stat().st_size > len(content) + _MOST_METADATA:
            return False
        existing = path.read_bytes()
    except OSError:
        return False
    if existing == content:
        return True
    extract = getattr(codec, "extract", None)
    if extract is None:
        return False
    try:
        bare, metadata = extract(existing)
        new_bare, new_metadata = extract(content)
    except Exception:  # it may be a file of any kind, or a damaged one
        return False
    if WORKFLOW not in new_metadata or metadata.get(WORKFLOW) != new_metadata[WORKFLOW]:
        return False
    return bool(bare == new_bare) or _is_intact(bare, _output(metadata), _output(new_metadata))


def _is_intact(bare: bytes, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether both describe the same item of the same value, and `bare` is still what the old metadata was written for."""
    same = all(old.get(name) == new[name] for name in ("name", "digest", "index"))
    return same and old.get("sha256") == hashlib.sha256(bare).hexdigest()


def _output(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    described = run_data(metadata).get("output")
    return described if isinstance(described, dict) else {}
