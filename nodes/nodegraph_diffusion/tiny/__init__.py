"""The embedded model's weights, in diffusers' folder layout; README.md beside this file is their model card."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""What `builtin:tiny` opens."""
