"""Whether pickles may be opened: the word of whoever starts the program, which no file that it reads can say."""

from __future__ import annotations

import os

from nodegraph_diffusion.checkpoint.errors import CheckpointError

PICKLES_VARIABLE = "NODEGRAPH_ALLOW_PICKLES"

_ANSWERS = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}


def pickles_allowed() -> bool:
    """What the environment says; nothing is no. Raises CheckpointError where it is neither yes nor no."""
    said = os.environ.get(PICKLES_VARIABLE, "")
    allowed = _ANSWERS.get(said.strip().lower())
    if allowed is None:
        hint = f"Set {PICKLES_VARIABLE}=1 to allow pickles, or leave it away."
        raise CheckpointError(PICKLES_VARIABLE, expected="1 or 0", found=repr(said), hint=hint)
    return allowed
