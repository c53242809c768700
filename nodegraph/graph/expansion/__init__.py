"""Writes out what stands for other nodes: sub-workflows, `each`, `repeat` and `Switch`."""
