"""Sweeps: one workflow with many values, and what came of each."""
