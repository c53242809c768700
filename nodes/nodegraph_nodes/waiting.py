"""How the threads of OpenMP, which compute tensors on a CPU, wait for each other."""

from __future__ import annotations

import os
import sys
from typing import Final

SPINS: Final = "1000"
"""How often a thread looks whether there is work before it sleeps: some tens of microseconds. OpenMP's default is 300,000.

Between two operations of a network a short wait is faster than to sleep and wake up. But a thread that waits takes the processor
from the threads that it waits for, once other programs need one, too. benchmarks/README.md has the measurements.
"""

_VARIABLES: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def wait_briefly() -> None:
    """Let threads wait only briefly, unless the environment says how they wait or torch was imported before, which reads it."""
    if "torch" not in sys.modules and not any(name in os.environ for name in _VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = SPINS
