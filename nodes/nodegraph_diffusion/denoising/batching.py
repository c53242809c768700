"""Several denoisers of one latent, evaluated together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nodegraph_diffusion.denoising.protocols import Denoiser
from nodegraph_diffusion.denoising.unet_denoiser import ConditionedUNet, UNetDenoiser
from nodegraph_diffusion.networks.attention import AttentionHook


class BatchedDenoisers:
    """The denoisers that a guidance combines. Those of one UNet share batches.

    They share them if all their inputs besides the prompts are the same; then an area of one conditioning also gets an opposite in
    the others (see `regions.arrange`). Raises ValueError if their noise schedules differ.
    """

    def __init__(self, *denoisers: Denoiser) -> None:
        self.noise_schedule = denoisers[0].noise_schedule
        for denoiser in denoisers:
            if denoiser.noise_schedule != self.noise_schedule:
                raise ValueError(
                    f"guidance: expected denoisers with the same noise schedule, found {self.noise_schedule} and "
                    f"{denoiser.noise_schedule}; make them from one model"
                )
        self._groups: list[tuple[ConditionedUNet | Denoiser, list[int]]] = []
        for index, denoiser in enumerate(denoisers):
            self._add(index, denoiser.network if isinstance(denoiser, UNetDenoiser) else denoiser)

    def __call__(self, x: Tensor, sigma: float | Tensor, only: Sequence[int] | None = None) -> list[Tensor]:
        """The estimates of all denoisers for x (B, C, h, w), or of those whose indices are in `only`, in that order."""
        estimates: dict[int, Tensor] = {}
        for denoiser, members in self._groups:
            needed = [index for index in members if only is None or index in only]
            if not needed:
                continue
            if isinstance(denoiser, ConditionedUNet):
                estimates |= zip(needed, denoiser(x, sigma, [members.index(index) for index in needed]), strict=True)
            else:
                estimates[needed[0]] = denoiser(x, sigma)
        return [estimates[index] for index in (sorted(estimates) if only is None else only)]

    def predict_one(self, index: int, x: Tensor, sigma: float | Tensor, attention: AttentionHook | None = None) -> Tensor:
        """The estimate of one denoiser, with the self-attentions of its network replaced by `attention`.

        Raises ValueError for an `attention` if the denoiser is not a UNet's.
        """
        denoiser, members = next(group for group in self._groups if index in group[1])
        if isinstance(denoiser, ConditionedUNet):
            return denoiser(x, sigma, [members.index(index)], attention)[0]
        if attention is not None:
            raise ValueError(
                f"guidance: expected a network whose attention can be changed, found {type(denoiser).__name__}; leave out guidance "
                "that changes attention, or guide a UNet"
            )
        return denoiser(x, sigma)

    def _add(self, index: int, denoiser: ConditionedUNet | Denoiser) -> None:
        """Put a denoiser into the group of its UNet, or into its own."""
        for i, (other, members) in enumerate(self._groups):
            if isinstance(denoiser, ConditionedUNet) and isinstance(other, ConditionedUNet):
                merged = other.merged_with(denoiser)
                if merged is not None:
                    self._groups[i] = merged, [*members, index]
                    return
        self._groups.append((denoiser, [index]))
