"""Small files that change a model."""
