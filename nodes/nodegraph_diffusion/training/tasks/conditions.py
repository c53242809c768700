"""What a denoiser is conditioned on: labels, a text, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.config import LABEL_WIDTH


class Condition(nn.Module):
    """Makes the denoiser's context. This one is for a denoiser without a condition, whose context of zeros says nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, values: Tensor, dropped: Tensor) -> Tensor:
        """Conditions (B, ...), and for which of them (B,) bool the denoiser receives none -> context (B, L, width)."""
        return torch.zeros(len(values), 1, self.width, device=values.device)

    def inputs(self, values: Tensor, dropped: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The context, and the vector conditioning (B, added_dim) of a UNet that has one.

        That is `added`, unless the condition is a part of it.
        """
        return self(values, dropped), added


class LabelCondition(Condition):
    """Labels for a UNet that makes its own tokens of these. `unsaid` is the number of the class "nothing is said" in its config."""

    def __init__(self, unsaid: int) -> None:
        super().__init__(LABEL_WIDTH)
        self.register_buffer("unsaid", torch.tensor([float(unsaid), 0.0, 0.0, 1.0, 1.0]), persistent=False)
        self.unsaid: Tensor

    def forward(self, values: Tensor, dropped: Tensor) -> Tensor:
        """(B, N, LABEL_WIDTH) -> (B, N, LABEL_WIDTH)."""
        return torch.where(dropped[:, None, None], self.unsaid, values)


class TextCondition(Condition):
    """A text encoder; `empty` (L,) are the tokens of the empty text. The encoder is trained, too, if it requires gradients."""

    def __init__(self, encoder: CLIPTextModel, empty: Tensor) -> None:
        super().__init__(encoder.config.width)
        self.encoder = encoder
        self.register_buffer("empty", empty, persistent=False)
        self.empty: Tensor

    def forward(self, values: Tensor, dropped: Tensor) -> Tensor:
        """Tokens (B, L) int64 -> (B, L, width)."""
        encoded: Tensor = self.encoder(torch.where(dropped[:, None], self.empty, values))
        return encoded


class EncodedCondition(Condition):
    """Contexts that were encoded beforehand; `empty` (L, width) is that of the empty text."""

    def __init__(self, empty: Tensor) -> None:
        super().__init__(empty.shape[-1])
        self.register_buffer("empty", empty, persistent=False)
        self.empty: Tensor

    def forward(self, values: Tensor, dropped: Tensor) -> Tensor:
        """Contexts (B, L, width) -> (B, L, width)."""
        return torch.where(dropped[:, None, None], self.empty, values)


class PairedTextCondition(Condition):
    """Both text encoders of Stable Diffusion XL, whose vector conditioning begins with the pooled text of the second.

    `empty` (2, L) are the tokens of the empty text for each. They are trained, too, if they require gradients.
    """

    def __init__(self, encoders: Sequence[CLIPTextModel], empty: Tensor) -> None:
        super().__init__(sum(encoder.config.width for encoder in encoders))
        self.encoders = nn.ModuleList(encoders)
        self.register_buffer("empty", empty, persistent=False)
        self.empty: Tensor

    def forward(self, values: Tensor, dropped: Tensor) -> Tensor:
        """Tokens (B, 2, L) int64 -> (B, L, width)."""
        return self.inputs(values, dropped, None)[0]

    def inputs(self, values: Tensor, dropped: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The context, and `added` with the pooled text at its beginning."""
        tokens = torch.where(dropped[:, None, None], self.empty, values)
        read = [self.encode(index, tokens[:, index]) for index in range(len(self.encoders))]
        pooled = read[-1][1]
        if added is not None and pooled is not None:
            added = torch.cat([pooled.to(added), added[:, pooled.shape[1] :]], dim=1)
        return torch.cat([hidden for hidden, _ in read], dim=-1), added

    def encode(self, index: int, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """What one of the encoders makes of tokens (B, L)."""
        encoder = self.encoders[index]
        assert isinstance(encoder, CLIPTextModel)
        return encoder.encode(tokens)
