"""Locks workflows, verifies them, and compares workflows, runs and outputs."""
