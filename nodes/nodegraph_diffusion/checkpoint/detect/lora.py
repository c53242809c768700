"""LoRA files and other adapters: headers show what they change, and the trainer's config by how much.

Every tensor is used, or is listed as unused, or the file is refused.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_contents, file_refusal, folder_contents
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.families import Part
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.tensor_info import FLOATS, TensorInfo
from nodegraph_diffusion.checkpoint.layouts.adapter_kinds import NAMES, NUMBERS, factor_shapes, is_change, kind_of
from nodegraph_diffusion.checkpoint.layouts.adapter_shapes import fit_each_other, listed
from nodegraph_diffusion.checkpoint.layouts.lora import (
    LoraName,
    bundled_embedding,
    is_adapter_name,
    is_foreign,
    is_known_prefix,
    parse_name,
)
from nodegraph_diffusion.checkpoint.layouts.peft_config import Config, ModuleOptions, module_options, parse_config

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
WEIGHTS = (PEFT_WEIGHTS, "pytorch_lora_weights.safetensors")  # PEFT's and diffusers' names for them in a folder
OTHER_FAMILY = "It was made for another family of models; give the family's own."

_METADATA = "lora_adapter_metadata"  # where diffusers puts PEFT's config, in the header
_MAX_CONFIG_BYTES = 10_000_000
_DAMAGED = "The file is damaged, or of an unknown kind."

Roles = Mapping[str, str]
Changes = dict[Part, dict[str, dict[str, str]]]


@dataclass(frozen=True)
class Unused:
    """Tensors of an adapter that change nothing, and why."""

    reason: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """The changes in an adapter's file: for each part of a model and each module, the names of its tensors by their roles.

    `options` are, by part and module, what the trainer's config says. `numbers` are those of the tensors that hold one, such as
    alphas. `embeddings` are vectors for words of prompts: by word, the names of their tensors by those that they have in a file of
    one word. `files` are all files that affect the result, in a fixed order.
    """

    path: Path
    weights: Path
    changes: Mapping[Part, Mapping[str, Roles]]
    options: Mapping[tuple[Part, str], ModuleOptions]
    numbers: Mapping[str, float]
    embeddings: Mapping[str, Mapping[str, str]]
    unused: tuple[Unused, ...]
    tensors: Mapping[str, TensorInfo]
    files: tuple[Path, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not used, whatever the model is."""
        return tuple(self.describe_unused(part) for part in self.unused)

    def shapes_of_word(self, word: str) -> dict[str, tuple[int, ...]]:
        """The shapes of the vectors for a word, by the names of their tensors."""
        return {key: self.tensors[key].shape for key in self.embeddings[word].values()}

    def describe_unused(self, unused: Unused) -> str:
        """One sentence about tensors that are not used."""
        return f"{len(unused.names)} of {len(self.tensors)} tensors are not used: {unused.reason} ({_example(unused.names)})"


def folder_lora(folder: Path, headers: HeaderCache) -> LoraFile:
    """The adapter in a folder that PEFT or diffusers wrote. Raises CheckpointError for other folders."""
    name = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if name is None:
        found = folder_contents(folder)
        raise CheckpointError(
            folder,
            expected=f"{' or '.join(WEIGHTS)} in the folder",
            found=found.name or "neither",
            hint="Give the file, or the folder that PEFT or diffusers wrote.",
            holds=found.content,
        )
    header = headers.read(folder / name)
    return file_lora(header, file_contents(header.tensors), folder)


