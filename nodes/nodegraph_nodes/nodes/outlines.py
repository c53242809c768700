"""What is known about models before a node runs: the parts that the headers of their files describe.

`UNetPart`, `VAEPart`, `TextEncoders` and `ControlNetFile` stand for the UNet, VAE, text encoders and ControlNet that a run makes
of them. So adapters are checked against the model that they are for before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def passes(**inputs: str) -> Callable[..., Mapping[str, Any]]:
    """The outline of a node whose outputs are what is known about some of its inputs, by the name of the output."""

    def outline(**known: Any) -> Mapping[str, Any]:
        return {output: known[input] for output, input in inputs.items() if input in known}

    return outline


def mistakes(check: Callable[[], object], about: str = "") -> list[str]:
    """The message of the ValueError that `check()` raises, behind `about`; nothing if it raises none."""
    try:
        check()
    except ValueError as error:
        return [f"{about}{error}"]
    return []
