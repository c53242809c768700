"""Models on the Hugging Face hub: `hf://org/name`, `hf://org/name@revision`, `hf://org/name/vae`, `.../file.safetensors`.

Files fetched before are found in the hub's own cache folder without network access, and without the hub's library, whose
import takes longer than a cached run. The library does the rest: tokens, mirrors (HF_ENDPOINT), a connection that breaks off.
Large downloads are continued by the next run, and all are checked by their hashes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.hub_connection import require_answer, with_few_retries, without_retry_messages
from nodegraph_diffusion.checkpoint.files.hub_errors import FORBIDDEN, LOG_IN, describe_error
from nodegraph_diffusion.checkpoint.files.hub_hash import first_other, remove_damaged
from nodegraph_diffusion.checkpoint.files.hub_incomplete import PARTS, missing_files
from nodegraph_diffusion.checkpoint.files.hub_resume import download_resumably

SCHEME = "hf://"

_ENDPOINT = "https://huggingface.co"
_TRUE = ("1", "ON", "YES", "TRUE")  # as the hub's library reads its variables
_COMPLETE = ".nodegraph"  # a file that marks complete snapshots and names their model, which the hub's cache does not show
_REFERENCE = r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>[^@]+))?"
_WEIGHT_NAMES = ("diffusion_pytorch_model", "model")  # how the names of a part's weights begin
_PEFT = frozenset({"adapter_config.json", "adapter_model.safetensors"})
_WEIGHTS = r"(?P<stem>.*?)(?P<variant>\.(fp16|bf16|fp32|ema|non_ema))?(?P<shard>-\d{5}-of-\d{5})?\.safetensors"
_INDEX = r".*?(?P<before>\.\w+)?\.safetensors\.index(?P<after>\.\w+)?\.json"
_PREFERRED = (".fp16", "", ".bf16", ".fp32", ".ema", ".non_ema")  # variants, the one to download first


@dataclass(frozen=True)
class Reference:
    """A parsed `hf://` address: a repository, its revision, and one file or folder in it; None for the whole model."""

    repo: str
    revision: str
    file: str | None

    def __str__(self) -> str:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return f"{SCHEME}{self.repo}{at}" + (f"/{self.file}" if self.file else "")


def parse(text: str) -> Reference:
    """The reference in `text`. Raises CheckpointError if it is not one."""
    match = re.fullmatch(_REFERENCE, text)
    if match is None or ".." in text.split("/"):
        expected = "hf://organisation/name, optionally followed by @revision or /file.safetensors"
        raise CheckpointError(text, expected=expected, found=f"'{text}'", hint="Copy both names from the model's page.")
    return Reference(match["repo"], match["revision"] or "main", match["file"])


def fetch(text: str, expected: Mapping[str, str] | None = None) -> Path:
    """The file or diffusers folder that `text` names, downloaded if it is not in the cache.

    It is compared with `expected`, the SHA-256 of files by their names in the folder, or that of the single file. One that differs
    replaces nothing: in the cache, each content has its own name.

    From a folder, it downloads only the files that loading needs: configs, vocabularies, and each part's safetensors, in half
    precision if that is published. Raises CheckpointError if there is nothing at the
    address, if the network fails, and if a file has another hash than the hub or `expected` says.
    """
    reference = parse(text)
    fetched = _find_in_cache(reference) or _download(reference)
    if (other := first_other(fetched, expected or {})) is not None:
        name, wanted, found = other
        raise CheckpointError(
            str(reference),
            expected=f"{name!r} with the SHA-256 {wanted[:12]}..., as the lock file says",
            found=f"{found[:12]}...",
            hint="The model on the hub has changed. Name the revision that was locked (hf://org/name@REVISION), or lock again.",
        )
    return fetched


def find_fetched(text: str) -> Path | None:
    """The file or diffusers folder that `text` names, if it was downloaded before. Never uses the network.

    With HF_HUB_OFFLINE, this may be a folder that another program downloaded. Raises CheckpointError if `text` is no address, and
    if files of such a folder are missing.
    """
    reference = parse(text)
    found = _find_in_cache(reference)
    if found is None and _is_offline():
        found = _folder_of_another_program(reference)
        if found is not None and _missing_files(reference):
            raise _unreachable(reference, *FORBIDDEN)
    return found


def describe_fetch(text: str) -> str:
    """What `fetch` would download, from where and to where. Raises CheckpointError if `text` is no address."""
    reference = parse(text)
    if reference.file is not None and Path(reference.file).suffix:
        files = "this file"
    else:
        files = "its configs and weights (.safetensors, in half precision if that is published)"
    forbidden = ", which HF_HUB_OFFLINE forbids now" if _is_offline() else ""
    return f"{files}, from {_endpoint()} to {_cache_folder()}{forbidden}"


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")


def _find_in_cache(reference: Reference) -> Path | None:
    """The path in the hub's cache; None if it is not there completely."""
    snapshot = _snapshot(reference)
    if reference.file is not None and (snapshot / reference.file).is_file():
        return snapshot / reference.file
    folder = snapshot / (reference.file or "")
    try:
        model = folder / (folder / _COMPLETE).read_text(encoding="utf-8")
    except OSError:
        return None
    return model if model.exists() else None