def file_lora(header: Header, contents: Contents, folder: Path | None = None) -> LoraFile:
    """The adapter in a file, which is in a `folder` of PEFT or diffusers or separate. Raises CheckpointError for other files."""
    path, tensors = folder or header.path, header.tensors
    names = {key: name for key in tensors if (name := parse_name(key)) is not None}
    bundled = {key: word for key in tensors if (word := bundled_embedding(key)) is not None}
    rest = [key for key in tensors if key not in names and key not in bundled]
    unknown_kinds = [key for key in rest if is_adapter_name(key)]
    understood = len(names) + len(bundled) + len(unknown_kinds)
    if not understood or understood < len(tensors) - len(tensors) // 2:
        raise file_refusal("lora", path, tensors, found=contents, hint="Give a file of one of these.")
    unknown_kinds = [key for key in rest if is_known_prefix(key)]
    if unknown_kinds:
        raise CheckpointError(
            path,
            expected=f"a kind of adapter that is supported: {NAMES}",
            found=f"{_counted(unknown_kinds)} of another kind ({_example(unknown_kinds)})",
            hint="Convert the adapter to a LoRA with the program that trained it, or give another.",
        )
    changes, unused = _changes(path, tensors, names)
    if rest:
        unused.append(Unused("their names are unknown", tuple(rest)))
    _require_changes(path, names, changes=changes, bundled=bundled, unused=unused)
    config, files = _peft_config(header)
    known = {(name.part, name.module): name for name in names.values() if name.part is not None}
    try:
        options = {
            (part, module): module_options(config, known[part, module]) for part, modules in changes.items() for module in modules
        }
    except (TypeError, ValueError, AttributeError, OverflowError, re.error) as error:
        raise _config_error(path, str(error)) from error
    return LoraFile(
        path=path,
        weights=header.path,
        changes=changes,
        options=options,
        numbers=_numbers(path, header, changes),
        embeddings=_embeddings(path, tensors, bundled),
        unused=tuple(unused),
        tensors=tensors,
        files=files,
    )


def _changes(path: Path, tensors: Mapping[str, TensorInfo], names: Mapping[str, LoraName]) -> tuple[Changes, list[Unused]]:
    """The changes that the tensors of known kinds make together, and the tensors that change nothing.

    Raises CheckpointError if a factor is missing, occurs twice, or cannot be read.
    """
    grouped: dict[tuple[Part, str], dict[str, str]] = {}
    unused: dict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        if name.part is None:
            unused["they belong to another family" if is_foreign(name.written) else "their names are unknown"].append(key)
            continue
        roles = grouped.setdefault((name.part, name.module), {})
        if name.role in roles and name.role.startswith("set_"):  # PEFT may write a whole module's bias twice
            unused["they occur twice, and the other one is used"].append(key)
            continue
        if name.role in roles:
            expected = f"one tensor for each factor of {name.written!r}"
            raise CheckpointError(path, expected=expected, found=f"{roles[name.role]!r} and {key!r}", hint=_DAMAGED)
        roles[name.role] = key
    changes: Changes = {}
    for (part, module), roles in grouped.items():
        if not is_change(roles):
            unused["they are alphas and scales without a change"].extend(roles.values())
        elif any(0 in tensors[key].shape for key in roles.values()):
            unused["their rank is 0"].extend(roles.values())
        else:
            _check_module(path, tensors, roles)
            changes.setdefault(part, {})[module] = roles
    return changes, [Unused(reason, tuple(keys)) for reason, keys in unused.items()]


def _check_module(path: Path, tensors: Mapping[str, TensorInfo], roles: Roles) -> None:
    """Raise CheckpointError unless the tensors of a module are a change of one kind, of floats, with single numbers as scales.

    Their factors must fit each other; whether they fit a weight is known when there is one.
    """
    try:
        kind = kind_of(roles)
    except ValueError as error:
        first = next(iter(roles.values()))
        raise CheckpointError(
            path, expected=f"a whole change at {first!r}", found=f"a broken one: {error}", hint=_DAMAGED
        ) from error
    for role, key in roles.items():
        info = tensors[key]
        if role in NUMBERS:
            if info.size != 1:
                expected, found = f"one number as {key!r}", f"a tensor of shape {list(info.shape)}"
                raise CheckpointError(path, expected=expected, found=found, hint=_DAMAGED)
        elif info.dtype not in FLOATS:
            hint = "Give the adapter as its trainer saved it; this copy was converted."
            raise CheckpointError(path, expected=f"{key!r} in {', '.join(FLOATS)}", found=info.dtype, hint=hint)
    shapes = factor_shapes(roles, tensors)
    if kind is not None and not fit_each_other(shapes):
        expected = f"factors that fit each other at {next(iter(roles.values()))!r}"
        raise CheckpointError(path, expected=expected, found=listed(shapes), hint=_DAMAGED)


