"""How trained weights are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodegraph_nodes.codecs import SafetensorsCodec
from nodegraph_nodes.types import Trained

if TYPE_CHECKING:
    from torch import Tensor


class TrainedCodec(SafetensorsCodec):
    """Stores trained weights: tensors of any shape and dtype by their names."""

    def __init__(self, kind: type[Trained]) -> None:
        super().__init__()
        self.kind, self.name = kind, kind.__name__.lower()

    def tensors(self, value: Trained) -> dict[str, Tensor]:
        return dict(value.tensors)

    def plain_fields(self, value: Trained) -> dict[str, Any]:
        return {"names": list(value.tensors), "settings": dict(value.settings)}

    def rebuild(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Trained:
        return self.kind({name: tensors[name] for name in fields["names"]}, fields["settings"])

    def check(self, value: Trained) -> str | None:
        for name, tensor in value.tensors.items():
            if not bool(tensor.isfinite().all()):
                return f"the weights '{name}' have numbers that are NaN or infinite; train with a smaller learning_rate"
        return None
