"""Reads the two formats of ComfyUI graphs into one small model."""
