"""Models named on the Hugging Face hub: `hf://org/name`, `hf://org/name@revision`, `hf://org/name/vae`, `.../file.safetensors`.

What was fetched before is found in the hub's own cache folder without a word to the network, and without its library, whose
import takes longer than a cached run. The rest is left to that library: tokens, mirrors (HF_ENDPOINT), resumed downloads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CheckpointError

SCHEME = "hf://"

_FETCHED = ".nodegraph"  # stands in a snapshot that has all it should, and names the model in it: the hub's cache does not tell
_REFERENCE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>[^@]+))?")
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_OF_PARTS = ("diffusion_pytorch_model", "model")  # what the weights of a part are called
_WEIGHTS = re.compile(r"(?P<stem>.*?)(?P<variant>\.fp16)?(?P<shard>-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True)
class Reference:
    """What an `hf://` address names: a repository, a revision of it, and one file or folder of it, or (None) all of a model."""

    repo: str
    revision: str
    file: str | None

    def __str__(self) -> str:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return f"{SCHEME}{self.repo}{at}" + (f"/{self.file}" if self.file else "")


def parse(text: str) -> Reference:
    """The reference in `text`. Raises CheckpointError where it is none."""
    match = _REFERENCE.fullmatch(text)
    if match is None or ".." in text.split("/"):
        expected = "hf://organisation/name, with @revision or /file.safetensors behind it"
        raise CheckpointError(text, expected=expected, found=f"'{text}'", hint="Copy both names from the model's page.")
    return Reference(match["repo"], match["revision"] or "main", match["file"])


def fetch(text: str) -> Path:
    """The file or diffusers folder that `text` names, downloaded unless it was before.

    Of a folder, only what a model is loaded from: configs, vocabularies, and each part's safetensors, in half precision where
    it has been published. Raises CheckpointError for addresses that name nothing, and where the network fails.
    """
    reference = parse(text)
    return _cached(reference) or _downloaded(reference)


def _cached(reference: Reference) -> Path | None:
    """Where the hub's cache holds it, whole; None: it must be asked for."""
    snapshot = _snapshot(reference)
    if reference.file is not None and (snapshot / reference.file).is_file():
        return snapshot / reference.file
    folder = snapshot / (reference.file or "")
    try:
        model = folder / (folder / _FETCHED).read_text(encoding="utf-8")
    except OSError:
        return None
    return model if model.exists() else None


def _snapshot(reference: Reference) -> Path:
    """Where the hub's cache has, or would have, the files of a revision."""
    folder = _cache_folder() / f"models--{reference.repo.replace('/', '--')}"
    try:
        commit = (folder / "refs" / reference.revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = reference.revision  # a commit is its own reference
    return folder / "snapshots" / commit


def _cache_folder() -> Path:
    """Where huggingface_hub keeps its downloads, by its documented environment variables."""
    if told := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(told).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _downloaded(reference: Reference) -> Path:
    """What the hub sends; where it cannot be reached, a folder that another program fetched will do. Raises CheckpointError."""
    try:
        return _asked_for(reference)
    except CheckpointError:
        raise
    except Exception as error:  # the network's come from a library that changes with the hub's
        refusal = _refusal(reference, error)
        if refusal is not None:
            raise refusal from error
        folder = _snapshot(reference) / (reference.file or "")
        if any((folder / name).is_file() for name in ("model_index.json", "config.json")):
            return folder
        said = (" ".join(str(error).split()) or type(error).__name__)[:300]
        hint = "Check the connection (and HF_ENDPOINT, HF_HUB_OFFLINE, the room on the disk), or give a path instead."
        raise CheckpointError(str(reference), expected="a download from the hub", found=f"an error ({said})", hint=hint) from error


def _asked_for(reference: Reference) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    repo, revision = reference.repo, reference.revision
    if reference.file is not None and Path(reference.file).suffix:
        return Path(hf_hub_download(repo, reference.file, revision=revision))
    names = HfApi().list_repo_files(repo, revision=revision)
    if wanted := _wanted(names, reference.file or ""):
        model = folder = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted)) / (reference.file or "")
    elif reference.file is not None:
        hint = "Copy its name from the list of the model's files."
        raise CheckpointError(str(reference), expected=f"a part of a model in '{reference.file}'", found="none", hint=hint)
    else:
        model = Path(hf_hub_download(repo, _only_model(reference, names), revision=revision))
        folder = model.parent
    (folder / _FETCHED).write_text(model.relative_to(folder).as_posix(), encoding="utf-8")
    return model