def _numbers(path: Path, header: Header, changes: Changes) -> dict[str, float]:
    """The numbers beside the factors of the changes. Raises CheckpointError unless they are finite."""
    modules = (roles for part in changes.values() for roles in part.values())
    numbers = header.read_numbers(roles[role] for roles in modules for role in NUMBERS if role in roles)
    if wrong := [key for key, number in numbers.items() if not math.isfinite(number)]:
        expected, found = f"a finite number as {wrong[0]!r}", f"{numbers[wrong[0]]}"
        found += f", and {len(wrong) - 1} more that are not" if len(wrong) > 1 else ""
        raise CheckpointError(path, expected=expected, found=found, hint="The file is damaged; download or copy it again.")
    return numbers


def _require_changes(
    path: Path,
    names: Mapping[str, LoraName],
    *,
    changes: Changes,
    bundled: Collection[str],
    unused: Collection[Unused],
) -> None:
    """Raise CheckpointError if the file changes nothing at all."""
    if changes or bundled:
        return
    reasons = ", ".join(f"{_counted(part.names)} without effect: {part.reason} ({_example(part.names)})" for part in unused)
    foreign = any(name.part is None and is_foreign(name.written) for name in names.values())
    hint = OTHER_FAMILY if foreign else "Give an adapter for Stable Diffusion, with names as its trainer wrote them."
    raise CheckpointError(path, expected="changes of a Stable Diffusion model", found=reasons, hint=hint)


def _counted(names: Collection[str]) -> str:
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'}"


def _example(names: Sequence[str]) -> str:
    return f"{names[0]}{', ...' if len(names) > 1 else ''}"


def _embeddings(path: Path, tensors: Mapping[str, TensorInfo], bundled: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    """The bundled embeddings by word. Raises CheckpointError unless they are vectors."""
    embeddings: dict[str, dict[str, str]] = {}
    for key, (word, name) in bundled.items():
        info = tensors[key]
        if len(info.shape) not in (1, 2) or 0 in info.shape:
            expected = f"vectors for the prompt's word {word!r} as {key!r}"
            raise CheckpointError(path, expected=expected, found=f"a tensor of shape {list(info.shape)}", hint=_DAMAGED)
        if info.dtype not in FLOATS:
            raise CheckpointError(path, expected=f"{key!r} in {', '.join(FLOATS)}", found=info.dtype, hint=_DAMAGED)
        embeddings.setdefault(re.sub(r"[\s,:()]+", "_", word), {})[name] = key
    return embeddings


def _peft_config(header: Header) -> tuple[Config, tuple[Path, ...]]:
    """PEFT's config, from the file beside the weights or from their header, and the files that it and the weights are in."""
    config_file = header.path.with_name(PEFT_CONFIG)
    if header.path.name == PEFT_WEIGHTS and config_file.is_file():
        with config_file.open("rb") as stream:
            return _parse_config(config_file, stream.read(_MAX_CONFIG_BYTES)), (header.path, config_file)
    text = header.metadata.get(_METADATA)
    return {} if text is None else _parse_config(header.path, text), (header.path,)


def _parse_config(path: Path, text: str | bytes) -> Config:
    try:
        return parse_config(text)
    except (TypeError, ValueError) as error:
        raise _config_error(path, str(error)) from error


def _config_error(path: Path, found: str) -> CheckpointError:
    hint = "Only LoRA, LoHa, LoKr, OFT, BOFT and IA3 as PEFT saves them are supported; if the file is damaged, download it again."
    return CheckpointError(path, expected="a config of PEFT", found=found, hint=hint)
