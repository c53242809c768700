"""Outputs: what their files are called, and how they are written."""
