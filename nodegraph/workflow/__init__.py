"""Workflows as people write them, in Python and in YAML."""
