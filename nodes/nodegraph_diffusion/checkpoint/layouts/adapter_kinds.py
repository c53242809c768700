"""The kinds of adapters: the tensors that each one needs, and those that it may have besides, by their roles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from nodegraph_diffusion.checkpoint.files.tensor_info import TensorInfo

NUMBERS = ("alpha", "scalar", "on_input")
"""Roles of tensors that hold one number."""

OF_BIAS = ("bias", "up_bias", "set_bias")
"""Roles of tensors that change a module's bias."""

NAMES = "LoRA, LoHa, LoKr, DoRA, GLoRA, OFT, BOFT, IA3, differences and whole weights"
"""The kinds in words, for messages."""

_SCALES = {"alpha", "scalar", "on_input", "dora_scale", "magnitude", "rescale"}  # they change nothing without factors
_ADDED = {"alpha", "scalar", "dora_scale", "magnitude"}


class AdapterKind(NamedTuple):
    """A kind of change of a weight: one of each of the groups in `needs` is there as a whole, and any of `options`."""

    name: str
    needs: tuple[tuple[tuple[str, ...], ...], ...]
    options: frozenset[str]

    def roles(self) -> set[str]:
        """The roles that only a change of this kind has."""
        return {role for alternatives in self.needs for roles in alternatives for role in roles}


def _kind(name: str, *needs: str, options: Collection[str] = ()) -> AdapterKind:
    """A kind from the names of its tensors. Each of `needs` has them separated by spaces, with `|` between alternatives."""
    groups = tuple(tuple(tuple(roles.split()) for roles in group.split("|")) for group in needs)
    return AdapterKind(name, groups, frozenset(options))


KINDS = (
    _kind("LoRA", "up down", options={*_ADDED, "mid", "up_bias"}),
    _kind("LoRA of an embedding", "embedding_up embedding_down", options=_ADDED),
    _kind("LoHa", "hada_w1_a hada_w1_b hada_w2_a hada_w2_b", options={*_ADDED, "hada_t1", "hada_t2"}),
    _kind("LoKr", "lokr_w1|lokr_w1_a lokr_w1_b", "lokr_w2|lokr_w2_a lokr_w2_b", options={*_ADDED, "lokr_t2"}),
    _kind("GLoRA", "a1 a2 b1 b2", options={*_ADDED, "bm"}),
    _kind("difference", "diff", options=_ADDED),
    _kind("OFT or BOFT", "oft_blocks", options={"alpha", "rescale"}),
    _kind("OFT of PEFT", "oft_r"),
    _kind("BOFT of PEFT", "boft_r boft_s"),
    _kind("IA3", "ia3_weight on_input"),
    _kind("IA3 of PEFT", "ia3_l"),
    _kind("whole weight", "set_weight"),
)


def kind_of(roles: Collection[str]) -> AdapterKind | None:
    """The kind of change of a weight that tensors of these roles make together; None if they change no weight.

    Raises ValueError if a factor is missing, or if there is one too many.
    """
    kinds = [kind for kind in KINDS if not kind.roles().isdisjoint(roles)]
    if "ia3_weight" not in roles:
        kinds = [kind for kind in kinds if kind.name != "IA3"]  # a lone `on_input` is no change
    if len(kinds) > 1:
        raise ValueError(f"expected one kind of change, found {' and '.join(kind.name for kind in kinds)}")
    if not kinds:
        if parts := sorted(set(roles) - {"bias", "set_bias", "alpha"}):
            raise ValueError(f"expected the factors of a change beside {', '.join(parts)}, found none")
        return None
    (kind,) = kinds
    present = ", ".join(sorted(roles))
    for alternatives in kind.needs:
        if not any(set(group) <= set(roles) for group in alternatives):
            missing = min(([role for role in group if role not in roles] for group in alternatives), key=len)
            raise ValueError(f"expected a factor {missing[0]!r} of {kind.name} beside {present}, found none")
    extra = sorted(set(roles) - kind.roles() - kind.options - {"bias", "set_bias"})
    if extra:
        raise ValueError(f"expected the factors of {kind.name}, found {extra[0]!r} beside {present}")
    return kind


def is_change(roles: Collection[str]) -> bool:
    """Whether tensors of these roles change anything: an alpha or a scale alone does not."""
    return not set(roles) <= _SCALES


def factor_shapes(roles: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """The shapes of the factors that change a weight, by their roles. `roles` has the name of each tensor by its role."""
    return {role: tensors[key].shape for role, key in roles.items() if role not in (*NUMBERS, *OF_BIAS)}
