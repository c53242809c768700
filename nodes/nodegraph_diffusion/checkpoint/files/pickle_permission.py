"""Whether pickles may be opened. Only the person who starts the program decides it; no file that it reads can."""

from __future__ import annotations

import os

from nodegraph_diffusion.checkpoint.errors import CheckpointError

PICKLES_VARIABLE = "NODEGRAPH_ALLOW_PICKLES"

_ANSWERS = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}


def pickles_allowed() -> bool:
    """Whether the environment allows pickles; by default it does not. Raises CheckpointError if the value is neither yes nor no."""
    value = os.environ.get(PICKLES_VARIABLE, "")
    allowed = _ANSWERS.get(value.strip().lower())
    if allowed is None:
        hint = f"Set {PICKLES_VARIABLE}=1 to allow pickles, or unset it."
        raise CheckpointError(PICKLES_VARIABLE, expected="1 or 0", found=repr(value), hint=hint)
    return allowed
