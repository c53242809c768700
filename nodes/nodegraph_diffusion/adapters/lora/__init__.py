"""LoRA and its kin: small files of changes to a network's weights, in every published form."""

from __future__ import annotations
