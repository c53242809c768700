"""Applying small files that change a model."""
