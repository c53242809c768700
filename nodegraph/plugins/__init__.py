"""Plugins: how they are found, what they may offer, and the registries that hold it."""