def _refusal(reference: Reference, error: Exception) -> CheckpointError | None:
    """What to say where the hub answered, and said no; None where it did not answer."""
    from huggingface_hub import errors

    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    refusals = (  # gated ones are RepositoryNotFoundErrors, too
        (
            errors.GatedRepoError,
            "a model that you may read",
            "one whose terms are to be accepted",
            f"Do so on its page, then {log_in}.",
        ),
        (errors.RevisionNotFoundError, f"a revision '{reference.revision}'", "none", "Leave it out, or copy it from its page."),
        (errors.RepositoryNotFoundError, "a model on the hub", "none", f"Copy its name from its page; if it is private, {log_in}."),
        (
            errors.RemoteEntryNotFoundError,
            f"a file '{reference.file}'",
            "none",
            "Copy its name from the list of the model's files.",
        ),
    )
    for kind, expected, found, hint in refusals:
        if isinstance(error, kind):
            return CheckpointError(str(reference), expected=expected, found=found, hint=hint)
    return None


def _only_model(reference: Reference, names: Iterable[str]) -> str:
    """The one model file in the repository's root. Raises CheckpointError where there is none, or a choice."""
    files = sorted(name for name in names if "/" not in name and name.endswith(".safetensors"))
    if len(files) == 1:
        return files[0]
    found = "none of the two" if not files else f"{len(files)} files: {', '.join(files[:6])}{', ...' if len(files) > 6 else ''}"
    hint = f"Name one: {reference}/{files[0]}" if files else "Models of other kinds, and pickles, are not fetched."
    raise CheckpointError(str(reference), expected="a diffusers folder or one .safetensors file", found=found, hint=hint)


def _wanted(names: Collection[str], part: str = "") -> list[str]:
    """Of a repository's files, those that a model in diffusers' layout is loaded from, or one `part` of it; none in other ones.

    Of a part's model, configs and vocabularies are wanted, too: they say what it was trained for. A repository may be of one part
    alone.
    """
    if "model_index.json" in names:
        inside = [name for name in names if name == "model_index.json" or name.split("/")[0] in _PARTS]
        loaded = _loaded(inside)
        return [name for name in loaded if name.startswith(part) or _is_config(name)] if part in ("", *_PARTS) else []
    folder = f"{part}/" if part else ""
    if f"{folder}config.json" not in names:
        return []
    beside = (name for name in names if name.rpartition("/")[0] == part)
    return _loaded(name for name in beside if name.removeprefix(folder).startswith(_OF_PARTS) or _is_config(name))


def _loaded(names: Iterable[str]) -> list[str]:
    """Of the files in folders of diffusers' layout, those that are loaded: of each folder's weights, one variant."""
    inside = list(names)
    weights = {name: match for name in inside if (match := _WEIGHTS.fullmatch(name))}
    halves = {match["stem"].rpartition("/")[0] for match in weights.values() if match["variant"]}
    kept = [name for name, match in weights.items() if bool(match["variant"]) == (match["stem"].rpartition("/")[0] in halves)]
    kept = [name for name in kept if not weights[name]["stem"].endswith(("non_ema", "flax_model", "openvino_model"))]
    indices = [name for name in inside if ".safetensors.index" in name and ("fp16" in name) == (name.rpartition("/")[0] in halves)]
    return sorted([*filter(_is_config, inside), *kept, *indices])


def _is_config(name: str) -> bool:
    return name.endswith((".json", ".txt")) and ".index." not in name