def _snapshot(reference: Reference) -> Path:
    """The folder in the hub's cache for the files of a revision, which may not exist yet."""
    folder = _cache_folder() / f"models--{reference.repo.replace('/', '--')}"
    try:
        commit = (folder / "refs" / reference.revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = reference.revision  # a commit is its own reference
    return folder / "snapshots" / commit


def _cache_folder() -> Path:
    """The folder where huggingface_hub keeps its downloads, by its documented environment variables."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _download(reference: Reference) -> Path:
    """The path of the downloaded files or, without a connection, of a folder that another program downloaded to the cache.

    Raises CheckpointError if the hub refuses the request, or if it cannot be reached and the cache has no such folder.
    """
    try:
        return _request(reference)
    except CheckpointError:
        raise
    except Exception as error:  # which errors the network causes depends on the hub library's version
        refusal = _refusal(reference, error)
        if refusal is not None:
            raise refusal from error
        folder = _folder_of_another_program(reference)
        if folder is not None and not _missing_files(reference):
            return folder
        raise _unreachable(reference, *describe_error(error, _endpoint())) from error


def _unreachable(reference: Reference, found: str, hint: str) -> CheckpointError:
    """The error for a hub that does not answer; it says what is missing if a download broke off."""
    missing = _missing_files(reference) if _folder_of_another_program(reference) is not None else []
    if missing:
        listed = ", ".join(missing[:6]) + (", ..." if len(missing) > 6 else "")
        found = f"{found}, and in the cache a model without {listed}"
    return CheckpointError(str(reference), expected="a download from the hub", found=found, hint=hint)


def _missing_files(reference: Reference) -> list[str]:
    return missing_files(_snapshot(reference), reference.file or "")


def _folder_of_another_program(reference: Reference) -> Path | None:
    """A model's folder in the hub's cache, which may be incomplete; None if there is none."""
    folder = _snapshot(reference) / (reference.file or "")
    return folder if any((folder / name).is_file() for name in ("model_index.json", "config.json")) else None


def _request(reference: Reference) -> Path:
    if not _is_offline():
        require_answer(_endpoint(), f"/api/models/{reference.repo}")
    with without_retry_messages(), with_few_retries():
        return _fetch_files(reference)


def _fetch_files(reference: Reference) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    repo, revision = reference.repo, reference.revision
    if reference.file is not None and Path(reference.file).suffix:
        _download_weights(reference, [reference.file])
        file = Path(hf_hub_download(repo, reference.file, revision=revision))
        _require_whole(reference, [file])
        return file
    names = HfApi().list_repo_files(repo, revision=revision)
    if wanted := _files_to_load(names, reference.file or ""):
        _download_weights(reference, wanted)
        snapshot = Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
        model = folder = snapshot / (reference.file or "")
        files = [snapshot / name for name in wanted]
    elif reference.file is not None:
        hint = "Copy its name from the list of the model's files."
        raise CheckpointError(str(reference), expected=f"a part of a model in '{reference.file}'", found="none", hint=hint)
    else:
        only = _only_model(reference, names)
        _download_weights(reference, [only])
        model = Path(hf_hub_download(repo, only, revision=revision))
        folder, files = model.parent, [model]
    _require_whole(reference, files)
    (folder / _COMPLETE).write_text(model.relative_to(folder).as_posix(), encoding="utf-8")
    return model


def _download_weights(reference: Reference, names: Iterable[str]) -> None:
    """Download those of the files that hold weights so that a later run can continue. What is left the hub's library downloads."""
    for name in names:
        if not _is_config(name):
            download_resumably(reference.repo, name, revision=reference.revision, cache=_cache_folder(), endpoint=_endpoint())


def _require_whole(reference: Reference, files: Iterable[Path]) -> None:
    """Raise CheckpointError if a downloaded file has another hash than the hub says; such files are removed."""
    if damaged := remove_damaged(files):
        raise CheckpointError(
            str(reference),
            expected=f"{damaged[0].name!r} with the hash that the hub gives for it",
            found=f"another content{f', and {len(damaged) - 1} more damaged files' if len(damaged) > 1 else ''}",
            hint="The download was damaged, and what was wrong is removed. Run again to download it again.",
        )


def _refusal(reference: Reference, error: Exception) -> CheckpointError | None:
    """The error for a refusal of the hub; None if it did not answer."""
    from huggingface_hub import errors

    refusals = (  # gated ones are RepositoryNotFoundErrors, too
        (
            errors.GatedRepoError,
            "a model that you may read",
            "one whose terms must be accepted first",
            f"Accept them on its page, then {LOG_IN}.",
        ),
        (errors.RevisionNotFoundError, f"a revision '{reference.revision}'", "none", "Leave it out, or copy it from its page."),
        (errors.RepositoryNotFoundError, "a model on the hub", "none", f"Copy its name from its page; if it is private, {LOG_IN}."),
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
    """The only model file in the repository's root. Raises CheckpointError if there is none, or several."""
    files = sorted(name for name in names if "/" not in name and name.endswith(".safetensors"))
    if len(files) == 1:
        return files[0]
    found = "neither" if not files else f"{len(files)} files: {', '.join(files[:6])}{', ...' if len(files) > 6 else ''}"
    hint = f"Name one: {reference}/{files[0]}" if files else "Models of other kinds, and pickles, are not fetched."
    raise CheckpointError(str(reference), expected="a diffusers folder or one .safetensors file", found=found, hint=hint)


def _files_to_load(names: Collection[str], part: str = "") -> list[str]:
    """The files in a repository that loading a model in diffusers' layout needs, or one `part` of it; none in other repositories.

    For a part, these include the configs and vocabularies of its model: they say what it was trained for. A repository may
    consist of only one part.
    """
    if "model_index.json" in names:
        inside = [name for name in names if name == "model_index.json" or name.split("/")[0] in PARTS]
        needed = _one_variant(inside)
        return [name for name in needed if name.startswith(part) or _is_config(name)] if part in ("", *PARTS) else []
    folder = f"{part}/" if part else ""
    if not part and set(names) >= _PEFT:
        return sorted(_PEFT)
    if f"{folder}config.json" not in names:
        return []
    in_folder = (name for name in names if name.rpartition("/")[0] == part)
    return _one_variant(name for name in in_folder if name.removeprefix(folder).startswith(_WEIGHT_NAMES) or _is_config(name))


def _one_variant(names: Iterable[str]) -> list[str]:
    """The files to load from folders in diffusers' layout: from each folder, one variant of the weights."""
    inside = list(names)
    weights = {name: match for name in inside if (match := re.fullmatch(_WEIGHTS, name))}
    weights = {name: match for name, match in weights.items() if not match["stem"].endswith(("flax_model", "openvino_model"))}
    variants = {name: match["variant"] or "" for name, match in weights.items()}
    indices = {name: match["before"] or match["after"] or "" for name in inside if (match := re.fullmatch(_INDEX, name))}
    best: dict[str, str] = {}
    for name, variant in variants.items():
        folder = name.rpartition("/")[0]
        best[folder] = min(best.get(folder, variant), variant, key=_PREFERRED.index)
    chosen = [name for name, variant in (variants | indices).items() if variant == best.get(name.rpartition("/")[0])]
    return sorted([*filter(_is_config, inside), *chosen])


def _is_config(name: str) -> bool:
    return name.endswith((".json", ".txt")) and ".index." not in name
