"""How many threads compute a network on a processor with few cores, which other programs use, too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.unet import UNet

THREADS_PER_CORE: Final = 2
"""Threads for each core while a large UNet computes.

The system gives every thread that can run the same share. Beside one endless loop on two cores, two threads get two thirds of the
processor and four get four fifths. With nothing beside them, four threads are as fast as two. See benchmarks/README.md.
"""

MOST_CORES: Final = 4
"""On more cores, one other program takes little, and there is one thread for each core."""

LARGE_CHANNELS: Final = 256
"""UNets with at least as many channels in their first block are large. Threads of smaller ones mostly wait for each other."""

_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEFAULT: Final = torch.get_num_threads()


@contextlib.contextmanager
def more_threads(unet: UNet) -> Iterator[None]:
    """Compute with more threads during the block, if `unet` is large and on a CPU with few cores.

    The number stays as it is if the environment or the program has chosen it. It is restored after the block.
    """
    number = torch.get_num_threads()
    if not 2 <= number <= MOST_CORES or number != _DEFAULT or unet.config.model_channels < LARGE_CHANNELS:
        yield
        return
    if next(unet.parameters()).device.type != "cpu" or any(name in os.environ for name in _VARIABLES):
        yield
        return
    torch.set_num_threads(number * THREADS_PER_CORE)
    try:
        yield
    finally:
        torch.set_num_threads(number)
