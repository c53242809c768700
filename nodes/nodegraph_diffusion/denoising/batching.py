"""Several denoisers of one latent, asked together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from nodegraph_diffusion.denoising.unet_denoiser import PromptedUNet, UNetDenoiser
from nodegraph_diffusion.networks.attention import AttentionHook

if TYPE_CHECKING:
    from nodegraph_diffusion.guidance.classifier_free import Denoiser


class Sides:
    """What guidance looks at a latent from: denoisers, of which those of one UNet share batches.

    They do where they see the same besides their prompts; then areas of one side get opposites on the others, too. Raises
    ValueError where the denoisers know different noise levels.
    """

    def __init__(self, *denoisers: Denoiser) -> None:
        self.schedule = denoisers[0].schedule
        for denoiser in denoisers:
            if denoiser.schedule != self.schedule:
                raise ValueError(
                    f"guidance: expected denoisers that know the same noise levels, found {self.schedule} and "
                    f"{denoiser.schedule}; make them from one model"
                )
        self._groups: list[tuple[PromptedUNet | Denoiser, list[int]]] = []
        for k, denoiser in enumerate(denoisers):
            self._join(k, denoiser.network if isinstance(denoiser, UNetDenoiser) else denoiser)

    def __call__(self, x: Tensor, sigma: float | Tensor, *asked: int) -> list[Tensor]:
        """What the sides that are `asked` see in x (B, C, h, w), in that order; all of them where none is named."""
        seen: dict[int, Tensor] = {}
        for denoiser, members in self._groups:
            wanted = [k for k in members if k in asked or not asked]
            if not wanted:
                continue
            if isinstance(denoiser, PromptedUNet):
                seen |= zip(wanted, denoiser(x, sigma, [members.index(k) for k in wanted]), strict=True)
            else:
                seen[wanted[0]] = denoiser(x, sigma)
        return [seen[k] for k in asked or sorted(seen)]

    def alone(self, which: int, x: Tensor, sigma: float | Tensor, attention: AttentionHook | None = None) -> Tensor:
        """What one side sees, its network's self-attentions replaced by `attention`. Raises ValueError where it has no network."""
        denoiser, members = next(group for group in self._groups if which in group[1])
        if isinstance(denoiser, PromptedUNet):
            return denoiser(x, sigma, [members.index(which)], attention)[0]
        if attention is not None:
            raise ValueError(
                f"guidance: expected a network whose attention can be changed, found {type(denoiser).__name__}; leave out guidance "
                "that looks at attention, or guide a UNet"
            )
        return denoiser(x, sigma)

    def _join(self, k: int, denoiser: PromptedUNet | Denoiser) -> None:
        for i, (other, members) in enumerate(self._groups):
            if isinstance(denoiser, PromptedUNet) and isinstance(other, PromptedUNet) and (both := other.beside(denoiser)):
                self._groups[i] = both, [*members, k]
                return
        self._groups.append((denoiser, [k]))
