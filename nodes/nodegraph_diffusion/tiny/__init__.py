"""The embedded model's weights, in diffusers' folder layout; README.md in this folder is their model card."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""The folder that `builtin:tiny` opens."""
