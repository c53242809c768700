"""Writes workflows as ComfyUI graphs."""
